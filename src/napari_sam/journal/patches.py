"""Patches: the pixels that one operation changed, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap, paste
from napari_sam.errors import LabelsError
from napari_sam.journal.packing import pack_bits, pack_values, runs, unpack_bits, unpack_values
from napari_sam.labels.targets import Target, read


@dataclass(frozen=True, slots=True)
class Patch:
    """The pixels of a box that an entry changed, with what they held before and after.

    Parameters
    ----------
    plane, box
        Where; the box is tight around them.
    bits
        Which, see `pack_bits`.
    before, after
        Their labels in row order, see `pack_values`.
    """

    plane: Plane
    box: Box
    bits: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    @classmethod
    def of(cls, plane: Plane, box: Box, before: NDArray[Any], after: NDArray[Any]) -> Patch | None:
        """Return what differs between two states, shape (rows, cols), of a box; None where nothing does."""
        changed = Mask(box.rounded_out(), before != after).tightened()
        if changed.box.is_empty:
            return None
        inside = changed.box.moved(-box.top, -box.left).slices
        old, new = (tuple(pack_values(values[inside][changed.pixels])) for values in (before, after))
        return cls(plane, changed.box, pack_bits(changed.pixels), old, new)

    def values(self) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[Any]]:
        """Return which pixels of the box changed, shape (rows, cols), and their labels before and after, shape (n,)."""
        where = unpack_bits(self.bits, self.box.pixel_shape)
        count = int(np.count_nonzero(where))
        return where, unpack_values(self.before, count), unpack_values(self.after, count)

    def reversed(self) -> Patch:
        """Return the way back."""
        return replace(self, before=self.after, after=self.before)


def put_patch(target: Target, patch: Patch, *, always: bool = False) -> None:
    """Change the pixels of a patch that hold what they held before it, or all of them.

    Pixels that were changed by other hands since stay as they are. Doing it twice changes nothing more, which is what
    makes an interrupted write safe to do again.

    Raises
    ------
    LabelsError
        The labels are of another shape, or cannot be read or written to.
    """
    plane, box = patch.plane, patch.box
    shape = tuple(target.array.shape)
    if len(plane.index) != len(shape) or not Box.of_shape(plane.shape_in(shape)).contains(box):
        raise LabelsError(f"The journal reaches outside the labels of shape {shape}: give the labels that it is of.")
    try:
        where, before, after = patch.values()
    except ValueError as error:
        raise LabelsError(f"An entry of the journal is damaged ({error}): put the file back from a copy.") from error
    values = read(target.array, plane, box)
    inside = values[where]
    changed = np.ones(inside.shape, bool) if always else inside == before
    changed &= inside != after
    if not changed.any():
        return
    highest = int(after.max())
    if highest > np.iinfo(values.dtype).max:
        target.widen()
        values = values.astype(target.array.dtype)
        inside = values[where]
    inside[changed] = after[changed]
    values[where] = inside
    target.put(plane, box, values)


def pasted(
    target: Target, plane: Plane, mask: Mask, label: int, overlap: Overlap, own: Sequence[Box] = ()
) -> tuple[Box, NDArray[Any], NDArray[Any]]:
    """Return what writing a mask would change.

    Parameters
    ----------
    target, plane, mask, label, overlap
        What is to be written, and where.
    own
        Boxes in which the mask takes the place of the label's pixels.

    Returns
    -------
    box : Box
        Where it would change something.
    before, after : numpy.ndarray
        Shape (rows, cols): the labels of the box.
    """
    box = reduce(Box.union, own, mask.box)
    before = read(target.array, plane, box)
    after = before.copy()
    for kept in own:
        inside = after[kept.moved(-box.top, -box.left).slices]
        inside[inside == label] = 0
    paste(after[mask.box.moved(-box.top, -box.left).slices], mask, label, overlap)
    return box, before, after


def growth(label: int, area: int, before: NDArray[Any], after: NDArray[Any]) -> tuple[tuple[int, int, int], ...]:
    """Return by how many pixels labels grew, as (label, 0, pixels) each; 0 is the number of the only patch.

    Parameters
    ----------
    label, area
        The object that was written, and how many pixels it had.
    before, after
        Shape (rows, cols): the labels of a box that holds all of them.
    """
    own = int(np.count_nonzero(after == label)) - area
    firsts, lengths = runs(before[before != after])
    labels, of = np.unique(firsts, return_inverse=True)
    counts = np.bincount(of, lengths, len(labels)).astype(int)
    lost = zip(labels.tolist(), counts.tolist(), strict=True)
    return ((label, 0, own), *((other, 0, -count) for other, count in lost if other not in (0, label)))
