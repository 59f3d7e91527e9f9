"""Rotate and mirror images upright by the orientation tag of EXIF and TIFF."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.images.lazy.blocks import whole_key
from napari_sam.images.lazy.levels import LazyArray, dtype_of
from napari_sam.images.source import ArrayLike

# For each orientation: whether rows and columns are exchanged, and then whether rows and whether columns are reversed.
TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
ORIENTATION = 274


class Upright:
    """An array whose planes are rotated when they are read.

    Parameters
    ----------
    array
        The stored pixels.
    orientation
        From 2 to 8, as EXIF and TIFF define it.
    row
        The array axis of the rows; the columns are the axis after it.
    """

    def __init__(self, array: ArrayLike, orientation: int, row: int) -> None:
        self._swapped, up, left = TURNS[orientation]
        self._row = row
        flips = [slice(None, None, -1 if flip else None) for flip in (up, left)]
        if self._swapped:
            flips.reverse()
        self._array = LazyArray(array)[(*(slice(None),) * row, *flips)]
        self.shape: tuple[int, ...] = self._turned(self._array.shape)
        self.dtype: np.dtype[Any] = dtype_of(array)
        chunks = LazyArray(array).chunks
        self.chunks = None if chunks is None else self._turned(chunks)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        parts = whole_key(key, len(self.shape))
        block = np.asarray(self._array[self._turned(parts)])
        if self._swapped and all(isinstance(part, slice) for part in parts[self._row : self._row + 2]):
            at = sum(isinstance(part, slice) for part in parts[: self._row])
            block = np.swapaxes(block, at, at + 1)
        return block

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[...], dtype)

    def _turned(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self._swapped:
            return values
        row, col = values[self._row : self._row + 2]
        return (*values[: self._row], col, row, *values[self._row + 2 :])


def upright(array: Any, orientation: int, row: int = 0) -> Any:
    """Return an array upright: a view of an array in memory, else an array that is rotated when it is read.

    Parameters
    ----------
    array
        Of any shape.
    orientation
        From 1 to 8; anything else counts as 1, upright.
    row
        The axis of the rows; the columns are the axis after it.
    """
    if orientation not in TURNS:
        return array
    if not isinstance(array, np.ndarray):
        return Upright(array, orientation, row)
    swapped, up, left = TURNS[orientation]
    turned = np.swapaxes(array, row, row + 1) if swapped else array
    flips = (slice(None, None, -1 if flip else None) for flip in (up, left))
    return turned[(*(slice(None),) * row, *flips)]


def exchanges_axes(orientation: int) -> bool:
    """Return whether rows and columns are exchanged."""
    return orientation in TURNS and TURNS[orientation][0]
