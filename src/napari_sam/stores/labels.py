"""LabelStore: masks into an integer array, box by box, each with a way back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap, paste
from napari_sam.errors import LabelsError


class WritableArray(Protocol):
    """A numpy or zarr array of labels."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...

    def __setitem__(self, key: Any, value: Any, /) -> None: ...


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
        Shape (rows, cols), bool: the pixels that changed.
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
        """Number of pixels that the write changed."""
        return int(np.count_nonzero(self.written))

    @property
    def written_box(self) -> Box:
        """The smallest box that holds the pixels that the write changed."""
        return Mask(self.box, self.written).tightened().box


class LabelStore:
    """Labels of a whole volume, changed only under the boxes of masks.

    Parameters
    ----------
    array
        Integer labels with the volume's shape; 0 is background.

    Raises
    ------
    LabelsError
        The array does not hold whole numbers, or cannot be written to.
    """

    def __init__(self, array: WritableArray) -> None:
        check_labels(array)
        self.array = array
        self._edits: list[Edit] = []
        self._highest: int | None = None

    @property
    def next_label(self) -> int:
        """A label above all that are in use; the whole array is looked through once, block by block."""
        if self._highest is None:
            self._highest = highest_label(self.array)
        return self._highest + 1

    def write(self, plane: Plane, mask: Mask, label: int | None = None, overlap: Overlap = "keep") -> Edit:
        """Write a mask under a label.

        Parameters
        ----------
        plane
            The plane that the mask lies in.
        mask
            What to write.
        label
            The value; the next free one when left out.
        overlap
            "keep" leaves pixels of other labels alone, "overwrite" takes them.

        Raises
        ------
        LabelsError
            The mask is empty, nothing of it is free, or the label does not fit the array's type.
        """
        value = self.next_label if label is None else label
        edit = replace(plan_edit(self.array, plane, mask, value, overlap), highest_before=self._highest)
        after = edit.before.copy()
        after[edit.written] = edit.label
        self._put(edit, after)
        self._edits.append(edit)
        if self._highest is not None:
            self._highest = max(self._highest, edit.label)
        return edit

    def undo(self) -> Edit | None:
        """Put back what the last write replaced and return that write; None when there is none left."""
        if not self._edits:
            return None
        edit = self._edits[-1]
        self._put(edit, reverted(self.array, edit)[1])
        self._edits.pop()
        if self._highest == edit.label:
            self._highest = edit.highest_before
        return edit

    def _put(self, edit: Edit, values: NDArray[Any]) -> None:
        self.array[edit.plane.slicer(edit.box)] = edit.plane.oriented(values)


def check_labels(array: WritableArray) -> None:
    """Refuse an array that cannot take labels.

    Raises
    ------
    LabelsError
        It does not hold whole numbers, or it is read-only or lazy.
    """
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "ui":
        raise LabelsError(
            f"Labels must be whole numbers and this target holds {dtype}: convert it, for example by .astype('uint16')."
        )
    if isinstance(array, np.ndarray):
        writable = bool(array.flags.writeable)
    else:
        lazy = type(array).__module__.startswith("dask")
        writable = hasattr(array, "__setitem__") and not lazy and not getattr(array, "read_only", False)
    if not writable:
        raise LabelsError(
            "This labels target cannot be written to: give a numpy array or a zarr array opened with mode='r+'."
        )


def plan_edit(array: WritableArray, plane: Plane, mask: Mask, label: int, overlap: Overlap) -> Edit:
    """Return what writing a mask would change, without changing anything.

    Raises
    ------
    LabelsError
        The mask is empty, no pixel of it is free, or the label does not fit.
    """
    if mask.area == 0:
        raise LabelsError("The mask is empty, so there is nothing to accept: move or add a prompt.")
    limit = np.iinfo(np.dtype(array.dtype)).max
    if overlap not in get_args(Overlap):
        raise LabelsError(f"The overlap policy {overlap!r} does not exist: use {' or '.join(get_args(Overlap))}.")
    if not isinstance(label, (int, np.integer)) or label < 1:
        raise LabelsError(f"A label is a whole number from 1 on, and {label!r} is none: 0 is background.")
    if label > limit:
        raise LabelsError(
            f"Label {label} does not fit into {array.dtype} labels (1 to {limit}): use labels of a larger type."
        )
    if len(plane.index) != len(array.shape) or not Box.of_shape(plane.shape_in(array.shape)).contains(mask.box):
        raise LabelsError(
            f"The mask at {mask.box.as_tuple()} reaches outside the labels of shape {tuple(array.shape)}: "
            "use labels of the image's shape."
        )
    before = plane.oriented(np.array(array[plane.slicer(mask.box)]))
    written = paste(before.copy(), mask, label, overlap)
    if not written.any():
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
    values = edit.plane.oriented(np.array(array[edit.plane.slicer(edit.box)]))
    changed = edit.written & (values == edit.label)
    values[changed] = edit.before[changed]
    return changed, values


def highest_label(array: WritableArray) -> int:
    """Return the largest value of an integer array, reading one slab of its first axis at a time."""
    if isinstance(array, np.ndarray):
        return max(int(array.max(initial=0)), 0)
    step = max(1, int(2**24 // max(int(np.prod(array.shape[1:], dtype=np.int64)), 1)))
    slabs = range(0, array.shape[0], step)
    return max((int(np.asarray(array[start : start + step]).max(initial=0)) for start in slabs), default=0)
