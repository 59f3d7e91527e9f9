"""Import objects that other programs have labeled, into labels or as prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

from napari_sam.core.geometry import Plane
from napari_sam.errors import LabelsError, PromptError
from napari_sam.exchange.importing.imported_object import ImportedObject
from napari_sam.exchange.importing.reading import read_objects_of
from napari_sam.exchange.named_planes import plane_index
from napari_sam.exchange.object_prompts import ObjectPrompts
from napari_sam.exchange.prompts import outlines
from napari_sam.journal.packing.objects import NewObject
from napari_sam.labeled_image import LabeledImage

Group = tuple[Plane, str | None]


class Writers(Protocol):
    """What writes imported objects: labels in memory, on disk, or of a command."""

    def write_all(self, plane: Plane, objects: Sequence[NewObject], class_name: str | None) -> list[int | None]: ...

    def add(self, plane: Plane, one: NewObject, label: int) -> int: ...


class _LabeledWriters:
    """Write into the labels of an open image, and into its journal where there is one."""

    def __init__(self, labeled: LabeledImage) -> None:
        self._labeled = labeled

    def write_all(self, plane: Plane, objects: Sequence[NewObject], class_name: str | None) -> list[int | None]:
        return self._labeled.accept_all(objects, plane=plane, class_name=class_name)

    def add(self, plane: Plane, one: NewObject, label: int) -> int:
        return self._labeled.accept(one.mask, label=label, plane=plane)


def import_objects(
    segmenter: LabeledImage,
    path: str | Path,
    *,
    plane: Plane | int | Sequence[int] | None = None,
    image: str | Path | None = None,
) -> list[int | None]:
    """Write the objects of a file into the labels of an image, as new objects.

    With a journal, one `undo` takes all of them back.

    Parameters
    ----------
    segmenter
        A `Segmenter`; its model is not used.
    path
        COCO or SA-1B (.json), GeoJSON (.geojson, .json), GeoPackage (.gpkg), ImageJ ROIs (.roi, .zip), or a label image
        of the shape of the image or of one of its planes. Coordinates on a map are converted into the image's system.
        Classes need a journal, and are left out without one.
    plane
        The plane of objects for which the file names none; needed where the image has several.
    image
        Name of the image's file, by which a COCO file of several images names it.

    Returns
    -------
    list of int or None
        The label of each object; None where all its pixels belong to other labels.

    Raises
    ------
    PromptError
        The file is missing, damaged or of another image, or holds no object that lies in it.
    ImageError
        An object lies in a plane that there is not, or none is named.
    LabelsError, OutputError
        The labels or the journal cannot be written.
    """
    objects, _ = read_objects_of(path, segmenter.volume, None if image is None else str(image), _axes_of(segmenter))
    has_journal = segmenter.journal is not None
    with nullcontext() if segmenter.journal is None else segmenter.journal.together():
        return write_imported(_LabeledWriters(segmenter), segmenter, objects, plane, has_classes=has_journal)


def write_imported(
    writers: Writers,
    labeled: LabeledImage,
    objects: Sequence[ImportedObject],
    plane: Plane | int | Sequence[int] | None = None,
    *,
    has_classes: bool = True,
) -> list[int | None]:
    """Write imported objects; parts of one object in several planes get one label.

    Parameters
    ----------
    writers
        Writes them.
    labeled
        The image.
    objects
        The objects.
    plane
        As in `import_objects`.
    has_classes
        Whether classes can be kept.

    Returns
    -------
    list of int or None
        The label of each object.
    """
    labels: list[int | None] = [None] * len(objects)
    known: dict[int, int] = {}
    for (where, class_name), members in _grouped(labeled, objects, plane).items():
        fresh = []
        for at in members:
            number = objects[at].number
            if number in known and number is not None:
                labels[at] = _added(writers.add, where, objects[at], known[number])
            else:
                fresh.append(at)
        given = [NewObject(objects[at].mask) for at in fresh]
        written = writers.write_all(where, given, class_name if has_classes else None) if given else []
        for at, label in zip(fresh, written, strict=True):
            labels[at] = label
            number = objects[at].number
            if number is not None and label is not None:
                known[number] = label
    return labels


def as_prompts(
    labeled: LabeledImage,
    objects: Sequence[ImportedObject],
    plane: Plane | int | Sequence[int] | None = None,
    *,
    boxes: bool = False,
) -> list[ObjectPrompts]:
    """Return imported objects as prompts: their outlines, or their boxes.

    Parameters
    ----------
    labeled, objects, plane
        As in `write_imported`.
    boxes
        Whether boxes stand for the masks.
    """
    found = []
    for number, one in enumerate(objects, 1):
        where = _plane_of(labeled, one, plane)
        mask = one.mask.tightened()
        found.append(
            ObjectPrompts(
                name=str(number if one.number is None else one.number),
                box=mask.box.as_tuple() if boxes else None,
                polygons=() if boxes else outlines(mask),
                plane=where.position or None,
                class_name=one.class_name,
            )
        )
    return found


def _added(add: Callable[[Plane, NewObject, int], int], plane: Plane, one: ImportedObject, label: int) -> int | None:
    try:
        return add(plane, NewObject(one.mask), label)
    except LabelsError:
        return None  # All its pixels belong to other objects.


def _grouped(labeled: LabeledImage, objects: Sequence[ImportedObject], plane: Any) -> dict[Group, list[int]]:
    """Return the numbers of the objects of each plane and class, in their order."""
    groups: dict[Group, list[int]] = {}
    for at, one in enumerate(objects):
        groups.setdefault((_plane_of(labeled, one, plane), one.class_name), []).append(at)
    return groups


def _plane_of(labeled: LabeledImage, one: ImportedObject, plane: Any) -> Plane:
    if one.index is not None:
        return labeled.plane(list(one.index))
    if not one.plane:
        return labeled.plane(plane)
    volume = labeled.volume
    like = labeled.plane([0] * (len(volume.shape) - 2))
    default = None if plane is None else labeled.plane(plane).position
    if len(volume.shape) == 2:
        return like
    try:
        position = plane_index(dict(one.plane), volume.axis_names, volume.shape, like.axes, default)
    except PromptError as error:
        raise PromptError(f"The plane of an object is not understood: {error}.") from error
    return labeled.plane(list(position))


def _axes_of(labeled: LabeledImage) -> tuple[int, int]:
    return labeled.plane([0] * (len(labeled.shape) - 2)).axes
