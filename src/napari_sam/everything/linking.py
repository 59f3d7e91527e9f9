"""Linking: which objects of neighboring planes of a volume are one object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_sam.everything.found import FoundObjects
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.suppression import Overlaps

# Least IoU of the masks of one object in two neighboring planes.
LEAST_IOU = 0.3
# Planes in which an object may be missing between two in which it was found.
MAX_GAP = 1


class PlaneLinker:
    """Gives the objects of one plane after the other numbers that hold for the whole volume.

    Only the objects of the last planes are in memory.
    """

    def __init__(self) -> None:
        self._next = 0
        self._recent: list[tuple[Proposals, NDArray[np.intp]]] = []

    def link(self, found: FoundObjects, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the number of each chosen object of the next plane: that of the object it continues, or a new one.

        Objects of both planes are assigned to each other so that the sum of their IoUs is largest. Those without a
        partner may continue an object that was not found in the plane between.

        Parameters
        ----------
        found, chosen
            The proposals of the plane, and the numbers of those that count.
        """
        here = found.proposals.taken(chosen)
        numbers = np.full(len(here), -1, np.intp)
        for before, known in reversed(self._recent):
            free = np.flatnonzero(numbers < 0)
            # An object that goes on in a plane between is no longer open.
            open_ones = np.flatnonzero(~np.isin(known, numbers))
            for i, j in assigned(before.taken(open_ones), here.taken(free)):
                numbers[free[j]] = known[open_ones[i]]
        is_new = numbers < 0
        numbers[is_new] = self._next + np.arange(int(is_new.sum()))
        self._next += int(is_new.sum())
        self._recent = [*self._recent, (here, numbers)][-1 - MAX_GAP :]
        return numbers


def assigned(one: Proposals, other: Proposals) -> Sequence[tuple[int, int]]:
    """Return the pairs of objects of two planes that belong together, at most one for each object."""
    both = Overlaps.of(Proposals.joined([one, other]))
    across = (both.first < len(one)) & (both.second >= len(one))
    first, second, shared = both.first[across], both.second[across] - len(one), both.shared[across]
    ious = shared / (one.areas[first] + other.areas[second] - shared)
    enough = ious >= LEAST_IOU
    first, second, ious = first[enough], second[enough], ious[enough]
    total = len(one) + len(other)
    graph = coo_array((np.ones(len(first)), (first, second + len(one))), (total, total))
    _, group = connected_components(graph, directed=False)
    pairs = []
    order = np.argsort(group[first], kind="stable")
    ends = np.flatnonzero(np.diff(group[first][order], append=-1)) + 1
    for members in np.split(order, ends[:-1]):
        if len(members):
            pairs += _best(first[members], second[members], ious[members])
    return pairs


def _best(first: NDArray[np.int64], second: NDArray[np.int64], ious: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the assignment of a few objects with the largest sum of IoUs."""
    rows, row = np.unique(first, return_inverse=True)
    cols, col = np.unique(second, return_inverse=True)
    table = np.zeros((len(rows), len(cols)))
    table[row, col] = ious
    chosen = zip(*linear_sum_assignment(table, maximize=True), strict=True)
    return [(int(rows[i]), int(cols[j])) for i, j in chosen if table[i, j] > 0]
