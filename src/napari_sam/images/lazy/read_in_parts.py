"""ReadInParts: an array of a library that reads contiguous parts only, indexed like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.images.lazy.blocks import whole_key

Read = Callable[[tuple[slice, ...]], NDArray[Any]]
"""Reads a part: a slice with a start, a stop and no step for each axis, never an empty one."""


class ReadInParts:
    """An array that is read when it is sliced, by whole numbers and by slices with any step.

    Parameters
    ----------
    shape, dtype, chunks
        As of arrays.
    read
        Reads a part.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: tuple[int, ...], read: Read) -> None:
        self.shape, self.dtype, self.chunks = shape, dtype, chunks
        self._read = read

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        spans = [_span(part, length) for part, length in zip(whole_key(key, len(self.shape)), self.shape, strict=True)]
        parts = tuple(read for read, _ in spans)
        lengths = [part.stop - part.start for part in parts]
        block = self._read(parts) if all(lengths) else np.empty(lengths, self.dtype)
        return np.asarray(block[tuple(picked for _, picked in spans)])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[...], dtype)


def _span(part: Any, length: int) -> tuple[slice, int | slice]:
    """Return the part of an axis that an index needs, and the index in that part."""
    wanted = range(length)[part]
    if isinstance(wanted, int):
        return slice(wanted, wanted + 1), 0
    if not wanted:
        return slice(0, 0), slice(None)
    low, high = sorted((wanted[0], wanted[-1]))
    return slice(low, high + 1), slice(None, None, wanted.step)
