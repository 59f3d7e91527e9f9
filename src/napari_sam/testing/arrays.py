"""CountingArray: an image that records which blocks of it are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LATTICE = 100
RADIUS = 11


class CountingArray:
    """Image array that records the shape of every block that is read.

    It has `shape`, `dtype` and basic indexing only, as a lazy array of another library may have, so `numpy.asarray`
    of it is no shortcut to the whole image.

    Parameters
    ----------
    pixels
        Values of the image, of any shape. If None, the array is a virtual uint8 image of gray value 20 with discs of
        value 200 and radius 11 pixels, whose centers are 100 pixels apart in the last two axes.
    shape
        Shape of the virtual image, which takes no memory at any size; ignored where `pixels` is given.

    Attributes
    ----------
    shape : tuple of int
        Shape of the image.
    dtype : numpy.dtype
        Type of the values.
    reads : list of tuple of int
        Shape of each block in the order in which they were read, without axes that were indexed by an integer.

    Examples
    --------
    >>> image = CountingArray(shape=(1_000_000, 1_000_000))
    >>> int(image[50:52, 40:60].max())
    200
    >>> image.reads, image.pixels_read
    ([(2, 20)], 40)
    """

    def __init__(self, pixels: NDArray[Any] | None = None, shape: tuple[int, ...] = ()) -> None:
        self._pixels = pixels
        self.shape = shape if pixels is None else pixels.shape
        self.dtype: np.dtype[Any] = np.dtype(np.uint8) if pixels is None else pixels.dtype
        self.reads: list[tuple[int, ...]] = []

    def __getitem__(self, key: tuple[slice | int, ...]) -> NDArray[Any]:
        lengths = [len(range(*k.indices(n))) for k, n in zip(key, self.shape, strict=False) if isinstance(k, slice)]
        self.reads.append(tuple(lengths))
        if self._pixels is not None:
            return np.asarray(self._pixels[key])
        rows, cols = (
            np.arange(*k.indices(n)) % LATTICE - LATTICE // 2
            for k, n in zip(key[-2:], self.shape[-2:], strict=True)
            if isinstance(k, slice)
        )
        return np.where(rows[:, None] ** 2 + cols[None] ** 2 <= RADIUS**2, 200, 20).astype(np.uint8)

    @property
    def pixels_read(self) -> int:
        """Number of values in all blocks that were read."""
        return sum(int(np.prod(lengths)) for lengths in self.reads)
