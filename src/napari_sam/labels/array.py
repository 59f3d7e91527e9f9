"""LabelArray: labels in an array of any kind, read and changed box by box."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.errors import LabelsError
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.labels.access import access_of, path_of
from napari_sam.labels.additions import EditLog
from napari_sam.labels.edit import LabelEdit, plan_edit, plan_undo
from napari_sam.labels.object_edits import plan_objects
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.regions import WritableArray as WritableArray
from napari_sam.labels.regions import (
    blocks,
    can_widen,
    check_whole,
    end_of,
    fitting,
    free_numbers,
    highest_in,
    is_used,
    loaded,
    region_of,
    wider,
)
from napari_sam.labels.storage.levels import Levels, not_written


class LabelArray:
    """Labels of a whole volume, changed only under the boxes of edits.

    Parameters
    ----------
    array
        Integer labels with the volume's shape; 0 is background. A numpy, zarr or tensorstore array, or a
        `LabelPyramid`. Read them from `LabelArray.array` after a write: where the next free label does not fit into a
        numpy array, a wider copy replaces it.

    Raises
    ------
    LabelsError
        The array does not hold whole numbers, or cannot be written to.
    """

    def __init__(self, array: WritableArray) -> None:
        check_labels(array)
        self.array = array
        self._levels = Levels((array,)) if _is_zarr(array) else None
        # The packed edits that each undo takes back; and those of a block of `together`, which is still open.
        self._written: list[list[bytes]] = []
        self._group: list[bytes] | None = None
        self._log: EditLog | None = None
        self._highest: int | None = None
        self._stamp = access_of(array).stamp()

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.array.shape)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other writers of the same labels out, in all programs, after following what they have written.

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
            if self._levels is None or path_of(self.array) is None:
                yield
                return
            with self._levels.reusing_chunks():
                yield

    @property
    def next_label(self) -> int:
        """A free label, above all that are in use; see `free_labels`."""
        return self.free_labels(1)[0]

    def free_labels(self, count: int) -> Sequence[int]:
        """Return the labels that the next objects get, in order.

        The whole array is searched for the highest label once, block by block; then they are counted. Where labels
        above it do not fit into the type of the array, and this cannot be widened, they are the lowest free ones,
        followed by numbers that do not fit.
        """
        with self.exclusive():
            first, end = self.highest_label + 1, end_of(dtype_of(self.array))
            if first + count <= end or can_widen(self.array):
                return range(first, first + count)
            return list(islice(self._last_labels(first, end), count))

    def _last_labels(self, first: int, end: int) -> Iterator[int]:
        yield from range(first, end)
        if not is_used(self.array, end):
            yield end
        yield from (label for label in free_numbers(self.array) if label < first)
        yield from itertools.count(end + 1)

    @property
    def highest_label(self) -> int:
        """The highest label in use; see the function `highest_label`."""
        with self.exclusive():
            if self._highest is None:
                if self._levels is not None:
                    self._levels.remove_leftovers()
                self._highest = highest_label(self.array)
            return self._highest

    @property
    def is_searched(self) -> bool:
        """Whether the highest label is known, so that the next write need not search all labels for it."""
        return self._highest is not None

    @property
    def is_empty(self) -> bool:
        """Whether there is no object."""
        return self.highest_label == 0

    def note_highest(self, highest: int | None) -> None:
        """Set the highest label, known from elsewhere; None: it is searched for when it is needed next."""
        self._highest = highest

    def note_used(self, label: int) -> None:
        """Note that a label is in use."""
        if self._highest is not None and (label < end_of(dtype_of(self.array)) or can_widen(self.array)):
            self._highest = max(self._highest, label)

    def release(self, label: int, highest: int | None) -> None:
        """Make a label free again that was taken back, unless a higher one was given since.

        Parameters
        ----------
        label
            The label.
        highest
            The highest label before it was given, or None where that is not known.
        """
        if self._highest == label:
            self._highest = highest

    def read(self, plane: Plane, box: Box) -> NDArray[Any]:
        """Return a copy of the labels of a box, shape (rows, cols).

        Raises
        ------
        LabelsError
            They cannot be read.
        """
        key = plane.slicer(box)
        if isinstance(self.array, LabelPyramid):
            return plane.oriented(self.array.read_box(key))
        if self._levels is not None:
            region, kept = region_of(key, self.shape)
            lengths = [at.stop - at.start for at, keep in zip(region, kept, strict=True) if keep]
            return plane.oriented(self._levels.read_box(region).reshape(lengths))
        return plane.oriented(loaded(self.array, key))

    def write(self, plane: Plane, mask: Mask, label: int | None = None, overlap: Overlap = "keep") -> LabelEdit:
        """Write a mask under a label.

        Parameters
        ----------
        plane
            The plane of the mask.
        mask
            The pixels to write.
        label
            The label. By default the next free one, for which the labels are widened where it does not fit.
        overlap
            "keep" leaves pixels of other labels alone, "overwrite" replaces them, "empty" refuses a mask that covers
            any.

        Raises
        ------
        LabelsError
            The mask is empty, nothing of it may be written, the label does not fit the array's type, or the array
            cannot be written to; the labels are unchanged.
        """
        with self.exclusive():
            value = self.next_label if label is None else label
            highest = self._highest
            edit = plan_edit(self, plane, mask, value, overlap, widens=label is None)
            edit = replace(edit, highest_before=highest)
            self._apply_undoable(edit)
            return edit

    def write_all(self, plane: Plane, masks: Sequence[Mask], overlap: Overlap = "keep") -> list[int | None]:
        """Write masks as new objects, with one read and one write of the labels around all of them.

        Parameters
        ----------
        plane
            The plane of the masks.
        masks
            The masks in order of falling priority: a pixel of several belongs to the first of them.
        overlap
            As in `write`; "empty" leaves out masks that meet other labels or masks before them.

        Returns
        -------
        list of int or None
            The label of each mask; None where nothing of it could be written.

        Raises
        ------
        LabelsError
            There is no mask, one reaches outside the labels, or the array cannot be written to; the labels are
            unchanged.
        """
        with self.exclusive():
            free, highest = self.free_labels(len(masks)), self._highest
            edit, labels, _ = plan_objects(self, plane, masks, free, overlap)
            if not edit.changes_nothing:
                self._apply_undoable(replace(edit, highest_before=highest))
            return labels

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let one `undo` take back all that is written in this block, or in a block around it."""
        before, self._group = self._group, [] if self._group is None else self._group
        try:
            yield
        finally:
            self._group = before

    def undo(self) -> LabelEdit | None:
        """Take back the last write, or all of a block of `together`, and return the first of them; None without any.

        Pixels that were changed again since stay as they are.

        Raises
        ------
        LabelsError
            The array cannot be read or written to; the labels are as they were, but for later writes of the block.
        """
        if not self._written:
            return None
        with self.exclusive():
            while self._written[-1]:
                edit = LabelEdit.unpack(self._written[-1][-1], self.shape)
                self.apply(plan_undo(self, edit))
                self._written[-1].pop()
                self.release(edit.label, edit.highest_before)
            self._written.pop()
        return edit

    def _apply_undoable(self, edit: LabelEdit) -> None:
        self.apply(edit)
        group = [] if self._group is None else self._group
        group.append(edit.pack())
        if len(group) == 1:
            self._written.append(group)

    def apply(self, edit: LabelEdit) -> None:
        """Write a planned edit, without reading the labels again.

        Raises
        ------
        LabelsError
            It does not fit, or the array cannot be written to; the labels are as they were.
        """
        with self.exclusive():
            if int(edit.after.max(initial=0)) > np.iinfo(dtype_of(self.array)).max:
                self.widen()
            if self._log is not None:
                self._log.append(replace(edit, highest_before=self.highest_label))
            try:
                self._write(edit)
            finally:
                self._stamp = access_of(self.array).written()
            self.note_used(highest_in(edit.after, with_end=can_widen(self.array)))

    @contextmanager
    def logged_by(self, log: EditLog) -> Iterator[None]:
        """Append every edit to a log before it is written."""
        before, self._log = self._log, log
        try:
            yield
        finally:
            self._log = before

    def widen(self) -> None:
        """Give the labels 32 bits.

        Raises
        ------
        LabelsError
            They have 32 already, or cannot be widened.
        """
        with self.exclusive():
            self._widen()
            self._stamp = access_of(self.array).stamp()

    def _widen(self) -> None:
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

    def _write(self, edit: LabelEdit) -> None:
        key = edit.plane.slicer(edit.box)
        if self._levels is not None:
            region, kept = region_of(key, self.array.shape)
            block = fitting(edit.plane.oriented(edit.after), region, kept, dtype_of(self.array))
            self._levels.write(region, block)
            return
        try:
            self.array[key] = edit.plane.oriented(edit.after)
        except LabelsError:
            raise
        except Exception as error:
            try:
                self.array[key] = edit.plane.oriented(edit.before)
            except Exception:
                raise not_written(error, "may be half written") from error
            raise not_written(error) from error


def check_labels(array: WritableArray) -> None:
    """Refuse an array that labels cannot be written into.

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


def highest_label(array: WritableArray) -> int:
    """Return the highest label in use; where labels cannot be widened, the highest below the end of the type.

    The highest number of a type, such as 255 or 65535, often marks pixels to be ignored. Of zarr arrays only the chunks
    that exist are read.

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


def _is_zarr(array: Any) -> TypeGuard[Any]:
    return not isinstance(array, (np.ndarray, LabelPyramid)) and type(array).__module__.partition(".")[0] == "zarr"
