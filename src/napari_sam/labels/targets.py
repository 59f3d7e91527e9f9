"""What a journal writes into: labels that are read and changed box by box."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.labels.array import Edit, LabelStore
from napari_sam.labels.free_labels import can_widen, highest_in
from napari_sam.labels.regions import WritableArray, loaded


class Target(Protocol):
    """Labels as a journal needs them; `LabelTarget` is the one for arrays, a viewer has its own for its layers."""

    @property
    def array(self) -> WritableArray:
        """The labels; another array after `widen`."""
        ...

    @property
    def next_label(self) -> int:
        """A label above all that are in use."""
        ...

    def put(self, plane: Plane, box: Box, values: NDArray[Any]) -> None:
        """Write the labels, shape (rows, cols), of a box; raises LabelsError and leaves all as it was, or does it."""
        ...

    def widen(self) -> None:
        """Give the labels more bits, or raise LabelsError."""
        ...

    def release(self, label: int, highest: int) -> None:
        """Take a label that was undone as free: `highest` was the highest one before it was accepted."""
        ...


class LabelTarget(LabelStore):
    """Labels in an array, which a journal writes into: numpy, zarr, tensorstore or a `LabelPyramid`.

    Parameters
    ----------
    array
        As in `LabelStore`.

    Raises
    ------
    LabelsError
        As in `LabelStore`.
    """

    def put(self, plane: Plane, box: Box, values: NDArray[Any]) -> None:
        """Write the labels, shape (rows, cols), of a box.

        Raises
        ------
        LabelsError
            They do not fit, or the array cannot be written to; the labels are as they were.
        """
        with self.exclusive():
            before = read(self.array, plane, box)
            self._put(Edit(plane, box, 0, np.zeros(values.shape, bool), before), values, before)
            self._note_used(highest_in(values, with_end=can_widen(self.array)))

    def widen(self) -> None:
        """Give the labels more bits.

        Raises
        ------
        LabelsError
            They have 32 already, or cannot be given more.
        """
        with self.exclusive():
            self._widen()

    def release(self, label: int, highest: int) -> None:
        """Take a label that was undone as free: `highest` was the highest one before it was accepted."""
        if self._highest == label:
            self._highest = highest


def exclusive(target: Target) -> AbstractContextManager[None]:
    """Keep out all others that write into the labels of a target, where it can."""
    enter: Callable[[], AbstractContextManager[None]] = getattr(target, "exclusive", nullcontext)
    return enter()


def is_empty(target: Target) -> bool:
    """Return whether the labels of a target hold no object."""
    return bool(target.is_empty) if isinstance(target, LabelStore) else target.next_label == 1


def read(array: WritableArray, plane: Plane, box: Box) -> NDArray[Any]:
    """Return a copy of the labels of a box, rows first.

    Raises
    ------
    LabelsError
        They cannot be read.
    """
    return plane.oriented(loaded(array, plane.slicer(box)))
