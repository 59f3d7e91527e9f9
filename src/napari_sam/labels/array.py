"""LabelStore: masks into an integer array, box by box, each with a way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap, paste
from napari_sam.errors import LabelsError
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.labels.access import access_of
from napari_sam.labels.free_labels import can_widen, end_of, highest_in, is_used, lowest_free
from napari_sam.labels.levels import Levels, not_written
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.regions import (
    WritableArray as WritableArray,
)
from napari_sam.labels.regions import blocks, check_whole, fitting, loaded, region_of, wider


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """One write into the labels, and what it replaced.

    Parameters
    ----------
    plane
        Where it was written.
    box
        Half-open, whole pixels of the plane.
    label
        The value written.
    written
        Shape (rows, cols), bool: the pixels that got the label, or had it already.
    before
        Shape (rows, cols): all labels of the box before the write.
    highest_before
        The highest label in use before the write, where that was known.
    """

    plane: Plane
    box: Box
    label: int
    written: NDArray[np.bool_]
    before: NDArray[Any]
    highest_before: int | None = None

    @property
    def area(self) -> int:
        """Number of pixels that hold the label since the write."""
        return int(np.count_nonzero(self.written))

    @property
    def written_box(self) -> Box:
        """The smallest box that holds the pixels of `area`."""
        return Mask(self.box, self.written).tightened().box


class LabelStore:
    """Labels of a whole volume, changed only under the boxes of masks.

    Parameters
    ----------
    array
        Integer labels with the volume's shape; 0 is background. Read them from `LabelStore.array` again after a write:
        where the next free label does not fit into a numpy array, a wider copy takes its place.

    Raises
    ------
    LabelsError
        The array does not hold whole numbers, or cannot be written to.
    """

    def __init__(self, array: WritableArray) -> None:
        check_labels(array)
        self.array = array
        self._levels = Levels((array,)) if _is_zarr(array) else None
        self._edits: list[Edit] = []
        self._highest: int | None = None
        self._stamp = access_of(array).stamp()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep out all that write into the same labels, here and in other programs, and know of what they wrote.

        Raises
        ------
        LabelsError
            Another program had the labels locked for a minute.
        """
        access = access_of(self.array)
        with access.exclusive():
            stamp = access.stamp()
            if stamp != self._stamp:
                self._stamp, self._highest = stamp, None
            yield

    @property
    def next_label(self) -> int:
        """A free label, above all that are in use; the whole array is searched once, block by block.

        Where it does not fit into the labels' type and they cannot be given more bits, it is the lowest free one.
        """
        with self.exclusive():
            following, end = self._known_highest() + 1, end_of(dtype_of(self.array))
            if following < end or can_widen(self.array):
                return following
            free = lowest_free(self.array) if is_used(self.array, end) else end
            return end + 1 if free is None else free

    @property
    def is_empty(self) -> bool:
        """Whether there is no object."""
        with self.exclusive():
            return self._known_highest() == 0

    def _known_highest(self) -> int:
        if self._highest is None:
            if self._levels is not None:
                self._levels.remove_leftovers()
            self._highest = highest_label(self.array)
        return self._highest

    def write(self, plane: Plane, mask: Mask, label: int | None = None, overlap: Overlap = "keep") -> Edit:
        """Write a mask under a label.

        Parameters
        ----------
        plane
            The plane that the mask lies in.
        mask
            What to write.
        label
            The value; the next free one when left out, for which the labels are given more bits where it needs them.
        overlap
            "keep" leaves pixels of other labels alone, "overwrite" takes them, "empty" refuses the mask where there are
            any.

        Raises
        ------
        LabelsError
            The mask is empty, nothing of it may be written, the label does not fit the array's type, or the array
            cannot be written to; the labels are as they were.
        """
        with self.exclusive():
            return self._write(plane, mask, label, overlap)

    def _write(self, plane: Plane, mask: Mask, label: int | None, overlap: Overlap) -> Edit:
        value = self.next_label if label is None else label
        if label is None and value > np.iinfo(dtype_of(self.array)).max:
            # Before the work of widening: is this mask one that can be written at all?
            plan_edit(self.array, plane, mask, 1, overlap)
            self._widen()
        edit = replace(plan_edit(self.array, plane, mask, value, overlap), highest_before=self._highest)
        after = edit.before.copy()
        after[edit.written] = edit.label
        self._put(edit, after, edit.before)
        self._edits.append(edit)
        self._note_used(edit.label)
        return edit

    def undo(self) -> Edit | None:
        """Put back what the last write replaced and return that write; None when there is none left."""
        if not self._edits:
            return None
        edit = self._edits[-1]
        with self.exclusive():
            now = _read(self.array, edit.plane, edit.box)
            self._put(edit, _reverted(edit, now)[1], now)
            self._edits.pop()
            if self._highest == edit.label:
                self._highest = edit.highest_before
        return edit

    def _put(self, edit: Edit, values: NDArray[Any], now: NDArray[Any]) -> None:
        """Write a box, with exclusive access."""
        try:
            self._put_box(edit, values, now)
        finally:
            self._stamp = access_of(self.array).written()

    def _put_box(self, edit: Edit, values: NDArray[Any], now: NDArray[Any]) -> None:
        key = edit.plane.slicer(edit.box)
        if self._levels is not None:
            region, kept = region_of(key, self.array.shape)
            block = fitting(edit.plane.oriented(values), region, kept, dtype_of(self.array))
            self._levels.write(region, block)
            return
        try:
            self.array[key] = edit.plane.oriented(values)
        except LabelsError:
            raise
        except Exception as error:
            try:
                self.array[key] = edit.plane.oriented(now)
            except Exception:
                raise not_written(error, "may be half written") from error
            raise not_written(error) from error

    def _note_used(self, label: int) -> None:
        if self._highest is not None and (label < end_of(dtype_of(self.array)) or can_widen(self.array)):
            self._highest = max(self._highest, label)

    def _widen(self) -> None:
        self._give_bits()
        self._stamp = access_of(self.array).stamp()

    def _give_bits(self) -> None:
        array = self.array
        if isinstance(array, LabelPyramid):
            array.widen()
            return
        dtype = wider(dtype_of(array))
        if not isinstance(array, np.ndarray) or isinstance(array, np.memmap):
            raise LabelsError(
                f"All labels that {dtype_of(array)} can hold are in use: copy them into labels of {dtype}, and go on."
            )
        try:
            self.array = array.astype(dtype)
        except MemoryError as error:
            raise LabelsError(
                f"There is no memory for labels of {dtype}, which the next label needs: write into a LabelPyramid."
            ) from error


def check_labels(array: WritableArray) -> None:
    """Refuse an array that cannot take labels.

    Raises
    ------
    LabelsError
        It does not hold whole numbers, or it is read-only or lazy.
    """
    check_whole(dtype_of(array))
    if type(array).__module__.partition(".")[0] == "dask":
        raise LabelsError(
            "A dask array cannot be written to: compute it into memory (.compute()), or store it as zarr and give that."
        )
    if isinstance(array, np.ndarray):
        writable = bool(array.flags.writeable)
    else:
        # zarr says `read_only`, tensorstore `writable`.
        closed = getattr(array, "read_only", False) or not getattr(array, "writable", True)
        writable = hasattr(array, "__setitem__") and not closed
    if not writable:
        raise LabelsError(
            "This labels target cannot be written to: give a numpy array or a zarr array opened with mode='r+'."
        )


def plan_edit(array: WritableArray, plane: Plane, mask: Mask, label: int, overlap: Overlap) -> Edit:
    """Return what writing a mask would change, without changing anything.

    Raises
    ------
    LabelsError
        The mask is empty, nothing of it may be written, the label does not fit, or the labels cannot be read.
    """
    if mask.area == 0:
        raise LabelsError("The mask is empty, so there is nothing to accept: move or add a prompt.")
    limit = np.iinfo(dtype_of(array)).max
    if overlap not in get_args(Overlap):
        raise LabelsError(f"The overlap policy {overlap!r} does not exist: use {' or '.join(get_args(Overlap))}.")
    if not isinstance(label, (int, np.integer)) or label < 1:
        raise LabelsError(f"A label is a whole number from 1 on, and {label!r} is none: 0 is background.")
    if label > limit:
        raise LabelsError(
            f"Label {label} does not fit into {dtype_of(array)} labels (1 to {limit}): use labels of a larger type."
        )
    if len(plane.index) != len(array.shape) or not Box.of_shape(plane.shape_in(array.shape)).contains(mask.box):
        raise LabelsError(
            f"The mask at {mask.box.as_tuple()} reaches outside the labels of shape {tuple(array.shape)}: "
            "use labels of the image's shape."
        )
    before = _read(array, plane, mask.box)
    written = paste(before.copy(), mask, label, overlap)
    if not written.any():
        if overlap == "empty":
            raise LabelsError(
                "A part of the mask belongs to another object, and only empty places may be written to: choose another "
                "candidate, or the policy 'keep' or 'overwrite'."
            )
        raise LabelsError(
            "Every pixel of the mask belongs to other objects already: choose another candidate, or undo one of them."
        )
    return Edit(plane, mask.box, label, written, before)


def reverted(array: WritableArray, edit: Edit) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Return what an edit's box holds once the edit is taken back.

    Pixels that were changed again since stay as they are.

    Returns
    -------
    changed : numpy.ndarray
        Shape (rows, cols), bool: the pixels that differ from what the array holds now.
    values : numpy.ndarray
        Shape (rows, cols): the labels of the whole box.
    """
    return _reverted(edit, _read(array, edit.plane, edit.box))


def _reverted(edit: Edit, now: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    values = now.copy()
    changed = edit.written & (values == edit.label)
    values[changed] = edit.before[changed]
    return changed, values


def highest_label(array: WritableArray) -> int:
    """Return the highest label in use; of labels that cannot be given more bits, the highest below the end of the type.

    Of zarr arrays only the chunks that exist are read.

    Raises
    ------
    LabelsError
        The array cannot be read.
    """
    if isinstance(array, LabelPyramid):
        return array.highest_label()
    if isinstance(array, np.ndarray):
        highest = max(int(array.max(initial=0)), 0)
        if highest < end_of(array.dtype) or can_widen(array):
            return highest
    if _is_zarr(array):
        return Levels((array,)).highest()
    return max((highest_in(loaded(array, block), with_end=False) for block in blocks(array)), default=0)


def _read(array: WritableArray, plane: Plane, box: Box) -> NDArray[Any]:
    """Return a copy of the labels of a box, rows first."""
    return plane.oriented(loaded(array, plane.slicer(box)))


def _is_zarr(array: Any) -> TypeGuard[Any]:
    return not isinstance(array, (np.ndarray, LabelPyramid)) and type(array).__module__.partition(".")[0] == "zarr"
