"""Helpers of the tests of evaluation."""

from __future__ import annotations

import numpy as np

from napari_sam.core.geometry import Plane

FLAT = Plane.of((100, 100))


def disk(row: float, col: float, radius: float, shape: tuple[int, int] = (100, 100)) -> np.ndarray:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (cols - col) ** 2 <= radius**2


def nothing(shape: tuple[int, int]) -> np.ndarray:
    return np.zeros(shape, bool)


def squares(count: int, side: int = 10) -> np.ndarray:
    """Return an image of `count` squares, numbered from 1, on a grid with gaps."""
    labels = np.zeros((5 * (side + 4), 5 * (side + 4)), np.uint8)
    for i in range(count):
        row, col = (position * (side + 4) for position in divmod(i, 5))
        labels[row : row + side, col : col + side] = i + 1
    return labels
