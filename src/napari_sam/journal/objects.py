"""Objects: what is there after all entries of a journal so far, and the step back from each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError
from napari_sam.journal.entries import Entry, LabelClass, PackedMask, Provenance
from napari_sam.journal.patches import Patch


@dataclass(frozen=True, slots=True)
class Part:
    """What one plane holds of an object.

    Parameters
    ----------
    plane
        Which one.
    box
        Where its pixels are: no pixel of the object that the journal knows lies outside.
    area
        How many there are.
    accepted
        The mask as it was accepted, before other labels were spared.
    prompts, made, overlap
        What led to it.
    """

    plane: Plane
    box: Box
    area: int
    accepted: PackedMask
    prompts: Prompts | None = None
    made: Provenance | None = None
    overlap: Overlap = "keep"


@dataclass(frozen=True, slots=True)
class LabelledObject:
    """An object of the table.

    Parameters
    ----------
    label
        Its value in the labels.
    parts
        One for each plane, the one that was accepted last at the end.
    created, changed
        When it was accepted first, and last.
    label_class
        Its class, or None.
    """

    label: int
    parts: tuple[Part, ...]
    created: datetime
    changed: datetime
    label_class: LabelClass | None = None

    @property
    def area(self) -> int:
        """Number of pixels, of all planes."""
        return sum(part.area for part in self.parts)

    @property
    def plane(self) -> Plane:
        """The plane that was accepted last; the properties below are of it."""
        return self.parts[-1].plane

    @property
    def box(self) -> Box:
        """Where its pixels are."""
        return self.parts[-1].box

    @property
    def prompts(self) -> Prompts | None:
        """What it was segmented by."""
        return self.parts[-1].prompts

    @property
    def mask(self) -> Mask:
        """The mask as it was accepted, unpacked at every look."""
        return self.parts[-1].accepted.mask

    @property
    def iou_prediction(self) -> float:
        """The decoder's estimate of the mask's IoU, or NaN."""
        return self.parts[-1].accepted.iou_prediction

    @property
    def stability_score(self) -> float:
        """As in `Mask`."""
        return self.parts[-1].accepted.stability_score

    def part(self, plane: Plane) -> Part | None:
        """Return what a plane holds of it, or None."""
        return next((part for part in self.parts if part.plane == plane), None)

    def with_part(self, part: Part) -> LabelledObject:
        """Return it with a part put at the end, in the place of that of the same plane."""
        return replace(self, parts=(*(old for old in self.parts if old.plane != part.plane), part))


@dataclass(frozen=True, slots=True)
class Step:
    """The way back from an entry: what it replaced in the table."""

    entry: Entry
    objects: tuple[tuple[int, LabelledObject | None], ...]
    classes: tuple[tuple[int, LabelClass | None], ...]


class ObjectTable:
    """The objects and classes after some entries.

    Attributes
    ----------
    objects
        By label.
    classes
        By number; `LabelledObject.label_class` is that of the moment it was given, so look here for its name now.
    """

    def __init__(self) -> None:
        self.objects: dict[int, LabelledObject] = {}
        self.classes: dict[int, LabelClass] = {}

    def apply(self, entry: Entry) -> Step:
        """Let an entry happen and return the way back."""
        changed = dict(self._changed(entry))
        kind = entry.label_class
        before = tuple((label, self.objects.get(label)) for label in changed)
        classes = () if kind is None else ((kind.number, self.classes.get(kind.number)),)
        for label, now in changed.items():
            if now is None:
                self.objects.pop(label, None)
            else:
                self.objects[label] = now
        if kind is not None:
            self.classes[kind.number] = kind
        return Step(entry, before, classes)

    def revert(self, step: Step) -> None:
        """Undo the last entry that was applied."""
        for label, before in step.objects:
            if before is None:
                self.objects.pop(label, None)
            else:
                self.objects[label] = before
        for number, kind in step.classes:
            if kind is None:
                self.classes.pop(number, None)
            else:
                self.classes[number] = kind

    def rows(self) -> list[LabelledObject]:
        """Return the objects by label, each with its class as that is called now."""
        return [self.row(label) for label in sorted(self.objects)]

    def row(self, label: int) -> LabelledObject:
        """Return one object, with its class as that is called now."""
        found = self.objects[label]
        kind = found.label_class
        return found if kind is None else replace(found, label_class=self.classes.get(kind.number, kind))

    def _changed(self, entry: Entry) -> Iterator[tuple[int, LabelledObject | None]]:
        label = entry.label
        yield from self._resized(entry)
        if label is None:
            return
        old = self.objects.get(label)
        if entry.what == "delete":
            yield label, None
        elif entry.what == "classify" and old is not None:
            yield label, replace(old, label_class=entry.label_class)
        elif entry.accepted is not None and entry.plane is not None:
            part = self._accepted(entry, entry.plane, entry.accepted, old)
            found = old or LabelledObject(label, (), entry.time, entry.time)
            kind = entry.label_class or found.label_class
            yield label, replace(found.with_part(part), changed=entry.time, label_class=kind)

    def _accepted(self, entry: Entry, plane: Plane, accepted: PackedMask, old: LabelledObject | None) -> Part:
        before = old.part(plane) if old else None
        area = (before.area if before else 0) + sum(delta for label, _, delta in entry.areas if label == entry.label)
        # An object that was pushed back by others may get its pixels again when those are undone.
        box = accepted.box if before is None else before.box.union(accepted.box)
        return Part(plane, box, area, accepted, entry.prompts, entry.made, entry.overlap)

    def _resized(self, entry: Entry) -> Iterator[tuple[int, LabelledObject]]:
        """Yield the other objects, which lost pixels to the entry's own."""
        deltas: dict[int, list[tuple[int, int]]] = {}
        for label, number, delta in entry.areas:
            if label != entry.label and label in self.objects:
                deltas.setdefault(label, []).append((number, delta))
        for label, losses in deltas.items():
            found = self.objects[label]
            for number, delta in losses:
                patch = entry.patches[number]
                if found.part(patch.plane) is None:
                    lost = _lost_across(found, patch)
                else:
                    lost = [-delta if part.plane == patch.plane else 0 for part in found.parts]
                parts = (replace(part, area=part.area - n) for part, n in zip(found.parts, lost, strict=True))
                found = replace(found, parts=tuple(parts))
            yield label, found


def _lost_across(found: LabelledObject, patch: Patch) -> list[int]:
    """Return how many pixels each part of an object lost to a patch on a plane that cuts across those of the parts."""
    try:
        where, before, after = patch.values()
    except ValueError as error:
        raise LabelsError(f"An entry of the journal is damaged ({error}): put the file back from a copy.") from error
    rows, cols = np.nonzero(where)
    lost = (before == found.label) & (after != found.label)
    at = np.tile(np.array(patch.plane.index), (int(np.count_nonzero(lost)), 1))
    at[:, patch.plane.axes[0]] = rows[lost] + int(patch.box.top)
    at[:, patch.plane.axes[1]] = cols[lost] + int(patch.box.left)
    counts = []
    for part in found.parts:
        hidden = [axis for axis in range(len(part.plane.index)) if axis not in part.plane.axes]
        counts.append(int(np.count_nonzero((at[:, hidden] == np.array(part.plane.index)[hidden]).all(axis=1))))
    return counts
