"""Rescale stored numbers to the values that they stand for, when they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.images.lazy.recoloring import Recoloring

INTEGERS = tuple(np.dtype(name) for name in ("u1", "i1", "u2", "i2", "u4", "i4"))


def rescaled(array: Any, slope: float = 1.0, intercept: float = 0.0, bits: int | None = None) -> Any:
    """Return an array of value * slope + intercept, in the byte order of this computer.

    Whole numbers stay whole where slope and intercept are, so that Hounsfield units are; other values are float32.

    Parameters
    ----------
    array
        The stored numbers: converted at once if they are in memory, else when parts of them are read.
    slope, intercept
        As files state them; 1 and 0 where they are no numbers, as NIfTI says.
    bits
        How many bits of whole numbers are in use; by default all of them.
    """
    stored = np.dtype(array.dtype)
    is_used = np.isfinite(slope) and np.isfinite(intercept) and slope != 0
    if not is_used or (slope == 1 and intercept == 0):
        native = stored.newbyteorder("=")
        return array if stored == native else Recoloring(lambda values: values.astype(native), native, 0, 0)(array)
    dtype = _holding(stored, slope, intercept, bits)

    def convert(values: NDArray[Any]) -> NDArray[Any]:
        wide = np.int64 if dtype.kind in "iu" else np.float64
        return np.asarray(values.astype(wide) * wide(slope) + wide(intercept)).astype(dtype)

    return Recoloring(convert, dtype, 0, 0)(array)


def _holding(stored: np.dtype[Any], slope: float, intercept: float, bits: int | None) -> np.dtype[Any]:
    """Return the smallest type of whole numbers that holds all values, or float32."""
    if stored.kind in "iu" and float(slope).is_integer() and float(intercept).is_integer():
        used = 8 * stored.itemsize if bits is None else min(bits, 8 * stored.itemsize)
        low, high = (-(2 ** (used - 1)), 2 ** (used - 1) - 1) if stored.kind == "i" else (0, 2**used - 1)
        ends = sorted(int(slope) * end + int(intercept) for end in (low, high))
        for dtype in INTEGERS:
            limits = np.iinfo(dtype)
            if limits.min <= ends[0] and ends[1] <= limits.max:
                return dtype
    return np.dtype(np.float32 if stored.itemsize < 8 else np.float64)
