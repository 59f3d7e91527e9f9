"""Fill polygons at a cost that grows with their area and outline, not with the product of the two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Pixels that are filled together; bounds the memory of the fill.
BAND_PIXELS = 2**22
# An outline this close to a pixel's center, in pixels, passes through it: intersections are rounded.
ON_CENTER = 1e-9


def fill_polygon(corners: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels of an array whose centers lie inside a polygon or on its outline.

    A center is inside when a line from it to infinity crosses the outline an odd number of times (even-odd rule), as
    in `skimage.draw.polygon`, which tests every corner for every pixel: 5 s for 1000 corners around 3 million pixels.

    Parameters
    ----------
    corners
        Shape (n, 2), (row, col), whole numbers being pixel centers; the last corner is joined to the first.
    shape
        Rows and columns of the array.

    Returns
    -------
    numpy.ndarray
        Shape `shape`, bool.
    """
    filled = np.zeros(shape, np.bool_)
    rows, cols = shape
    start, end = corners, np.roll(corners, -1, axis=0)
    order = start[:, :1] <= end[:, :1]
    upper, lower = np.where(order, start, end), np.where(order, end, start)
    _fill_level_edges(filled, upper, lower)
    band = max(1, BAND_PIXELS // max(cols, 1))
    # An edge crosses the rows from its upper end up to, not including, its lower end.
    first, stop = (np.ceil(side[:, 0]).clip(0, rows).astype(np.int64) for side in (upper, lower))
    for top in range(0, rows, band):
        bottom = min(top + band, rows)
        crossing = (first < bottom) & (stop > top)
        if crossing.any():
            a, b = (np.clip(ends[crossing], top, bottom) for ends in (first, stop))
            _fill_rows(filled[top:bottom], *_crossings(upper[crossing], lower[crossing], a, b), top)
    return filled


def _crossings(
    upper: NDArray[np.float64], lower: NDArray[np.float64], first: NDArray[np.int64], stop: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the row and the column of every crossing of an edge with a row, ordered by row, then column."""
    count = stop - first
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (lower[edge, 1] - upper[edge, 1]) / (lower[edge, 0] - upper[edge, 0])
    col = upper[edge, 1] + (row - upper[edge, 0]) * slope
    whole = np.rint(col)
    col = np.where(np.abs(col - whole) < ON_CENTER, whole, col)
    order = np.lexsort((col, row))
    return row[order], col[order]


def _fill_rows(band: NDArray[np.bool_], row: NDArray[np.int64], col: NDArray[np.float64], top: int) -> None:
    """Fill between the first and second crossing of each row, the third and fourth, and so on."""
    width = band.shape[1]
    left = np.ceil(col[::2]).clip(0, width).astype(np.int64)
    right = (np.floor(col[1::2]) + 1).clip(0, width).astype(np.int64)
    keep = left < right
    edges = np.zeros((band.shape[0], width + 1), np.int32)
    at = row[::2][keep] - top
    np.add.at(edges, (at, left[keep]), 1)
    np.add.at(edges, (at, right[keep]), -1)
    band |= edges.cumsum(axis=1)[:, :width] > 0


def _fill_level_edges(filled: NDArray[np.bool_], upper: NDArray[np.float64], lower: NDArray[np.float64]) -> None:
    """Fill corners and edges along a row, which the crossings of rows leave out where they are a lower end."""
    rows, cols = filled.shape
    is_level = upper[:, 0] == lower[:, 0]
    left, right = (side(upper[:, 1], lower[:, 1]) for side in (np.minimum, np.maximum))
    for ends, a, b in ((upper[is_level], left[is_level], right[is_level]), (lower, lower[:, 1], lower[:, 1])):
        row, low, high = ends[:, 0], np.ceil(a).clip(0, cols), (np.floor(b) + 1).clip(0, cols)
        whole = (row == np.floor(row)) & (row >= 0) & (row < rows) & (low < high)
        for r, x0, x1 in zip(row[whole], low[whole], high[whole], strict=True):
            filled[int(r), int(x0) : int(x1)] = True
