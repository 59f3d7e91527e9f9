"""Region: a part of a plane with the objects that were accepted there, cut out before a model is taught."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.rendering import Rendering
from napari_sam.core.tiles import Tile
from napari_sam.images.volume import Volume

# Side of a region, in pixels: four tiles of the compact model and one of SAM. A plane up to half as long again is taken
# whole.
SIDE, WHOLE = 1024, 1.5
# Larger objects are taken from a reduced plane.
LARGEST = 512
# Smaller objects have no pixel to click on in a reduced tile.
SMALLEST_AREA = 16
BACKGROUND, UNKNOWN = 0, -1


@dataclass(frozen=True, slots=True, eq=False)
class TaughtPart:
    """An accepted object in one plane.

    Parameters
    ----------
    label
        Its label in the journal.
    mask
        The accepted mask.
    overlap
        What happened to other labels there.
    is_corrected
        Whether the user corrected the mask.
    """

    label: int
    mask: Mask
    overlap: Overlap = "keep"
    is_corrected: bool = False


@dataclass(frozen=True, slots=True)
class Background:
    """Where a plane is background if it has no label; elsewhere nothing is known of what has none.

    Parameters
    ----------
    boxes
        Parts of the plane in which every object was accepted.
    hidden
        Objects in them that teach nothing, such as propagated ones, and are no background either.
    """

    boxes: Sequence[Box] = ()
    hidden: Sequence[Mask] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A part of a plane, as the encoder sees it.

    Parameters
    ----------
    pixels
        Shape (rows, cols, 3), uint8; the pixels are square.
    objects
        Shape (rows, cols), int32: numbers of the objects, 0 for background, -1 where nothing is known.
    numbers
        Shape (n,), int32: the numbers of the objects to learn from. Others are cut by the border of the region, or are
        of another size.
    labels
        Shape (n,), int64: their labels in the journal.
    is_corrected
        Shape (n,), bool: whether the user corrected them.
    image
        Number of the image, from 0 on.
    position
        Number of the plane along the axes that are not in it, in the order of the image's pixels.
    step
        Side of its pixels, as a multiple of the smallest ones of the plane; above 1 where the objects are large.
    """

    pixels: NDArray[np.uint8]
    objects: NDArray[np.int32]
    numbers: NDArray[np.int32]
    labels: NDArray[np.int64]
    is_corrected: NDArray[np.bool_]
    image: int = 0
    position: int = 0
    step: int = 1

    def without(self, hidden: NDArray[np.bool_]) -> Region:
        """Return the region without some of its objects: nothing is known of their pixels.

        Parameters
        ----------
        hidden
            Shape (n,), bool: which of `numbers`.
        """
        objects = np.where(np.isin(self.objects, self.numbers[hidden]), UNKNOWN, self.objects).astype(np.int32)
        seen = ~hidden
        return replace(
            self,
            objects=objects,
            numbers=self.numbers[seen],
            labels=self.labels[seen],
            is_corrected=self.is_corrected[seen],
        )


def cut_regions(
    volume: Volume,
    plane: Plane,
    rendering: Rendering,
    parts: Sequence[TaughtPart],
    background: Background,
    *,
    image: int = 0,
) -> Iterator[Region]:
    """Yield the regions of a plane that together hold all of its accepted objects.

    Parameters
    ----------
    volume, plane, rendering
        The pixels, and how they are stretched.
    parts
        The objects in the plane, in the order in which they were accepted.
    background
        Where the rest of the plane is background.
    image
        Number of the image.
    """
    size = volume.pixel_size(plane)
    levels = np.array([_level(part.mask.box, size) for part in parts])
    position = 0
    for axis, length in enumerate(volume.shape):
        position = position if axis in plane.axes else position * length + plane.index[axis]
    for level in sorted(set(levels.tolist())):
        step = (2.0**level / size[0], 2.0**level / size[1])
        taught = [number for number, own in enumerate(levels, 1) if own == level]
        for read, inside in _windows(plane.shape_in(volume.shape), step, parts, taught):
            region = _region(volume, plane, rendering, _tile(read, step, level), parts, inside, background)
            if len(region.numbers):
                yield replace(region, image=image, position=position, step=2**level)


def _level(box: Box, size: tuple[float, float]) -> int:
    extent = max(box.height * size[0], box.width * size[1], 1.0)
    return max(0, math.ceil(math.log2(extent / LARGEST)))


def _windows(
    shape: tuple[int, int], step: tuple[float, float], parts: Sequence[TaughtPart], taught: list[int]
) -> Iterator[tuple[Box, list[int]]]:
    """Yield boxes of a plane with the numbers of the objects that lie in them, so that each object is in one."""
    spans = [SIDE * one for one in step]
    if all(length <= WHOLE * span for length, span in zip(shape, spans, strict=True)):
        yield Box.of_shape(shape), taught
        return
    left = sorted(taught, key=lambda number: parts[number - 1].mask.box.as_tuple())
    while left:
        first = parts[left[0] - 1].mask.box
        # The first object is the uppermost one that is left, so the window goes down from it.
        margin = (spans[0] - first.height) / 4
        top = min(max(first.top - margin, 0.0), max(shape[0] - spans[0], 0.0))
        start = min(max(first.center[1] - spans[1] / 2, 0.0), max(shape[1] - spans[1], 0.0))
        window = Box(top, start, top + spans[0], start + spans[1]).rounded_out().intersection(Box.of_shape(shape))
        inside = [number for number in left if window.contains(parts[number - 1].mask.box)] or [left[0]]
        yield window, inside
        left = [number for number in left if number not in set(inside)]


def _tile(read: Box, step: tuple[float, float], level: int) -> Tile:
    side = max(math.ceil(read.height / step[0] - 1e-9), math.ceil(read.width / step[1] - 1e-9))
    return Tile(level, 0, 0, side, read, read, step)


def _region(
    volume: Volume,
    plane: Plane,
    rendering: Rendering,
    tile: Tile,
    parts: Sequence[TaughtPart],
    inside: list[int],
    background: Background,
) -> Region:
    read, step = tile.read, tile.step
    rows, cols = (
        np.minimum(
            np.floor(first + (np.arange(max(1, math.ceil(length / by - 1e-9))) + 0.5) * by), first + length - 1
        ).astype(np.intp)
        for first, length, by in zip((read.top, read.left), (read.height, read.width), step, strict=True)
    )
    pixels = volume.render(plane, tile, rendering)[: len(rows), : len(cols)]
    objects = np.full((len(rows), len(cols)), UNKNOWN, np.int32)
    for box in background.boxes:
        is_inside = np.ix_((rows >= box.top) & (rows < box.bottom), (cols >= box.left) & (cols < box.right))
        objects[is_inside] = BACKGROUND
    for mask in background.hidden:
        if not mask.box.intersection(read).is_empty:
            _paint(objects, UNKNOWN, TaughtPart(0, mask, "overwrite"), rows, cols)
    for number, part in enumerate(parts, 1):
        if not part.mask.box.intersection(read).is_empty:
            _paint(objects, number, part, rows, cols)
    areas = np.bincount(objects[objects > 0], minlength=len(parts) + 1)
    taught = [number for number in inside if areas[number] >= SMALLEST_AREA]
    return Region(
        np.ascontiguousarray(pixels),
        objects,
        np.array(taught, np.int32),
        np.array([parts[number - 1].label for number in taught], np.int64),
        np.array([parts[number - 1].is_corrected for number in taught], bool),
    )


def _paint(
    objects: NDArray[np.int32], number: int, part: TaughtPart, rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> None:
    """Write an object where the pixels of a region lie in its mask, as the labels got it."""
    box, pixels = part.mask.box, part.mask.pixels
    first, last = np.searchsorted(rows, (box.top, box.bottom))
    start, end = np.searchsorted(cols, (box.left, box.right))
    own = pixels[np.ix_(rows[first:last] - int(box.top), cols[start:end] - int(box.left))]
    under = objects[first:last, start:end]
    under[own & (under <= 0) if part.overlap != "overwrite" else own] = number
