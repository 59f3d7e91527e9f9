"""Lazy arrays for napari: slicing is delayed, and pixels are read only when they are converted to numpy.

napari slices the displayed axes first and picks the plane afterwards. With a plain zarr array it would read all planes
of the window; with delayed slices only the displayed pixels are read. Nothing is cached, so new labels are shown at the
next refresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class LazyArray:
    """An array of any kind, or a part of it, that is read when it is converted to numpy.

    Parameters
    ----------
    array
        Array to read from, with a shape and a dtype, indexed by whole numbers and slices.
    key
        A whole number or a range for each of its axes; by default all of it.
    """

    def __init__(self, array: Any, key: tuple[int | range, ...] | None = None) -> None:
        self._array = array
        self._key = tuple(range(int(length)) for length in array.shape) if key is None else key

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(part) for part in self._key if isinstance(part, range))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def dtype(self) -> np.dtype[Any]:
        return dtype_of(self._array)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of a chunk, if the array has regular ones."""
        chunks = getattr(self._array, "chunks", None)
        if not isinstance(chunks, tuple) or len(chunks) != len(self._key):
            return None
        return tuple(
            int(c if np.ndim(c) == 0 else max(c))
            for c, part in zip(chunks, self._key, strict=True)
            if isinstance(part, range)
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Return a part without reading it. For other indices than whole numbers and slices it is read first."""
        parts = key if isinstance(key, tuple) else (key,)
        if Ellipsis in [part for part in parts if part is Ellipsis]:
            at = next(i for i, part in enumerate(parts) if part is Ellipsis)
            missing = self.ndim - (len(parts) - 1)
            parts = (*parts[:at], *(slice(None),) * missing, *parts[at + 1 :])
        if len(parts) > self.ndim or not all(isinstance(part, (int, np.integer, slice)) for part in parts):
            return np.asarray(self)[key]
        given = iter((*parts, *(slice(None),) * (self.ndim - len(parts))))
        taken = tuple(part[_plain(next(given))] if isinstance(part, range) else part for part in self._key)
        return LazyArray(self._array, taken)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read this part."""
        backwards = [isinstance(part, range) and part.step < 0 for part in self._key]
        key = tuple(_slice(part) if isinstance(part, range) else part for part in self._key)
        read = np.asarray(self._array[key])
        flipped = [
            slice(None, None, -1 if back else 1)
            for back, part in zip(backwards, self._key, strict=True)
            if isinstance(part, range)
        ]
        return np.asarray(read[tuple(flipped)], dtype)


def lazy_levels(levels: Sequence[Any]) -> LazyArray | list[LazyArray]:
    """Return the data of a napari layer for the levels of a pyramid: a list, or the only level itself."""
    lazy = [LazyArray(level) for level in levels]
    return lazy if len(lazy) > 1 else lazy[0]


class Stacked:
    """Arrays of one shape as the channels of one array; a channel is read when it is indexed.

    Parameters
    ----------
    arrays
        Of one shape; the new axis is the first.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays = tuple(arrays)
        self.shape = (len(self.arrays), *(int(length) for length in self.arrays[0].shape))
        self.dtype = np.result_type(*(dtype_of(array) for array in self.arrays))

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of a chunk, if the arrays have regular ones."""
        chunks = LazyArray(self.arrays[0]).chunks
        return None if chunks is None else (1, *chunks)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part; the first entry of `key` is a number or a slice of channels."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [first, *rest]
        if isinstance(first, (int, np.integer)):
            return np.asarray(self.arrays[first][tuple(rest)])
        return np.stack([np.asarray(array[tuple(rest)]) for array in self.arrays[first]])


def dtype_of(array: Any) -> np.dtype[Any]:
    """Return the numpy type of an array of any kind; tensorstore has types of its own."""
    dtype: np.dtype[Any] = np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))
    return dtype


def _plain(part: Any) -> Any:
    return int(part) if isinstance(part, np.integer) else part


def _slice(part: range) -> slice:
    if len(part) == 0:
        return slice(0, 0)
    low, high = min(part[0], part[-1]), max(part[0], part[-1])
    return slice(low, high + 1, abs(part.step) if abs(part.step) > 1 else None)


# The public name.
LazyLevel = LazyArray
