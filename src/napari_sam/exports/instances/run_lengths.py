"""Run lengths of objects, as COCO and Segment Anything count them: column by column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from napari_sam.exports.extents import grouped
from napari_sam.exports.source import PlaneLabels

MAX_GROUP_PIXELS = 2**23


@dataclass(frozen=True, slots=True, eq=False)
class RunLengths:
    """The pixels of one object in a plane.

    Parameters
    ----------
    label
        The object.
    counts
        Lengths of the runs of background and object in turns, beginning with background, down each column.
    area
        Number of pixels.
    box
        (left, top, width, height).
    """

    label: int
    counts: NDArray[np.int64]
    area: int
    box: tuple[int, int, int, int]

    @property
    def text(self) -> str:
        """The counts as compressed text: each as the difference to the last but one, in digits of five bits."""
        differences = self.counts.copy()
        differences[3:] -= self.counts[1:-2]
        letters = []
        for value in differences.tolist():
            is_more = True
            while is_more:
                digit = value & 31
                value >>= 5
                is_more = value != (-1 if digit & 16 else 0)
                letters.append(chr(48 + digit + (32 if is_more else 0)))
        return "".join(letters)


def run_lengths(plane: PlaneLabels) -> list[RunLengths]:
    """Return the run lengths of all objects of a plane, by label."""
    found = [runs for group in grouped(plane.extents, MAX_GROUP_PIXELS) for runs in _of_group(plane, group)]
    return sorted(found, key=lambda runs: runs.label)


def _of_group(plane: PlaneLabels, group: NDArray[np.intp]) -> Iterator[RunLengths]:
    extents, (rows, cols) = plane.extents.at(group), plane.plane.axes
    (top, left), (bottom, right) = (
        extents.starts[:, [rows, cols]].min(axis=0),
        extents.stops[:, [rows, cols]].max(axis=0),
    )
    block = plane.read(int(top), int(left), int(bottom), int(right))
    y, x = np.nonzero(np.isin(block, extents.labels))
    labels = block[y, x].astype(np.int64)
    height, width = plane.shape
    places = (x + left) * height + y + top
    order = np.lexsort((places, labels))
    labels, places, y, x = labels[order], places[order], y[order] + top, x[order] + left
    firsts = np.flatnonzero(np.diff(labels, prepend=-1)).tolist()
    for begin, end in pairwise([*firsts, len(labels)]):
        at = places[begin:end]
        starts = np.flatnonzero(np.diff(at, prepend=-2) != 1)
        ends = np.append(starts[1:], len(at)) - 1
        edges = np.column_stack([at[starts], at[ends] + 1]).ravel()
        counts = np.diff(edges, prepend=0, append=height * width)
        low, high = (y[begin:end].min(), x[begin:end].min()), (y[begin:end].max(), x[begin:end].max())
        box = int(low[1]), int(low[0]), int(high[1] - low[1]) + 1, int(high[0] - low[0]) + 1
        yield RunLengths(int(labels[begin]), counts if counts[-1] else counts[:-1], int(end - begin), box)
