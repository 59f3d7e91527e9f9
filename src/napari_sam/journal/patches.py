"""Patches: the pixels that one operation changed, and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.journal.packing.arrays import pack_bits, pack_values, runs, unpack_bits, unpack_values
from napari_sam.labels.edit import LabelEdit, plan_pixels
from napari_sam.labels.sink import LabelSink


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
    def of(cls, edit: LabelEdit) -> Patch | None:
        """Pack the pixels that an edit changes; None where it changes none."""
        changed = Mask(edit.box.rounded_out(), edit.changed).tightened()
        if changed.box.is_empty:
            return None
        inside = changed.box.moved(-edit.box.top, -edit.box.left).slices
        before, after = (tuple(pack_values(values[inside][changed.pixels])) for values in (edit.before, edit.after))
        return cls(edit.plane, changed.box, pack_bits(changed.pixels), before, after)

    def values(self) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[Any]]:
        """Return which pixels of the box changed, shape (rows, cols), and their labels before and after, shape (n,)."""
        where = unpack_bits(self.bits, self.box.pixel_shape)
        count = int(np.count_nonzero(where))
        return where, unpack_values(self.before, count), unpack_values(self.after, count)

    def reversed(self) -> Patch:
        """Return the way back."""
        return replace(self, before=self.after, after=self.before)


def patches_of(edits: Iterable[LabelEdit]) -> tuple[Patch, ...]:
    """Pack those of some edits that change anything."""
    return tuple(patch for edit in edits if (patch := Patch.of(edit)) is not None)


def put_patch(target: LabelSink, patch: Patch, *, always: bool = False) -> None:
    """Change the pixels of a patch that hold what they held before it, or all of them: one read, one write.

    Pixels that were changed by other hands since stay as they are. Doing it twice changes nothing more, which is what
    makes an interrupted write safe to do again.

    Raises
    ------
    LabelsError
        The labels are of another shape, or cannot be read or written to.
    """
    shape = tuple(target.shape)
    if len(patch.plane.index) != len(shape) or not Box.of_shape(patch.plane.shape_in(shape)).contains(patch.box):
        raise LabelsError(f"The journal reaches outside the labels of shape {shape}: give the labels that it is of.")
    try:
        where, before, after = patch.values()
    except ValueError as error:
        raise LabelsError(f"An entry of the journal is damaged ({error}): put the file back from a copy.") from error
    with target.exclusive():
        edit = plan_pixels(target, patch.plane, patch.box, where, after, None if always else before)
        if not edit.changes_nothing:
            target.apply(edit)


def area_changes(edit: LabelEdit, area: int) -> tuple[tuple[int, int, int], ...]:
    """Return by how many pixels an edit of one label makes labels grow, as (label, 0, pixels) each.

    0 is the number of the only patch.

    Parameters
    ----------
    edit
        The edit, whose box holds all pixels that the label had in the plane.
    area
        How many those were.
    """
    label = edit.label
    own = int(np.count_nonzero(edit.after == label)) - area
    return ((label, 0, own), *(lost for lost in lost_areas(edit) if lost[0] != label))


def lost_areas(edit: LabelEdit) -> tuple[tuple[int, int, int], ...]:
    """Return by how many pixels an edit makes the labels grow that it takes pixels from, as in `area_changes`."""
    before, after = edit.before, edit.after
    firsts, lengths = runs(before[before != after])
    labels, of = np.unique(firsts, return_inverse=True)
    counts = np.bincount(of, lengths, len(labels)).astype(int)
    lost = zip(labels.tolist(), counts.tolist(), strict=True)
    return tuple((label, 0, -count) for label, count in lost if label != 0)
