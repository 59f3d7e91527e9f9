"""Which of overlapping proposals are left out: non-maximum suppression by shared pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_sam.everything.proposals import Proposals

# Proposals are sorted into squares of this side to find those whose boxes meet.
LEAST_SQUARE = 32
# Pixels of a row that are compared at once.
WORD = 64
# Words that are compared before their results are kept: so much memory is enough for any number of pairs.
MOST_WORDS = 2**20


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
        shared = _PackedRows.of(proposals, np.union1d(first, second)).shared(first, second)
        return cls(first[shared > 0], second[shared > 0], shared[shared > 0])

    def share_of_smaller(self, areas: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the share of the smaller one of each pair that lies in the other."""
        smaller = np.minimum(areas[self.first], areas[self.second])
        return np.asarray(self.shared / np.maximum(smaller, 1), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _PackedRows:
    """The pixels of proposals as words of 64 pixels, which begin at the same columns of the plane for all of them.

    Parameters
    ----------
    words
        Shape (m,), uint64: the rows of one proposal after the other.
    starts
        Shape (n,): where the words of each proposal begin.
    boxes
        Shape (n, 4): (top, left, bottom, right), half-open; left and right are columns of words.
    """

    words: NDArray[np.uint64]
    starts: NDArray[np.int64]
    boxes: NDArray[np.int64]

    @classmethod
    def of(cls, proposals: Proposals, chosen: NDArray[np.int64]) -> Self:
        """Pack chosen proposals; the others have no words."""
        boxes = proposals.boxes.copy()
        boxes[:, 1] //= WORD
        boxes[:, 3] = -(-boxes[:, 3] // WORD)
        sizes = np.zeros(len(boxes), np.int64)
        sizes[chosen] = (boxes[chosen, 2:] - boxes[chosen, :2]).prod(axis=1)
        ends = np.cumsum(sizes)
        words = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint64)
        for i in chosen.tolist():
            pixels, (top, left, bottom, right) = proposals.pixels(i), boxes[i].tolist()
            before = int(proposals.boxes[i, 1]) - left * WORD
            wide = np.zeros((bottom - top, (right - left) * WORD), bool)
            wide[:, before : before + pixels.shape[1]] = pixels
            words[ends[i] - sizes[i] : ends[i]] = np.packbits(wide).view(np.uint64)
        return cls(words, ends - sizes, boxes)

    def shared(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of common pixels of each pair of proposals whose boxes intersect, shape (m,)."""
        low = np.maximum(self.boxes[first, :2], self.boxes[second, :2])
        sides = np.minimum(self.boxes[first, 2:], self.boxes[second, 2:]) - low
        counts = sides.prod(axis=1)
        out = np.zeros(len(first), np.int64)
        for part in _parts(counts, MOST_WORDS):
            owner = np.repeat(np.arange(part.start, part.stop), counts[part])
            begins = np.cumsum(counts[part]) - counts[part]
            rows, cols = np.divmod(np.arange(len(owner)) - begins[owner - part.start], sides[owner, 1])
            rows, cols = rows + low[owner, 0], cols + low[owner, 1]
            common = self.words[self._at(first[owner], rows, cols)] & self.words[self._at(second[owner], rows, cols)]
            out[part] = np.add.reduceat(_ones(common), begins)
        return out

    def _at(self, of: NDArray[np.int64], rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the words of proposals at places of the plane lie."""
        top, left, _, right = self.boxes[of].T
        return np.asarray(self.starts[of] + (rows - top) * (right - left) + cols - left, np.int64)


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
            first, second, squares = _common(keys, members, other_keys, other_members)
            low = np.maximum(boxes[first, :2], boxes[second, :2])
            meets = (low < np.minimum(boxes[first, 2:], boxes[second, 2:])).all(axis=1)
            # A pair lies in several squares together, but where both boxes begin is in one of them.
            meets &= squares == _key(*(low // 2**octave).T)
            meets &= (first < second) if other == octave else True
            first, second = first[meets], second[meets]
            pairs.append(np.minimum(first, second) * len(boxes) + np.maximum(first, second))
    first, second = np.divmod(np.sort(np.concatenate(pairs)), len(boxes))
    return first, second


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
    goes_on = high > low
    keys, found = [], []
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        here = (goes_on[:, 0] | (down == 0)) & (goes_on[:, 1] | (right == 0))
        keys.append(_key(low[here, 0] + down, low[here, 1] + right))
        found.append(members[here])
    key, member = np.concatenate(keys), np.concatenate(found)
    order = np.argsort(key, kind="stable")
    return key[order], member[order]


def _key(rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(rows * 2**31 + cols, np.int64)


def _common(
    keys: NDArray[np.int64], members: NDArray[np.intp], other_keys: NDArray[np.int64], others: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs of members in the same square, and the key of that, each of shape (m,)."""
    start = np.searchsorted(other_keys, keys, "left")
    count = np.searchsorted(other_keys, keys, "right") - start
    within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    second = others[np.repeat(start, count) + within]
    return np.repeat(members, count), second, np.repeat(keys, count)


def _parts(counts: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Yield consecutive parts whose counts sum up to at most `most`, or that are one long."""
    ends, start = np.cumsum(counts), 0
    while start < len(counts):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + most, "right")), start + 1)
        yield slice(start, stop)
        start = stop


def _ones(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return how many bits of each word are 1; numpy counts them itself from version 2 on."""
    # Sums of 2, 4 and 8 bits side by side; the product puts the sum of all bytes into the highest one.
    words = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = np.uint64(0x3333333333333333)
    words = (words & fours) + ((words >> np.uint64(2)) & fours)
    words = (words + (words >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.asarray((words * np.uint64(0x0101010101010101)) >> np.uint64(56), np.int64)
