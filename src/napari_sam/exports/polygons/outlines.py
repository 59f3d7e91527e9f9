"""Outlines: trace the objects of a label image along the edges of their pixels, block by block.

Pixels of an object that share an edge are one polygon. Pixels that meet at a corner only are parts of their own, so
that no ring touches itself and every polygon is valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Ring = NDArray[np.float64]
"""Shape (n, 2), (x, y) of each corner in pixel edges, without the first one again at the end."""

ReadBox = Callable[[int, int, int, int], NDArray[Any]]
"""Reads labels: (top, left, bottom, right) -> shape (rows, cols)."""

Block = tuple[int, int, int, int]
"""(top, left, bottom, right), half-open."""

# The four pixels around a corner, (row, col) from the top left one: number ^ 1 is beside, ^ 2 above, ^ 3 across.
PIXELS = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclass(frozen=True, slots=True)
class Outline:
    """The polygons of one object in a plane.

    Parameters
    ----------
    label
        The object.
    polygons
        One list of rings for each part: the outer one, counterclockwise as (x, y) are drawn with y upwards, then its
        holes, clockwise.
    """

    label: int
    polygons: tuple[tuple[Ring, ...], ...]

    def mapped(self, convert: Callable[[Ring], Ring]) -> Outline:
        """Return the outline with other coordinates; rings keep their sense of rotation where these mirror it."""
        return Outline(self.label, tuple(tuple(convert(ring) for ring in rings) for rings in self.polygons))


def trace_outlines(shape: tuple[int, int], blocks: Iterable[Block], read: ReadBox) -> list[Outline]:
    """Return the outlines of all objects of a plane, by label.

    The labels are read block by block, and only the corners of the outlines are in memory.

    Parameters
    ----------
    shape
        Rows and columns of the plane.
    blocks
        (top, left, bottom, right) of boxes that together cover every pixel that is not 0.
    read
        Reads the labels of a box inside the plane; labels below 1 are background.
    """
    found = [_corners_in(block, shape, read) for block in blocks]
    corners = np.concatenate(found) if found else np.zeros((0, 6), np.int64)
    if not len(corners):
        return []
    return list(_assembled(_split(_rings_of(_sorted(corners))), read))


def _corners_in(block: Block, shape: tuple[int, int], read: ReadBox) -> NDArray[np.int64]:
    """Return the corners of outlines on and in a block.

    Returns
    -------
    numpy.ndarray
        Shape (n, 6): label, y, x, whether the horizontal edge of the corner goes right, whether its vertical edge goes
        down, and whether the object is below the horizontal one.
    """
    top, left, bottom, right = block
    begin, end = (max(top - 1, 0), max(left - 1, 0)), (min(bottom + 1, shape[0]), min(right + 1, shape[1]))
    labels = np.zeros((bottom - top + 2, right - left + 2), np.int64)
    rows = slice(begin[0] - top + 1, end[0] - top + 1)
    cols = slice(begin[1] - left + 1, end[1] - left + 1)
    labels[rows, cols] = np.maximum(read(*begin, *end).astype(np.int64), 0)
    around = [labels[row : row + bottom - top + 1, col : col + right - left + 1] for row, col in PIXELS]
    y, x = np.nonzero((around[0] != around[1]) | (around[0] != around[2]) | (around[0] != around[3]))
    values = [pixels[y, x] for pixels in around]
    corners = []
    for number, (row, col) in enumerate(PIXELS):
        own = values[number]
        is_beside, is_above, is_across = (values[number ^ other] == own for other in (1, 2, 3))
        for chosen, goes_right, goes_down in (
            # One pixel of the object at the corner, along which its edges go; or three, around the one that is not.
            ((own > 0) & ~is_beside & ~is_above, col, row),
            ((own > 0) & is_beside & is_above & ~is_across, 1 - col, 1 - row),
        ):
            at = np.flatnonzero(chosen)
            sides = np.broadcast_to(np.array([goes_right, goes_down, row]), (len(at), 3))
            corners.append(np.column_stack([own[at], y[at] + top, x[at] + left, sides]))
    return np.concatenate(corners).astype(np.int64)


def _sorted(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return corners by label and row, without those that two neighboring blocks share."""
    label, y, x, goes_right, _, _ = corners.T
    ordered = corners[np.lexsort((goes_right, x, y, label))]
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return ordered[is_new]


@dataclass(frozen=True, slots=True)
class _Rings:
    """Closed rings of corners.

    Parameters
    ----------
    points
        Shape (n, 2), (y, x), ring after ring.
    starts
        Shape (rings + 1,): where each ring begins.
    labels
        Shape (rings,), ascending.
    """

    points: NDArray[np.int64]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The ring of each point."""
        return np.repeat(np.arange(len(self.labels)), np.diff(self.starts))


def _rings_of(corners: NDArray[np.int64]) -> _Rings:
    """Join corners to rings: along each row and column, two corners of an object after each other share an edge."""
    label, y, x, goes_right, goes_down, is_below = corners.T
    along_column = np.lexsort((goes_down, y, x, label))
    across, upright = np.empty(len(corners), np.int64), np.empty(len(corners), np.int64)
    for order, partner in ((np.arange(len(corners)), across), (along_column, upright)):
        pairs = order.reshape(-1, 2)
        partner[pairs[:, 0]], partner[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    # Edges go right where the object is below them, so that a ring goes around it in one sense.
    begins_edge = np.flatnonzero(goes_right == is_below)
    following = upright[across].tolist()
    is_seen = [False] * len(corners)
    steps: list[int] = []
    starts = [0]
    for first in begins_edge.tolist():
        if is_seen[first]:
            continue
        at = first
        while not is_seen[at]:
            is_seen[at] = True
            steps.append(at)
            at = following[at]
        starts.append(len(steps))
    order = np.array(steps, np.int64)
    points = corners[np.column_stack([order, across[order]]).ravel()][:, 1:3]
    begins = np.array(starts, np.int64)
    return _Rings(points, begins * 2, label[order[begins[:-1]]])


def _split(rings: _Rings) -> _Rings:
    """Divide rings that pass a corner twice, so that no ring touches itself."""
    numbers = rings.numbers
    order = np.lexsort((rings.points[:, 1], rings.points[:, 0], numbers))
    ordered = np.column_stack([numbers, rings.points])[order]
    touching = np.unique(ordered[1:][(ordered[1:] == ordered[:-1]).all(axis=1), 0])
    if not len(touching):
        return rings
    pieces: list[NDArray[np.int64]] = []
    labels: list[int] = []
    for number, is_touching in enumerate(np.isin(np.arange(len(rings.labels)), touching).tolist()):
        ring = rings.points[rings.starts[number] : rings.starts[number + 1]]
        parts = list(_simple_rings(ring)) if is_touching else [ring]
        pieces += parts
        labels += [int(rings.labels[number])] * len(parts)
    starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    return _Rings(np.concatenate(pieces), starts, np.array(labels, np.int64))


def _simple_rings(ring: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    path: list[tuple[int, int]] = []
    position: dict[tuple[int, int], int] = {}
    for y, x in ring.tolist():
        if (y, x) in position:
            begin = position[y, x]
            yield np.array(path[begin:], np.int64)
            for point in path[begin:]:
                del position[point]
            del path[begin:]
        position[y, x] = len(path)
        path.append((y, x))
    yield np.array(path, np.int64)


def _assembled(rings: _Rings, read: ReadBox) -> Iterator[Outline]:
    """Yield the outlines, with each hole in the part that it belongs to."""
    y, x = rings.points.T
    following = np.arange(1, len(y) + 1)
    following[rings.starts[1:] - 1] = rings.starts[:-1]
    areas = np.add.reduceat(x * y[following] - x[following] * y, rings.starts[:-1])
    points = rings.points[:, ::-1].astype(np.float64)
    parts = np.split(points, rings.starts[1:-1])
    for same in np.split(np.arange(len(parts)), np.flatnonzero(np.diff(rings.labels)) + 1):
        label = int(rings.labels[same[0]])
        outer = [parts[number] for number in same if areas[number] > 0]
        holes = [parts[number] for number in same if areas[number] < 0]
        if not holes:
            yield Outline(label, tuple((ring,) for ring in outer))
        elif len(outer) == 1:
            yield Outline(label, ((outer[0], *holes),))
        else:
            yield Outline(label, _with_holes(label, outer, holes, read))


def _with_holes(label: int, outer: list[Ring], holes: list[Ring], read: ReadBox) -> tuple[tuple[Ring, ...], ...]:
    """Return the parts of an object with their holes, by the pixels beside them."""
    corners = np.concatenate(outer).astype(np.int64)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    # Four neighbors, as for the rings.
    components, _ = ndimage.label(read(int(top), int(left), int(bottom), int(right)) == label)

    def component(ring: Ring, above: int) -> int:
        """Return the part of the pixel right of the topmost leftmost corner of a ring, below or above it."""
        x, y = ring[np.lexsort((ring[:, 0], ring[:, 1]))[0]].astype(np.int64)
        return int(components[y - above - top, x - left])

    members: dict[int, list[Ring]] = {component(ring, 0): [ring] for ring in outer}
    for hole in holes:
        members[component(hole, 1)].append(hole)
    return tuple(tuple(rings) for rings in members.values())
