"""Which of overlapping proposals are left out: non-maximum suppression by shared pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.masks import shared_pixels
from napari_sam.everything.proposals import Proposals

# Proposals are sorted into squares of this side to find those whose boxes meet.
LEAST_SQUARE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """Pairs of proposals that share pixels.

    Parameters
    ----------
    first, second
        Shape (m,), int64: numbers of the proposals; the first is the smaller number.
    shared
        Shape (m,), int64: number of common pixels, above 0.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    shared: NDArray[np.int64]

    @classmethod
    def of(cls, proposals: Proposals) -> Overlaps:
        """Find the pairs of some proposals."""
        first, second = meeting_boxes(proposals.boxes)
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        shared = np.array([shared_pixels(proposals.mask(i), proposals.mask(j)) for i, j in pairs], np.int64)
        return cls(first[shared > 0], second[shared > 0], shared[shared > 0])

    def share_of_smaller(self, areas: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the share of the smaller one of each pair that lies in the other."""
        smaller = np.minimum(areas[self.first], areas[self.second])
        return np.asarray(self.shared / np.maximum(smaller, 1), np.float64)


def meeting_boxes(boxes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of boxes that intersect, each once, sorted."""
    if len(boxes) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    extents = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    # Boxes of one octave of sizes share a grid, so that neither small nor large ones fill many squares.
    octaves = np.ceil(np.log2(np.maximum(extents, LEAST_SQUARE))).astype(np.int64)
    pairs = []
    present = np.unique(octaves)
    for at, octave in enumerate(present):
        own = np.flatnonzero(octaves == octave)
        keys, members = _squares(boxes, own, 2**octave)
        for other in present[: at + 1]:
            smaller = np.flatnonzero(octaves == other)
            other_keys, other_members = (keys, members) if other == octave else _squares(boxes, smaller, 2**octave)
            pairs.append(_common(keys, members, other_keys, other_members))
    found = np.concatenate(pairs)
    a, b = found.min(axis=1), found.max(axis=1)
    code = np.unique(a[a < b] * len(boxes) + b[a < b])
    a, b = code // len(boxes), code % len(boxes)
    meets = (np.maximum(boxes[a, 0], boxes[b, 0]) < np.minimum(boxes[a, 2], boxes[b, 2])) & (
        np.maximum(boxes[a, 1], boxes[b, 1]) < np.minimum(boxes[a, 3], boxes[b, 3])
    )
    return a[meets], b[meets]


def ranks_by(boxes: NDArray[np.int64], *keys: NDArray[Any]) -> NDArray[np.intp]:
    """Return the rank of each of some proposals, 0 for the first one; all differ.

    Parameters
    ----------
    boxes
        Shape (n, 4): of equal ones the place decides, so that the order of tiles does not matter.
    keys
        Shape (n,): what they are ordered by, the least first; the last key counts most.
    """
    order = np.lexsort((*boxes.T[::-1], *keys))
    ranks = np.empty(len(order), np.intp)
    ranks[order] = np.arange(len(order))
    return ranks


def suppressed(ranks: NDArray[np.intp], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which proposals are left out, as greedy suppression in order of rank would.

    Parameters
    ----------
    ranks
        Shape (n,): rank of each proposal, 0 for the best one; all differ.
    first, second
        Shape (m,): pairs of which only one can stay.

    Returns
    -------
    numpy.ndarray
        Shape (n,), bool.
    """
    better = np.where(ranks[first] < ranks[second], first, second)
    worse = first + second - better
    out = np.zeros(len(ranks), bool)
    open_ones = np.ones(len(ranks), bool)
    # In each round all that have no better rival left stay, and their rivals go. Few rounds suffice, each on arrays.
    while len(better):
        waits = np.zeros(len(ranks), bool)
        waits[worse] = True
        stays = open_ones & ~waits
        out[worse[stays[better]]] = True
        open_ones &= ~stays & ~out
        left = open_ones[better] & open_ones[worse]
        better, worse = better[left], worse[left]
    return out


def _squares(
    boxes: NDArray[np.int64], members: NDArray[np.intp], side: int
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Return the squares that boxes of up to a side meet (at most 4 each), sorted, with the number of each box."""
    low, high = boxes[members, :2] // side, (boxes[members, 2:] - 1) // side
    keys = [rows * 2**31 + cols for rows in (low[:, 0], high[:, 0]) for cols in (low[:, 1], high[:, 1])]
    key, member = np.concatenate(keys), np.tile(members, 4)
    order = np.argsort(key, kind="stable")
    return key[order], member[order]


def _common(
    keys: NDArray[np.int64], members: NDArray[np.intp], other_keys: NDArray[np.int64], others: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Return all pairs of members in the same square, shape (m, 2)."""
    start = np.searchsorted(other_keys, keys, "left")
    count = np.searchsorted(other_keys, keys, "right") - start
    first = np.repeat(members, count)
    within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    second = others[np.repeat(start, count) + within]
    return np.stack([first, second], axis=1).astype(np.int64)
