"""A cache of blocks of pixels, and indices of arrays."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.images.lazy.levels import dtype_of

KEPT_BYTES = 64 * 2**20


class BlockCache:
    """Cache of the last blocks, up to a number of bytes, so that overlapping tiles read no chunk twice."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[tuple[int, Plane, Box], NDArray[Any]] = OrderedDict()
        self._lock = Lock()

    def get(self, level: int, plane: Plane, box: Box) -> NDArray[Any] | None:
        """Return the pixels of a box if one cached block contains it."""
        with self._lock:
            for key, block in reversed(self._blocks.items()):
                if key[0] == level and key[1] == plane and key[2].contains(box):
                    self._blocks.move_to_end(key)
                    return block[box.moved(-key[2].top, -key[2].left).slices]
        return None

    def put(self, level: int, plane: Plane, box: Box, block: NDArray[Any]) -> None:
        """Store a block, unless it is larger than half of the capacity."""
        if block.nbytes > self._capacity / 2:
            return
        with self._lock:
            self._blocks[level, plane, box] = block
            while sum(kept.nbytes for kept in self._blocks.values()) > self._capacity:
                self._blocks.popitem(last=False)

    def clear(self) -> None:
        """Remove all blocks."""
        with self._lock:
            self._blocks.clear()


def grown_to_chunks(array: Any, axes: tuple[int, int], box: Box, shape: tuple[int, int]) -> Box:
    """Return a box extended to the borders of its chunks, which are read as a whole anyway."""
    chunks = getattr(array, "chunks", None)
    if isinstance(array, np.ndarray) or not isinstance(chunks, tuple) or len(chunks) != len(array.shape):
        return box
    rows, cols = (int(chunks[axis] if np.ndim(chunks[axis]) == 0 else max(chunks[axis])) for axis in axes)
    grown = Box(
        box.top // rows * rows, box.left // cols * cols, -(-box.bottom // rows) * rows, -(-box.right // cols) * cols
    ).intersection(Box.of_shape(shape))
    size = dtype_of(array).itemsize * grown.height * grown.width
    return grown if size <= KEPT_BYTES / 4 else box


def whole_key(key: Any, ndim: int) -> tuple[Any, ...]:
    """Return an index with one entry for each axis from an abbreviated one.

    Raises
    ------
    IndexError
        It has more entries than there are axes.
    """
    parts = key if isinstance(key, tuple) else (key,)
    missing = ndim - sum(part is not Ellipsis for part in parts)
    if missing < 0:
        raise IndexError(f"{len(parts)} indices were given and there are {ndim} axes.")
    if not any(part is Ellipsis for part in parts):
        return (*parts, *(slice(None),) * missing)
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    return (*parts[:at], *(slice(None),) * missing, *parts[at + 1 :])
