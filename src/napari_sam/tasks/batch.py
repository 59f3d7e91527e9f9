"""Segment many objects, each by its own prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError, NapariSamError, PromptError
from napari_sam.exchange.label_writer import LabelWriter
from napari_sam.exchange.named_planes import plane_index
from napari_sam.exchange.object_prompts import ObjectPrompts
from napari_sam.exchange.prompts import read_prompts
from napari_sam.files.paths import shortened
from napari_sam.journal.codec import prompts_json
from napari_sam.journal.discovery import provenance
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.labeled_image import LabeledImage
from napari_sam.options import LabelOptions
from napari_sam.segmenter import Candidates, Segmenter


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result for one object: what was written, or why nothing was.

    Parameters
    ----------
    name
        Name of the object in the journal, the prompt file or the options.
    label, area, box
        Label, number of pixels and bounding box that were written; None, 0 and None where nothing was.
    mask
        Answer of the model, before pixels of other labels were left out; or None.
    prompts
        Prompts that the mask answers, or None for a mask that was taken from the journal.
    iou
        IoU of the mask and the one in the journal, or None.
    error
        Why nothing was written, in one sentence, or None.
    plane
        Where the prompts are, or None where that is not known.
    """

    name: str
    label: int | None = None
    area: int = 0
    box: Box | None = None
    mask: Mask | None = None
    prompts: Prompts | None = None
    iou: float | None = None
    error: str | None = None
    plane: Plane | None = None


def read_objects(file: Path, segmenter: Segmenter) -> list[ObjectPrompts]:
    """Read the prompts of the objects of a segmenter's image from a CSV or GeoJSON file.

    Raises
    ------
    PromptError
        The file cannot be read as prompts, or all of its objects lie outside the image.
    """
    objects = read_prompts(file, segmenter.volume.georeference, _names_of_rows_and_columns(segmenter))
    _check_map(objects, segmenter, file)
    return objects


def segment_all(
    segmenter: Segmenter,
    objects: Sequence[ObjectPrompts],
    plane: Plane | None,
    writer: LabelWriter,
    options: LabelOptions | None = None,
    *,
    keep_numbers: bool = True,
    stop_at_bad_prompts: bool = False,
) -> Iterator[Outcome]:
    """Segment objects one after the other and write their masks; those of one name in several planes are one object.

    An object that fails is left out, with the reason in its outcome. An object that the journal has already, by the
    same prompts, is not written again: a run that was stopped can be started once more.

    Parameters
    ----------
    segmenter
        Image and model.
    objects
        Prompts of each object.
    plane
        Plane of the objects that do not name one; None where the image has a single plane.
    writer
        Writes the masks.
    options
        Which of the three masks to write, and what happens to labels that exist.
    keep_numbers
        Whether the names of the objects become their labels, if all of them are whole numbers.
    stop_at_bad_prompts
        Raise the error of an object that cannot be segmented; only one whose mask finds no free pixel is left out.

    Yields
    ------
    Outcome
        One for each of `objects`, in order.

    Raises
    ------
    PromptError, ImageError, OutputError
        An object cannot be segmented, and `stop_at_bad_prompts` is set.
    """
    options = options or LabelOptions()
    numbered = keep_numbers and all(one.number is not None for one in objects)
    earlier = {} if writer.journal is None else _by_prompts(writer.journal.objects)
    names = _Names()
    for one in objects:
        where = None
        try:
            where = _plane_of(segmenter, one, plane)
            prompts = one.prompts(where.shape_in(segmenter.shape))
            label, part = earlier.get(_key(prompts, where, options.candidate), (None, None))
            if part is not None and label is not None:
                names.note(one.name, where, label)
                yield Outcome(one.name, label, part.area, part.box, part.accepted.mask, prompts, plane=where)
                continue
            mask = segment_prompts(segmenter, prompts, where).named(options.candidate)
            written = writer.write(
                where,
                mask,
                one.number if numbered else names.label(one.name, where),
                options.overlap,
                prompts=prompts,
                made=provenance(segmenter.encoder, mask, options.candidate),
                class_name=one.class_name,
            )
            names.note(one.name, where, written.label)
            yield Outcome(one.name, written.label, written.area, written.box, mask, prompts, plane=where)
        except NapariSamError as error:
            if stop_at_bad_prompts and not isinstance(error, LabelsError):
                raise
            yield Outcome(one.name, error=str(error), plane=where)


class _Names:
    """The labels that the names of objects have got, each with the planes in which it is."""

    def __init__(self) -> None:
        self._labels: dict[str, tuple[int, set[Plane]]] = {}

    def note(self, name: str, plane: Plane, label: int) -> None:
        known, planes = self._labels.setdefault(name, (label, set()))
        if known != label:
            planes = set()
            self._labels[name] = label, planes
        planes.add(plane)

    def label(self, name: str, plane: Plane) -> int | None:
        """Return the label of an object that is in other planes, or None: prompts of one plane are of two objects."""
        label, planes = self._labels.get(name, (None, set()))
        return None if plane in planes else label


def segment_prompts(
    segmenter: Segmenter, prompts: Prompts, plane: Plane, downsample: float | None = None
) -> Candidates:
    """Segment one object by prompts that were checked already; see `Segmenter.segment`."""
    return segmenter.segment(
        points=prompts.points if len(prompts.points) else None,
        labels=prompts.labels if len(prompts.points) else None,
        box=prompts.box,
        mask=prompts.mask,
        plane=plane,
        downsample=downsample,
    )


def named_plane(segmenter: LabeledImage, positions: Mapping[str, int], plane: Plane | None = None) -> Plane:
    """Return the plane of a segmenter's image at positions along named axes.

    Parameters
    ----------
    segmenter
        Its image gives the names of the axes.
    positions
        For each named axis the position along it, counted from 0.
    plane
        A plane that agrees with them and supplies the positions along other axes, or None.

    Raises
    ------
    PromptError
        See `plane_index`.
    """
    shape = segmenter.shape
    like = plane or segmenter.plane([0] * (len(shape) - 2))
    default = None if plane is None else plane.position
    return segmenter.plane(plane_index(positions, segmenter.volume.axis_names, shape, like.axes, default))


def _names_of_rows_and_columns(segmenter: Segmenter) -> tuple[str, str]:
    names = segmenter.volume.axis_names
    if names is None:
        return "y", "x"
    row, col = segmenter.plane([0] * (len(segmenter.shape) - 2)).axes
    return names[row], names[col]


def _check_map(objects: Sequence[ObjectPrompts], segmenter: Segmenter, file: Path) -> None:
    """Refuse prompts on a map that all miss the image: the file is in another reference system and does not say so."""
    place = segmenter.volume.georeference
    if place is None or place.transform is None or file.suffix.lower() == ".csv":
        return
    rows, cols = segmenter.plane([0] * (len(segmenter.shape) - 2)).shape_in(segmenter.shape)
    corners = [corner for one in objects for corner in one.corners]
    if all(not (-0.5 <= row < rows and -0.5 <= col < cols) for row, col in corners):
        raise PromptError(
            f"All {len(objects)} object(s) of {shortened(file)} lie outside the image: export the file in the image's "
            "coordinate reference system."
        )


def _by_prompts(objects: Sequence[LabelledObject]) -> dict[str, tuple[int, Part]]:
    """Return the label and part that each set of prompts led to."""
    found = {}
    for row in objects:
        for part in row.parts:
            if part.prompts is not None:
                candidate = part.made.candidate if part.made else None
                found[_key(part.prompts, part.plane, candidate)] = row.label, part
    return found


def _key(prompts: Prompts, plane: Plane, candidate: str | None) -> str:
    return json.dumps([prompts_json(prompts), plane.axes, plane.index, candidate])


def _plane_of(segmenter: Segmenter, one: ObjectPrompts, plane: Plane | None) -> Plane:
    if one.named_plane:
        try:
            return named_plane(segmenter, dict(one.named_plane), plane)
        except PromptError as error:
            raise PromptError(f"The plane is not understood: {error}.") from error
    if one.plane is None:
        return plane or segmenter.plane()
    where = segmenter.plane(one.plane)
    if plane is not None and where != plane:
        raise PromptError(
            f"It lies in plane {', '.join(map(str, one.plane))} and another one was asked for: leave --plane out."
        )
    return where
