"""Free labels: which number a new object gets.

New objects are numbered after the highest label. The highest number of a type, such as 255 or 65535, often marks pixels
to be ignored: labels that cannot be given more bits are numbered after the highest label below it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.images.lazy.levels import dtype_of
from napari_sam.labels.regions import WritableArray, blocks, loaded


def end_of(dtype: np.dtype[Any]) -> int:
    """Return the highest number of an integer type."""
    return int(np.iinfo(dtype).max)


def can_widen(array: Any) -> bool:
    """Return whether labels can be given more bits: in memory, or in a label pyramid; up to 32."""
    own = getattr(array, "can_widen", None)
    if own is not None:
        return bool(own)
    return isinstance(array, np.ndarray) and not isinstance(array, np.memmap) and array.dtype.itemsize < 4


def highest_in(values: NDArray[Any], *, with_end: bool) -> int:
    """Return the highest label of some pixels, 0 where there is none; with or without the end of their type."""
    highest = max(int(values.max(initial=0)), 0)
    if with_end or highest < end_of(values.dtype):
        return highest
    return max(int(values[values != highest].max(initial=0)), 0)


def is_used(array: WritableArray, label: int) -> bool:
    """Return whether any pixel has a label; the whole array is searched, block by block.

    Raises
    ------
    LabelsError
        It cannot be read.
    """
    return any(bool((loaded(array, block) == label).any()) for block in blocks(array))


def lowest_free(array: WritableArray) -> int | None:
    """Return the lowest number from 1 on that no pixel has, or None where all are in use; searched block by block.

    Raises
    ------
    LabelsError
        The array cannot be read.
    """
    used: set[int] = set()
    for block in blocks(array):
        used.update(np.unique(loaded(array, block)).tolist())
    free = next(number for number in range(1, len(used) + 2) if number not in used)
    return free if free <= end_of(dtype_of(array)) else None
