"""Connected regions of an object, through all of its planes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.ndimage import label as label_regions
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.labels.edit import within
from napari_sam.labels.sink import LabelSink

TOUCHING = np.ones((3, 3))

Piece = Mapping[Plane, Mask | None]
"""What becomes an object of its own: its pixels in each plane; None: all that the object has there."""


@dataclass(frozen=True, slots=True, eq=False)
class PlaneRegions:
    """The connected regions of an object in one plane.

    Parameters
    ----------
    plane, box
        Where.
    numbers
        Shape (rows, cols): 0 outside the object, and the regions from 1 on.
    first
        The number of region 1 among those of all planes.
    """

    plane: Plane
    box: Box
    numbers: NDArray[np.int32]
    first: int

    @property
    def hidden(self) -> tuple[int, ...]:
        """The position of the plane along the axes that it does not show."""
        return tuple(at for axis, at in enumerate(self.plane.index) if axis not in self.plane.axes)

    def is_next_to(self, other: PlaneRegions) -> bool:
        """Whether a plane lies beside another one."""
        steps = [abs(one - two) for one, two in zip(self.hidden, other.hidden, strict=True)]
        return self.plane.axes == other.plane.axes and sum(steps) == 1


def connected_pieces(target: LabelSink, found: LabelledObject) -> list[Piece]:
    """Return the connected regions of an object but the largest, with the first ones in order of the planes.

    Pixels touch at their sides and corners, in a plane and in the plane beside it.

    Parameters
    ----------
    target, found
        The labels, and the object in them.
    """
    links: list[NDArray[np.int64]] = []
    near: list[PlaneRegions] = []
    sizes: list[NDArray[np.int64]] = []
    for regions in _regions(target, found):
        # Those of planes further back are not needed again.
        near = [one for one in near if _may_touch(one, regions)]
        links += [_links(one, regions) for one in near if one.is_next_to(regions)]
        near.append(regions)
        sizes.append(np.bincount(regions.numbers.reshape(-1))[1:])
    areas = np.concatenate([np.zeros(0, np.int64), *sizes])
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *links])
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(areas), len(areas)))
    count, of = connected_components(graph, directed=False)
    if count < 2:
        return []
    largest = int(np.argmax(np.bincount(of, areas, count)))
    numbers = {int(piece): at for at, piece in enumerate(piece for piece in dict.fromkeys(of) if piece != largest)}
    pieces: list[dict[Plane, Mask | None]] = [{} for _ in numbers]
    for regions in _regions(target, found):
        for piece, mask in _pieces_of(regions, of):
            if piece != largest:
                pieces[numbers[piece]][regions.plane] = mask
    return list(pieces)


def _regions(target: LabelSink, found: LabelledObject) -> Iterator[PlaneRegions]:
    first = 0
    for part in sorted(found.parts, key=_order):
        numbers, count = label_regions(target.read(part.plane, part.box) == found.label, TOUCHING)
        yield PlaneRegions(part.plane, part.box, numbers, first)
        first += count


def _order(part: Part) -> tuple[tuple[int, int], tuple[int, ...]]:
    return part.plane.axes, part.plane.index


def _may_touch(earlier: PlaneRegions, now: PlaneRegions) -> bool:
    """Whether a plane may lie beside this one or one that comes later in order."""
    return earlier.plane.axes == now.plane.axes and (not now.hidden or earlier.hidden[0] >= now.hidden[0] - 1)


def _links(one: PlaneRegions, other: PlaneRegions) -> NDArray[np.int64]:
    """Return the pairs of regions of two planes that touch."""
    both = one.box.grown(1).intersection(other.box)
    if both.is_empty:
        return np.zeros((0, 2), np.int64)
    wide = np.pad(one.numbers, 2)
    whole = one.box.grown(2)
    pairs = []
    theirs = other.numbers[within(other.box, both)]
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            ours = wide[within(whole, both.moved(down, right))]
            touches = (ours > 0) & (theirs > 0)
            pairs.append(np.stack([ours[touches] - 1 + one.first, theirs[touches] - 1 + other.first], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def _pieces_of(regions: PlaneRegions, of: NDArray[np.int32]) -> Iterator[tuple[int, Mask | None]]:
    """Yield the pieces in a plane, each with its pixels; None where it has them all."""
    count = int(regions.numbers.max(initial=0))
    there, own = np.unique(of[regions.first : regions.first + count], return_inverse=True)
    if len(there) < 2:
        yield from ((int(piece), None) for piece in there)
        return
    pieces = np.concatenate([[0], own.reshape(-1) + 1])[regions.numbers]
    for number, slices in enumerate(find_objects(pieces), start=1):
        rows, cols = slices
        box = Box(rows.start, cols.start, rows.stop, cols.stop).moved(regions.box.top, regions.box.left)
        yield int(there[number - 1]), Mask(box, pieces[slices] == number)
