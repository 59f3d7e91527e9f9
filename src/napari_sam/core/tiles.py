"""Tiles in scale space: at every level the plane is covered by tiles that overlap by half.

With s the side of the encoder's input and d = 2**level the downsample factor, a tile reads s*d x s*d level-0 pixels and
its neighbours stand s*d/2 away, so wherever an object of up to s*d/2 lies, one tile sees it whole. Levels below 0
magnify: they are for objects of a few pixels. At the image's edge a tile is moved inside instead of being padded; only
an image smaller than the tile is padded. Each tile *owns* its central half (the outer ones up to the image's edge),
so every pixel has one owner at every level.

Where pixels are not square (a plane through slices that stand far apart), tiles are: a tile then reads fewer pixels
along the axis whose pixels are larger. Lengths that both axes share are in *units*, the side of a pixel along the finer
axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box

MAX_MAGNIFICATION_LEVEL = -3


@dataclass(frozen=True, slots=True)
class Tile:
    """One square that the image encoder sees.

    Parameters
    ----------
    level
        The zoom step; the downsample factor is 2**level.
    row, col
        Position in the grid of this level.
    side
        The encoder's input side s, in tile pixels.
    read
        The level-0 pixels to read: s*d on a side, less where the image itself is smaller.
    owned
        The level-0 pixels that no other tile of the level owns.
    step
        Level-0 pixels for each tile pixel, along rows and columns; both are `downsample` where pixels are square.
    """

    level: int
    row: int
    col: int
    side: int
    read: Box
    owned: Box
    step: tuple[float, float]

    @property
    def downsample(self) -> float:
        """Units for each tile pixel."""
        return 2.0**self.level

    @property
    def key(self) -> tuple[int, int, int]:
        """Level, row and column, by which the tiles of a plane can be sorted."""
        return self.level, self.row, self.col

    def point_to_tile(self, row: float, col: float) -> tuple[float, float]:
        """Turn a level-0 point into tile pixels, where again whole numbers are pixel centres."""
        by_row, by_col = self.step
        return (row + 0.5 - self.read.top) / by_row - 0.5, (col + 0.5 - self.read.left) / by_col - 0.5

    def points_from_tile(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return points (row, col) of shape (..., 2), in tile pixels, in level-0 pixels; see `point_to_tile`."""
        return np.asarray((points + 0.5) * self.step + (self.read.top, self.read.left) - 0.5, np.float64)

    def box_to_tile(self, box: Box) -> Box:
        """Turn a level-0 box into tile pixel edges, cut to the tile."""
        by_row, by_col = self.step
        edges = Box(
            (box.top - self.read.top) / by_row,
            (box.left - self.read.left) / by_col,
            (box.bottom - self.read.top) / by_row,
            (box.right - self.read.left) / by_col,
        )
        return edges.intersection(Box(0, 0, self.side, self.side))


@dataclass(frozen=True, slots=True)
class TileGrid:
    """All tiles of one plane, at every level.

    Parameters
    ----------
    shape
        Rows and columns of the plane at level 0.
    side
        The encoder's input side s, in tile pixels.
    pixel_size
        Size of a pixel along rows and columns, in units: the smaller one is 1.
    overlap
        Share of a tile that the next one reads too, 0 to 1/2.
    shift
        Rows and columns by which all tiles but the first are moved towards the first, in tile pixels; 0 by default.
    """

    shape: tuple[int, int]
    side: int
    pixel_size: tuple[float, float] = (1.0, 1.0)
    overlap: float = 0.5
    shift: tuple[int, int] = (0, 0)

    @property
    def min_level(self) -> int:
        """The finest level: magnified as long as a tile still covers at least 8 units."""
        return max(MAX_MAGNIFICATION_LEVEL, 3 - int(math.log2(self.side)))

    @property
    def max_level(self) -> int:
        """The first level at which one tile covers the whole plane."""
        longest = max(length * size for length, size in zip(self.shape, self.pixel_size, strict=True))
        level = max(self.min_level, math.ceil(math.log2(longest / self.side)))
        # Spans are whole pixels: where those are large, rounding can leave the last one uncovered.
        return level if self.count(level) == (1, 1) else level + 1

    def clamp(self, level: int) -> int:
        return min(max(level, self.min_level), self.max_level)

    def span(self, level: int) -> int:
        """Return the side of a tile of this level, in units."""
        return int(self.side * 2.0**level)

    def spans(self, level: int) -> tuple[int, int]:
        """Return the rows and columns of a tile of this level, in level-0 pixels."""
        rows, cols = (max(1, int(self.side * 2.0**level / size)) for size in self.pixel_size)
        return rows, cols

    def extent(self, box: Box) -> float:
        """Return the longer side of a box, in units."""
        return max(box.height * self.pixel_size[0], box.width * self.pixel_size[1])

    def count(self, level: int) -> tuple[int, int]:
        """Return how many tiles the level has along rows and columns."""
        rows, cols = (len(self._origins(axis, level)) for axis in (0, 1))
        return rows, cols

    def tile(self, level: int, row: int, col: int) -> Tile:
        """Return the tile at a grid position."""
        (top, bottom, own_top, own_bottom) = self._interval(0, level, row)
        (left, right, own_left, own_right) = self._interval(1, level, col)
        rows, cols = self.spans(level)
        return Tile(
            level,
            row,
            col,
            self.side,
            read=Box(top, left, bottom, right),
            owned=Box(own_top, own_left, own_bottom, own_right),
            step=(rows / self.side, cols / self.side),
        )

    def tile_at(self, level: int, row: float, col: float) -> Tile:
        """Return the tile that owns the position (row, col), in level-0 pixel edges; outside ones are moved in."""
        return self.tile(level, self._owner(0, level, row), self._owner(1, level, col))

    def tiles_over(self, level: int, box: Box) -> Iterator[Tile]:
        """Yield the tiles that own the pixels of a box, row by row."""
        first, last = self.corners(level, box)
        for row in range(first.row, last.row + 1):
            for col in range(first.col, last.col + 1):
                yield self.tile(level, row, col)

    def corners(self, level: int, box: Box) -> tuple[Tile, Tile]:
        """Return the tiles that own the first and the last pixel of a box."""
        # A little inside: at the last edge itself begins what the next tile owns.
        return self.tile_at(level, box.top, box.left), self.tile_at(level, box.bottom - 1e-6, box.right - 1e-6)

    def level_for(self, extent: float, fraction: float) -> int:
        """Return the level at which an object of `extent` units comes nearest to `fraction` of a tile.

        It is never so fine that the object could be cut: the extent is at most half the tile.
        """
        wanted = math.log2(max(extent, 1e-3) / (fraction * self.side))
        whole = math.ceil(math.log2(max(extent, 1e-3) / (0.5 * self.side)))
        return self.clamp(max(round(wanted), whole))

    def _origins(self, axis: int, level: int) -> range:
        length, span = self.shape[axis], self.spans(level)[axis]
        stride, shift = self._stride(axis, level), self._shift(axis, level)
        return range(0, max(length - span, 0) + shift + stride, stride) if length > span else range(1)

    def _origin(self, axis: int, level: int, position: int) -> int:
        last = max(self.shape[axis] - self.spans(level)[axis], 0)
        return min(max(self._origins(axis, level)[position] - self._shift(axis, level), 0), last)

    def _stride(self, axis: int, level: int) -> int:
        return max(int(self.spans(level)[axis] * (1 - self.overlap)), 1)

    def _shift(self, axis: int, level: int) -> int:
        return self.shift[axis] * self.spans(level)[axis] // self.side

    def _border(self, axis: int, level: int, position: int) -> int:
        """Return where tile `position` hands over to the next: the middle of what both read."""
        here = self._origin(axis, level, position)
        after = self._origin(axis, level, position + 1)
        return (here + after + self.spans(level)[axis]) // 2

    def _interval(self, axis: int, level: int, position: int) -> tuple[int, int, int, int]:
        length = self.shape[axis]
        last = len(self._origins(axis, level)) - 1
        start = self._origin(axis, level, position)
        stop = min(start + self.spans(level)[axis], length)
        own_start = 0 if position == 0 else self._border(axis, level, position - 1)
        own_stop = length if position == last else self._border(axis, level, position)
        return start, stop, own_start, own_stop

    def _owner(self, axis: int, level: int, at: float) -> int:
        last = len(self._origins(axis, level)) - 1
        first_border = self.spans(level)[axis] * self.overlap / 2
        position = min(max(int((at + self._shift(axis, level) - first_border) // self._stride(axis, level)), 0), last)
        while position > 0 and at < self._border(axis, level, position - 1):
            position -= 1
        while position < last and at >= self._border(axis, level, position):
            position += 1
        return position
