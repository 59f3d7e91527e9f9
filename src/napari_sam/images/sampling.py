"""Contrast limits of a whole volume from a few blocks of its pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.rendering import percentile_limits

SAMPLE_PIXELS = 2**22
SAMPLE_PLANES = 32
SAMPLE_BLOCKS = 24
SAMPLE_BLOCK_SIDE = 256


def sample_blocks(shape: Sequence[int], read: Callable[[Plane, Box], NDArray[Any]]) -> NDArray[Any]:
    """Read a few blocks spread over a volume, along its last two axes; of a small volume a few whole planes.

    Parameters
    ----------
    shape
        Of the volume, without its channel axis.
    read
        Reads a box of a plane, shape (rows, cols) or (rows, cols, channels).

    Returns
    -------
    numpy.ndarray
        Shape (n,), or (n, channels).
    """
    *others, height, width = shape
    count = math.prod(others)
    if count * height * width <= SAMPLE_PIXELS:
        chosen = np.unique(np.linspace(0, count - 1, min(count, SAMPLE_PLANES)).astype(int))
        spots = [(int(number), Box(0, 0, height, width)) for number in chosen]
    else:
        spots = list(_spread(count, height, width))
    blocks = [
        read(Plane.of(shape, [int(i) for i in np.unravel_index(number, others)] if others else None), box)
        for number, box in spots
    ]
    return np.concatenate([block.reshape(-1, *block.shape[2:]) for block in blocks])


def sampled_limits(sample: NDArray[Any], shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the contrast limits (low, high) of a volume of `shape` and `dtype` from its sampled pixels."""
    low, high = percentile_limits(sample)
    is_sampled = math.prod(shape) > SAMPLE_PIXELS
    if is_sampled and low == high and dtype.kind in "ui" and sample.size and sample.min() == sample.max():
        # Blocks of a sparsely filled image that are all alike show no range: use that of the type.
        info = np.iinfo(dtype)
        return float(info.min), float(info.max)
    return low, high


def _spread(count: int, height: int, width: int) -> Iterator[tuple[int, Box]]:
    """Yield blocks spread evenly, and the same each time, over all planes: (plane number, box)."""
    rows, cols = min(height, SAMPLE_BLOCK_SIDE), min(width, SAMPLE_BLOCK_SIDE)
    # The plastic number's powers (Roberts 2018): points of a sequence that leaves no large hole in three dimensions.
    steps = 1 / 1.2207440846057596 ** np.arange(1, 4)
    for number in range(SAMPLE_BLOCKS):
        z, y, x = (0.5 + number * steps) % 1
        top, left = round(y * (height - rows)), round(x * (width - cols))
        yield int(z * count), Box(top, left, top + rows, left + cols)
