"""Replay: the work of a journal done again by another model, and the work that a prompt file asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap, iou
from napari_sam.core.prompts import Prompts
from napari_sam.errors import NapariSamError, PromptError
from napari_sam.exchange.named_planes import plane_index
from napari_sam.exchange.object_prompts import ObjectPrompts
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.journal.codec import prompts_json
from napari_sam.journal.discovery import provenance
from napari_sam.journal.entries import Entry, Provenance
from napari_sam.journal.journal import Journal
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.labels.targets import LabelTarget
from napari_sam.segmenter import CANDIDATE_NAMES, CandidateName, Candidates, Segmenter


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one object.

    Parameters
    ----------
    name
        What the journal or the prompt file calls it.
    label, area, box
        What was written; None, 0 and None where nothing was.
    mask
        The answer, before other labels were spared; or None.
    prompts
        What it answers, or None for a mask that was taken from the journal.
    iou
        With the mask that the journal recorded, or None.
    error
        Why there is nothing, in one sentence, or None.
    """

    name: str
    label: int | None = None
    area: int = 0
    box: Box | None = None
    mask: Mask | None = None
    prompts: Prompts | None = None
    iou: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Writer:
    """Where accepted masks go: labels, and the journal beside them where one is kept.

    Parameters
    ----------
    target
        The labels: of the whole image, or of one plane.
    journal
        Kept with them, or None.
    is_plane
        Whether the labels are of the one plane that all objects lie in.
    """

    target: LabelTarget
    journal: Journal | None = None
    is_plane: bool = False

    def write(
        self,
        plane: Plane,
        mask: Mask,
        label: int | None,
        overlap: Overlap,
        prompts: Prompts,
        made: Provenance,
        class_name: str | None = None,
    ) -> Outcome:
        """Write a mask; its class is known to the journal only.

        Raises
        ------
        LabelsError, OutputError
            See `LabelStore.write` and `Journal.accept`.
        """
        where = Plane.of(self.target.array.shape) if self.is_plane else plane
        limit = np.iinfo(dtype_of(self.target.array)).max
        if label is not None and limit < label <= np.iinfo(np.uint32).max:
            self.target.widen()
        if self.journal is None:
            edit = self.target.write(where, mask, label, overlap)
            return Outcome("", edit.label, edit.area, edit.written_box)
        entry = self.journal.accept(where, mask, label, overlap, prompts=prompts, made=made, class_name=class_name)
        assert entry.label is not None
        found = self.journal.object(entry.label)
        return Outcome("", entry.label, found.area, found.box)


def segment_all(
    segmenter: Segmenter,
    objects: Sequence[ObjectPrompts],
    plane: Plane | None,
    writer: Writer,
    *,
    candidate: CandidateName = "best",
    overlap: Overlap = "keep",
    keep_numbers: bool = True,
) -> Iterator[Outcome]:
    """Segment the objects of a prompt file one after the other; those that fail are told of and left out.

    An object that the journal has already, by the same prompts, is not written again: a run that was stopped can be
    started once more.

    Parameters
    ----------
    segmenter
        Image and model.
    objects
        What to segment.
    plane
        Where objects lie whose file does not say; None where the image has one plane only.
    writer
        Where the masks go.
    candidate
        Which of the three masks.
    overlap
        What happens to labels that are there.
    keep_numbers
        Whether the objects get the labels that the file calls them by, where all are numbers.

    Yields
    ------
    Outcome
        One for each object.
    """
    numbered = keep_numbers and all(one.number is not None for one in objects)
    earlier = {} if writer.journal is None else _by_prompts(writer.journal.objects)
    for one in objects:
        try:
            where = _plane_of(segmenter, one, plane)
            prompts = one.prompts(where.shape_in(segmenter.shape))
            label, part = earlier.get(_key(prompts, where, candidate), (None, None))
            if part is not None:
                yield Outcome(one.name, label, part.area, part.box, part.accepted.mask, prompts)
                continue
            found = _segment(segmenter, prompts, where, None)
            mask = found.named(candidate)
            made = provenance(segmenter.encoder, mask, candidate)
            label = one.number if numbered else None
            done = writer.write(where, mask, label, overlap, prompts, made, one.class_name)
            yield Outcome(one.name, done.label, done.area, done.box, mask, prompts)
        except NapariSamError as error:
            yield Outcome(one.name, error=str(error))


def _by_prompts(objects: Sequence[LabelledObject]) -> dict[str, tuple[int, Part]]:
    """Return the label and part that prompts have led to."""
    found = {}
    for each in objects:
        for part in each.parts:
            if part.prompts is not None:
                candidate = part.made.candidate if part.made else None
                found[_key(part.prompts, part.plane, candidate)] = each.label, part
    return found


def _key(prompts: Prompts, plane: Plane, candidate: str | None) -> str:
    return json.dumps([prompts_json(prompts), plane.axes, plane.index, candidate])


def replay_prompts(journal: Journal, segmenter: Segmenter, target: LabelTarget) -> Iterator[Outcome]:
    """Segment the objects of a journal again by their prompts, with another model.

    Each object is written once, under its label, as it was corrected last. An object without prompts is written as it
    was recorded.

    Parameters
    ----------
    journal
        Of the segmenter's image.
    segmenter
        The image, and the other model.
    target
        New labels of the image's shape.

    Yields
    ------
    Outcome
        One for each plane of each object, with the IoU of the new mask and the recorded one.
    """
    for entry, plane in _standing(journal):
        label, recorded = entry.label, entry.mask
        assert label is not None
        assert recorded is not None
        made = entry.made or Provenance()
        try:
            mask, score = recorded, None
            if entry.prompts is not None:
                found = _segment(segmenter, entry.prompts, plane, made.downsample)
                mask = found.named(_candidate(made.candidate))
                score = overlap_of(mask, recorded)
            edit = target.write(plane, mask, label, entry.overlap)
            yield Outcome(str(label), label, edit.area, edit.written_box, mask, entry.prompts, score)
        except NapariSamError as error:
            yield Outcome(str(label), error=str(error))


def overlap_of(one: Mask, two: Mask) -> float:
    """Return the IoU of two masks of one plane."""
    whole = one.box.union(two.box)
    a, b = (
        Mask(mask.box.moved(-whole.top, -whole.left), mask.pixels).to_array(whole.pixel_shape) for mask in (one, two)
    )
    return iou(a, b)


def _standing(journal: Journal) -> list[tuple[Entry, Plane]]:
    """Return the entries that made what is there now, in the order in which it was made."""
    last: dict[tuple[int, Plane], Entry] = {}
    for entry in journal.entries:
        if entry.label is not None and entry.plane is not None:
            last.pop((entry.label, entry.plane), None)
            last[entry.label, entry.plane] = entry
        elif entry.what == "delete":
            last = {key: kept for key, kept in last.items() if key[0] != entry.label}
    return [(entry, plane) for (_, plane), entry in last.items()]


def _segment(segmenter: Segmenter, prompts: Prompts, plane: Plane, downsample: float | None) -> Candidates:
    return segmenter.segment(
        points=prompts.points if len(prompts.points) else None,
        labels=prompts.labels if len(prompts.points) else None,
        box=prompts.box,
        mask=prompts.mask,
        plane=plane,
        downsample=downsample,
    )


def named_plane(segmenter: Segmenter, positions: Mapping[str, int], plane: Plane | None = None) -> Plane:
    """Return the plane of a segmenter's image at positions along named axes.

    Parameters
    ----------
    segmenter
        Knows the names of the image's axes.
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
    default = None if plane is None else [at for axis, at in enumerate(plane.index) if axis not in plane.axes]
    return segmenter.plane(plane_index(positions, segmenter.volume.axis_names, shape, like.axes, default))


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


def _candidate(name: str | None) -> CandidateName:
    return next((known for known in CANDIDATE_NAMES if known == name), "best")
