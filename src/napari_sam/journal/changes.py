"""Change: what an entry does to the objects and classes of a journal, and the way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_sam.errors import LabelsError
from napari_sam.journal.entries import Entry, PackedMask
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.journal.packing.objects import Runs
from napari_sam.journal.patches import Patch

Get = Callable[[int], LabelledObject | None]
ReadEntry = Callable[[int], Entry]


@dataclass(frozen=True, slots=True)
class Change:
    """What an entry does to rows of the table: each as it is stored, before and afterwards, or None.

    Parameters
    ----------
    objects
        (label, before, afterwards) of each object.
    classes
        (number, before, afterwards) of each class, as (name, red, green, blue).
    added, removed
        Labels of many objects that are made together, and of those that are taken away together.
    """

    objects: tuple[tuple[int, str | None, str | None], ...] = ()
    classes: tuple[tuple[int, Sequence[Any] | None, Sequence[Any] | None], ...] = ()
    added: Runs = ()
    removed: Runs = ()

    def reversed(self) -> Change:
        """Return the way back."""
        return Change(
            tuple((label, after, before) for label, before, after in self.objects),
            tuple((number, after, before) for number, before, after in self.classes),
            self.removed,
            self.added,
        )

    def back_text(self) -> str:
        """Return the way back as JSON: what each object and class was before."""
        data = {
            "objects": [(label, before) for label, before, _ in self.objects],
            "classes": [(number, before) for number, before, _ in self.classes],
            "added": self.added,
        }
        return json.dumps({key: value for key, value in data.items() if value}, separators=(",", ":"))


def changed_objects(entry: Entry, get: Get, read: ReadEntry) -> Iterator[tuple[int, LabelledObject | None]]:
    """Yield the label of each object that an entry changes, and the object as it is afterwards, or None.

    Parameters
    ----------
    entry
        An entry that is no undo and no redo.
    get
        Returns the object of a label as it was before the entry, or None.
    read
        Reads the entry of a number, for the parts of objects.
    """
    yield from _resized(entry, get)
    label = entry.label
    if label is None:
        return
    old = get(label)
    if entry.what == "delete":
        yield label, None
    elif entry.what == "classify" and old is not None:
        yield label, replace(old, label_class=entry.label_class)
    elif entry.accepted is not None and entry.plane is not None:
        part = _accepted(entry, entry.accepted, old, read)
        found = old or LabelledObject(label, (), entry.time, entry.time)
        kind = entry.label_class or found.label_class
        yield label, replace(found.with_part(part), changed=entry.time, label_class=kind)


def _accepted(entry: Entry, accepted: PackedMask, old: LabelledObject | None, read: ReadEntry) -> Part:
    assert entry.plane is not None
    own = entry.label
    assert own is not None
    before = old.part(entry.plane) if old else None
    area = (before.area if before else 0) + sum(delta for label, _, delta in entry.areas if label == entry.label)
    # An object that was pushed back by others may get its pixels again when those are undone.
    box = accepted.box if before is None else before.box.union(accepted.box)
    iou, stability = accepted.iou_prediction, accepted.stability_score
    return Part(entry.plane, box, area, entry.number, iou, stability, lambda number: read(number).of_object(own))


def _resized(entry: Entry, get: Get) -> Iterator[tuple[int, LabelledObject]]:
    """Yield the other objects, which lost pixels to the entry's own."""
    deltas: dict[int, list[tuple[int, int]]] = {}
    for label, number, delta in entry.areas:
        if label != entry.label:
            deltas.setdefault(label, []).append((number, delta))
    for label, losses in deltas.items():
        found = get(label)
        if found is None:
            continue
        for number, delta in losses:
            if not 0 <= number < len(entry.patches):
                raise LabelsError(f"Entry {entry.number} of the journal is damaged: put the file back from a copy.")
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
