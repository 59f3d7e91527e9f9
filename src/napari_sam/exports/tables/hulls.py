"""Convex hulls of many objects at once, row by row of all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Corners that lie on an edge of a hull, but for the error of the computer.
TOLERANCE = 1e-9


def convex_areas(y: NDArray[np.intp], x: NDArray[np.intp], owners: NDArray[np.intp], count: int) -> NDArray[np.int64]:
    """Return the number of pixels whose centers lie in the convex hull of each object.

    The hull is that of the middles of the four edges of each pixel, as in scikit-image. That library computes it object
    by object, in most of a millisecond each.

    Parameters
    ----------
    y, x
        Pixels of the objects, by row.
    owners
        The object of each pixel, from 1 on.
    count
        Number of objects.
    """
    if not count:
        return np.zeros(0, np.int64)
    order = np.lexsort((x, y, owners))
    y, x, owners = y[order], x[order], owners[order]
    is_first = np.ones(len(y), bool)
    is_first[1:] = (owners[1:] != owners[:-1]) | (y[1:] != y[:-1])
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(y)) - 1
    rows, owners = y[first], owners[first]
    tops, bottoms = (
        np.searchsorted(owners, np.arange(1, count + 1)),
        np.searchsorted(owners, np.arange(2, count + 2)) - 1,
    )
    # Rows between the parts of an object hold none of its pixels, and pixels of its hull.
    heights = rows[bottoms] - rows[tops] + 1
    starts = np.cumsum(heights) - heights
    at = starts[owners - 1] + rows - rows[tops[owners - 1]]
    edges = []
    for side in (x[first], -x[last]):
        leftmost = np.full(int(heights.sum()), np.inf)
        leftmost[at] = side
        edges.append(_edges(leftmost, starts, heights))
    left, right = np.ceil(edges[0] - TOLERANCE), np.floor(-edges[1] + TOLERANCE)
    return np.asarray(np.add.reduceat(right - left + 1, starts), np.int64)


def _edges(leftmost: NDArray[np.float64], starts: NDArray[np.int64], heights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far left the hull of each object reaches in each of its rows.

    Parameters
    ----------
    leftmost
        The first pixel of each row of each object, object after object; infinite for none.
    starts, heights
        First row and number of rows of each object.
    """
    # Between the rows lie the middles of the upper and lower edges of their pixels: 2 n + 1 positions for n rows.
    begins = 2 * starts + np.arange(len(starts))
    counts = 2 * heights + 1
    points = np.full(int(counts.sum()), np.inf)
    is_row = np.zeros(len(points), bool)
    middles = np.repeat(begins - 2 * starts, heights) + 2 * np.arange(len(leftmost)) + 1
    is_row[middles] = True
    points[middles] = leftmost - 0.5
    for above in (middles - 1, middles + 1):
        points[above] = np.minimum(points[above], leftmost)
    is_corner = _corners(points, begins, counts)
    before = np.maximum.accumulate(np.where(is_corner, np.arange(len(points)), 0))
    after = np.minimum.accumulate(np.where(is_corner, np.arange(len(points)), len(points))[::-1])[::-1]
    before, after, place = before[middles], after[middles], middles
    share = (place - before) / np.maximum(after - before, 1)
    return np.asarray(points[before] + share * (points[after] - points[before]), np.float64)


def _corners(points: NDArray[np.float64], begins: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which points are corners of the convex hulls: the monotone chain of Andrew, in all objects at a time."""
    previous = np.full(len(points), -1)
    last = begins.copy()
    by_count = np.argsort(-counts, kind="stable")
    lengths = -counts[by_count]
    for step in range(1, int(counts.max(initial=0))):
        active = by_count[: np.searchsorted(lengths, -step)]
        new = begins[active] + step
        is_known = np.isfinite(points[new])
        active, new = active[is_known], new[is_known]
        top = last[active]
        turning = np.arange(len(active))
        while len(turning):
            middle, under = top[turning], previous[top[turning]]
            is_inner = under >= 0
            turning, middle, under = turning[is_inner], middle[is_inner], under[is_inner]
            at = new[turning]
            # The middle point lies on the chord of its neighbors, or right of it.
            is_inside = (points[middle] - points[under]) * (at - under) >= (points[at] - points[under]) * (
                middle - under
            )
            turning = turning[is_inside]
            top[turning] = under[is_inside]
        previous[new] = top
        last[active] = new
    is_corner = np.zeros(len(points), bool)
    while len(last):
        is_corner[last] = True
        last = previous[last]
        last = last[last >= 0]
    return is_corner
