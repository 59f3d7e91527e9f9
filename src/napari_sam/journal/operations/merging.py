"""MergingJournal: merge objects into one, and split one into several, in all of their planes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.journal.entries import Entry, MovedParts, PackedMask, RemadePart
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.journal.operations.parts import PartsJournal, parts_in
from napari_sam.journal.operations.regions import Piece, connected_pieces
from napari_sam.journal.patches import Patch
from napari_sam.labels.edit import LabelEdit, fitting, within
from napari_sam.labels.sink import LabelSink

# Of the box around the pixels of a merged or split object in one plane, which are in memory.
MAX_BOX = 2**28


@dataclass(slots=True)
class Rearranged:
    """What becomes of the parts of objects, gathered plane by plane."""

    patches: list[Patch] = field(default_factory=list)
    moved: dict[tuple[int, int], list[Plane]] = field(default_factory=dict)
    remade: list[RemadePart] = field(default_factory=list)

    def move(self, label: int, to: int, plane: Plane) -> None:
        """Give a whole part to another object; 0 takes it away."""
        self.moved.setdefault((label, to), []).append(plane)

    def remake(self, label: int, plane: Plane, mask: Mask) -> None:
        """Give an object the pixels of a mask in the place of what it had in the plane."""
        self.remade.append(RemadePart(label, plane, PackedMask.of(mask.tightened())))

    def change(self, plane: Plane, box: Box, before: NDArray[Any], after: NDArray[Any]) -> None:
        """Change the labels of a box; the edit is packed at once, since there may be thousands of planes."""
        patch = Patch.of(LabelEdit(plane, box, before, after))
        if patch is not None:
            self.patches.append(patch)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the entry."""
        moved = tuple(MovedParts(label, to, tuple(planes)) for (label, to), planes in self.moved.items())
        return {"patches": tuple(self.patches), "moved": moved, "remade": tuple(self.remade)}


class MergingJournal(PartsJournal):
    """The journal with merging and splitting, and without operations on whole objects; see `Journal`."""

    def merge(self, labels: Sequence[int]) -> Entry:
        """Give all parts of some objects to the first of them, which keeps its label and its class.

        Parts keep their prompts. Where several of the objects have pixels in a plane, they become one part without
        prompts, which is reopened with its mask as a prompt.

        Parameters
        ----------
        labels
            The objects; one that is named twice counts once.

        Raises
        ------
        LabelsError
            There are not two objects, there is none of one of the labels, or the labels cannot be written; nothing has
            changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        with self._lock, self._open_target().exclusive():
            target, found = self._open_target(), [self.object(label) for label in dict.fromkeys(labels)]
            if len(found) < 2:
                raise LabelsError("Merging needs two objects or more: name at least two labels that differ.")
            first, rearranged = found[0].label, Rearranged()
            for plane, parts in _by_plane(found):
                _merge_in(target, plane, parts, first, rearranged)
            entry = Entry(**self._next("merge"), label=first, **rearranged.fields)
            self._commit(entry)
            return entry

    def split(self, label: int, pieces: Sequence[Piece]) -> Entry:
        """Make objects of their own of pieces of an object; the rest keeps its label, and all keep its class.

        A piece that is all that the object has in a plane keeps the prompts; one that is a part of it has none.

        Parameters
        ----------
        label
            The object.
        pieces
            One mapping for each new object, which get the next free labels in order: from its planes to the mask of its
            pixels there, or to None for all that the object has in the plane. A pixel of several pieces is of the first
            of them.

        Raises
        ------
        LabelsError
            There is none of that label, a piece has no pixels of it, nothing would be left, or the labels cannot be
            written; nothing has changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        with self._lock, self._open_target().exclusive():
            target, found = self._open_target(), self.object(label)
            highest, free = target.next_label - 1, self._write_ahead.free_labels(target, len(pieces))
            by_plane: dict[Plane, dict[int, Mask | None]] = {}
            for number, piece in zip(free, pieces, strict=True):
                for plane, mask in piece.items():
                    by_plane.setdefault(plane, {})[number] = mask
            rearranged = Rearranged()
            for part in parts_in(found, by_plane):
                _split_in(target, part, found.label, by_plane[part.plane], rearranged)
            _check_split(found, free, rearranged)
            entry = Entry(**self._next("split"), label=found.label, **rearranged.fields)
            self._commit(entry)
            if len(free):
                self._released[entry.number] = max(free), highest
            return entry

    def split_regions(self, label: int) -> Entry:
        """Make objects of their own of the connected regions of an object; the largest keeps the label.

        Pixels touch at sides and corners, in a plane and in the plane beside it.

        Parameters
        ----------
        label
            The object.

        Raises
        ------
        LabelsError
            There is none of that label, it is in one piece, or the labels cannot be written; nothing has changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        with self._lock, self._open_target().exclusive():
            found = self.object(label)
            pieces = connected_pieces(self._open_target(), found)
            if not pieces:
                raise LabelsError(f"Object {found.label} is in one piece: name planes, or draw what is split off.")
            return self.split(found.label, pieces)


def _by_plane(found: Sequence[LabelledObject]) -> Iterator[tuple[Plane, list[tuple[int, Part]]]]:
    """Yield the parts that objects have in each plane, with their labels."""
    planes: dict[Plane, list[tuple[int, Part]]] = {}
    for one in found:
        for part in one.parts:
            planes.setdefault(part.plane, []).append((one.label, part))
    yield from planes.items()


def _merge_in(
    target: LabelSink, plane: Plane, parts: Sequence[tuple[int, Part]], first: int, rearranged: Rearranged
) -> None:
    """Merge the parts of one plane."""
    for label, part in parts:
        if label != first:
            before = target.read(plane, part.box)
            after = np.where(before == label, before.dtype.type(first), before)
            rearranged.change(plane, part.box, before, after)
    # Parts whose pixels all went to other objects do not count where another one has some.
    filled = [(label, part) for label, part in parts if part.area] or list(parts[:1])
    kept, _ = filled[0]
    for label, _ in parts:
        if label != first:
            rearranged.move(label, first if label == kept or len(filled) > 1 else 0, plane)
    if len(filled) > 1:
        box = _checked_box(reduce(Box.union, (part.box for _, part in filled)), plane)
        pixels = np.isin(target.read(plane, box), [label for label, _ in filled])
        if pixels.any():  # Another program may have painted over them.
            rearranged.remake(first, plane, Mask(box, pixels))


def _split_in(
    target: LabelSink, part: Part, label: int, masks: Mapping[int, Mask | None], rearranged: Rearranged
) -> None:
    """Split one part; the label of each new object with its mask, or None where it gets all that is left."""
    box = _checked_box(part.box, part.plane)
    before = target.read(part.plane, box)
    rest, after = before == label, fitting(before, max(masks)).copy()
    got: dict[int, Mask] = {}
    for number, mask in masks.items():
        both = box if mask is None else mask.box.intersection(box)
        if both.is_empty and mask is not None:
            continue
        left, there = rest[within(box, both)], after[within(box, both)]
        pixels = left.copy() if mask is None else mask.pixels[within(mask.box, both)] & left
        if pixels.any() or (mask is None and not got):
            got[number] = Mask(both, pixels)
            left[pixels], there[pixels] = False, number
    rearranged.change(part.plane, box, before.astype(after.dtype), after)
    if not got:
        return
    if len(got) == 1 and not rest.any():
        rearranged.move(label, next(iter(got)), part.plane)
        return
    for number, mask in got.items():
        rearranged.remake(number, part.plane, mask)
    if rest.any():
        rearranged.remake(label, part.plane, Mask(box, rest))
    else:
        rearranged.move(label, 0, part.plane)


def _check_split(found: LabelledObject, free: Sequence[int], rearranged: Rearranged) -> None:
    """Refuse to split an object into fewer objects than were named, or to leave nothing of it."""
    new = {to for _, to in rearranged.moved} | {part.label for part in rearranged.remade}
    if not set(free) <= new or not free:
        raise LabelsError(
            f"There is no pixel of object {found.label} in what is to be split off: name planes or draw a mask in "
            "which it has some."
        )
    gone = sum(len(planes) for planes in rearranged.moved.values())
    if gone == len(found.parts):
        raise LabelsError(f"That is all of object {found.label}, so nothing is split off: leave a part of it.")


def _checked_box(box: Box, plane: Plane) -> Box:
    rows, cols = box.pixel_shape
    if rows * cols > MAX_BOX:
        raise LabelsError(
            f"The pixels in the plane at {plane.index} lie in a box of {rows} x {cols}, which is too large for one "
            "mask: choose objects that lie nearer to each other."
        )
    return box
