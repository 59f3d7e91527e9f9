"""Change: what an entry does to the objects and classes of a journal, and the way back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_sam.core.geometry import Box, Plane
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
    grown
        The same of objects that got one part more, and when each was changed last before: the way back names no other
        part, of which there may be thousands.
    classes
        (number, before, afterwards) of each class, as (name, red, green, blue).
    added, removed
        Labels of many objects that are made together, and of those that are taken away together.
    """

    objects: tuple[tuple[int, str | None, str | None], ...] = ()
    grown: tuple[tuple[int, str, str, str], ...] = ()
    classes: tuple[tuple[int, Sequence[Any] | None, Sequence[Any] | None], ...] = ()
    added: Runs = ()
    removed: Runs = ()

    @property
    def rows(self) -> Iterator[tuple[int, str | None, str | None]]:
        """(label, before, afterwards) of each object."""
        yield from self.objects
        yield from (one[:3] for one in self.grown)

    def reversed(self) -> Change:
        """Return the way back."""
        return Change(
            tuple((label, after, before) for label, before, after in self.rows),
            classes=tuple((number, after, before) for number, before, after in self.classes),
            added=self.removed,
            removed=self.added,
        )

    def back_text(self) -> str:
        """Return the way back as JSON: what each object and class was before."""
        data = {
            "objects": [(label, before) for label, before, _ in self.objects],
            "grown": [(label, changed, zlib.crc32(before.encode())) for label, before, _, changed in self.grown],
            "classes": [(number, before) for number, before, _ in self.classes],
            "added": self.added,
        }
        return json.dumps({key: value for key, value in data.items() if value}, separators=(",", ":"))


def changed_objects(
    entry: Entry, get: Get, read: ReadEntry, known: Container[int] = ()
) -> Iterator[tuple[int, LabelledObject | None]]:
    """Yield the label of each object that an entry changes, and the object as it is afterwards, or None.

    Parameters
    ----------
    entry
        An entry that is no undo and no redo.
    get
        Returns the object of a label as it was before the entry, or None.
    read
        Reads the entry of a number, for the parts of objects.
    known
        Objects of "accept_parts" that are left out.
    """
    yield from _resized(entry, get)
    if entry.what == "accept_parts":
        new_parts = (part for part in parts_of(entry, read) if part.label not in known)
        yield from ((part.label, grown_by(part, get(part.label), entry)) for part in new_parts)
    for child, parent in entry.parents:
        known_child = get(child)
        if known_child is not None:
            yield child, replace(known_child, parent=parent or None)
    if entry.moved or entry.remade:
        yield from _rearranged(entry, get, read)
        return
    label = entry.label
    if label is None:
        return
    old = get(label)
    if entry.what == "delete":
        yield label, None
    elif entry.what == "classify" and old is not None:
        yield label, replace(old, label_class=entry.label_class)
    elif entry.accepted is not None and entry.plane is not None:
        part = _accepted(entry, entry.plane, entry.accepted, old, read)
        yield label, grown_by(part, old, entry)


def parts_of(entry: Entry, read: ReadEntry) -> Iterator[Part]:
    """Yield the parts that an entry has given to objects in its plane."""
    assert entry.objects is not None
    assert entry.plane is not None
    for label, edges, area, scores in zip(entry.labels, *entry.objects.table(), strict=True):
        own, stability = scores[0], scores[1]
        yield Part(entry.plane, Box(*edges), area, entry.number, own, stability, read, label, entry.is_propagated)


def grown_by(part: Part, old: LabelledObject | None, entry: Entry) -> LabelledObject:
    """Return an object with a part of an entry, in the place of that of the same plane; a new one where there is none.

    Its box holds that of the part before: pixels that other objects took may come back when those are undone.
    """
    found = old or LabelledObject(part.label, (), entry.time, entry.time)
    before = found.part(part.plane)
    if before is not None:
        part = replace(part, box=before.box.union(part.box))
    return replace(found.with_part(part), changed=entry.time, label_class=entry.label_class or found.label_class)


def _accepted(entry: Entry, plane: Plane, accepted: PackedMask, old: LabelledObject | None, read: ReadEntry) -> Part:
    before = old.part(plane) if old else None
    area = (before.area if before else 0) + sum(delta for label, _, delta in entry.areas if label == entry.label)
    return _part(entry, entry.labels[0], plane, accepted, area, read)


def _part(entry: Entry, label: int, plane: Plane, accepted: PackedMask, area: int, read: ReadEntry) -> Part:
    scores = accepted.iou_prediction, accepted.stability_score
    return Part(plane, accepted.box, area, entry.number, *scores, read, label, entry.is_propagated)


def _rearranged(entry: Entry, get: Get, read: ReadEntry) -> Iterator[tuple[int, LabelledObject | None]]:
    """Yield the objects whose parts were removed, merged or split."""
    known = {label: get(label) for label in entry.labels}
    parts = {label: {part.plane: part for part in found.parts} if found else {} for label, found in known.items()}
    for moved in entry.moved:
        for plane in moved.planes:
            part = parts[moved.label].pop(plane, None)
            if part is None:
                raise LabelsError(f"Entry {entry.number} of the journal is damaged: put the file back from a copy.")
            if moved.to:
                parts[moved.to][plane] = part
    for remade in entry.remade:
        area = remade.accepted.mask.area
        parts[remade.label][remade.plane] = _part(entry, remade.label, remade.plane, remade.accepted, area, read)
    kept, changed_axes = known[entry.labels[0]], {patch.plane.axes for patch in entry.patches}
    for label, found in known.items():
        # The one that was accepted last is at the end.
        ordered = tuple(sorted(parts[label].values(), key=lambda part: part.number))
        if found is not None and len(changed_axes | {part.plane.axes for part in ordered}) > 1:
            ordered = _less_across(replace(found, parts=ordered), entry.patches)
        begun = found or LabelledObject(label, (), entry.time, entry.time, kept.label_class if kept else None)
        yield label, replace(begun, parts=ordered, changed=entry.time) if ordered else None


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


def _less_across(found: LabelledObject, patches: Sequence[Patch]) -> tuple[Part, ...]:
    """Return the parts of an object without the pixels that it lost on planes that cut across them."""
    for patch in patches:
        across = [part.plane.axes != patch.plane.axes for part in found.parts]
        if any(across):
            lost = [n if is_across else 0 for n, is_across in zip(_lost_across(found, patch), across, strict=True)]
            parts = (replace(part, area=part.area - n) for part, n in zip(found.parts, lost, strict=True))
            found = replace(found, parts=tuple(parts))
    return found.parts


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
