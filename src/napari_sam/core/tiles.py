"""Tiles in scale space: at every level the plane is covered by tiles that overlap by half.

With s the side of the encoder's input and d = 2**level the downsample factor, a tile reads s*d x s*d level-0 pixels and
its neighbours stand s*d/2 away, so wherever an object of up to s*d/2 lies, one tile sees it whole. Levels below 0
magnify: they are for objects of a few pixels. At the image's edge a tile is moved inside instead of being padded; only
an image smaller than the tile is padded. Each tile *owns* its central half (the outer ones up to the image's edge),
so every pixel has one owner at every level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    """

    level: int
    row: int
    col: int
    side: int
    read: Box
    owned: Box

    @property
    def downsample(self) -> float:
        """Level-0 pixels for each tile pixel."""
        return 2.0**self.level

    def point_to_tile(self, row: float, col: float) -> tuple[float, float]:
        """Turn a level-0 point into tile pixels, where again whole numbers are pixel centres."""
        d = self.downsample
        return (row + 0.5 - self.read.top) / d - 0.5, (col + 0.5 - self.read.left) / d - 0.5

    def box_to_tile(self, box: Box) -> Box:
        """Turn a level-0 box into tile pixel edges, cut to the tile."""
        d = self.downsample
        edges = Box(
            (box.top - self.read.top) / d,
            (box.left - self.read.left) / d,
            (box.bottom - self.read.top) / d,
            (box.right - self.read.left) / d,
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
    """

    shape: tuple[int, int]
    side: int

    @property
    def min_level(self) -> int:
        """The finest level: magnified as long as a tile still covers at least 8 pixels."""
        return max(MAX_MAGNIFICATION_LEVEL, 3 - int(math.log2(self.side)))

    @property
    def max_level(self) -> int:
        """The first level at which one tile covers the whole plane."""
        return max(self.min_level, math.ceil(math.log2(max(self.shape) / self.side)))

    def clamp(self, level: int) -> int:
        return min(max(level, self.min_level), self.max_level)

    def span(self, level: int) -> int:
        """Return the side of a tile of this level, in level-0 pixels."""
        return int(self.side * 2.0**level)

    def count(self, level: int) -> tuple[int, int]:
        """Return how many tiles the level has along rows and columns."""
        rows, cols = (len(self._origins(length, level)) for length in self.shape)
        return rows, cols

    def tile(self, level: int, row: int, col: int) -> Tile:
        """Return the tile at a grid position."""
        (top, bottom, own_top, own_bottom) = self._interval(0, level, row)
        (left, right, own_left, own_right) = self._interval(1, level, col)
        return Tile(
            level,
            row,
            col,
            self.side,
            read=Box(top, left, bottom, right),
            owned=Box(own_top, own_left, own_bottom, own_right),
        )

    def tile_at(self, level: int, row: float, col: float) -> Tile:
        """Return the tile that owns the position (row, col), in level-0 pixel edges; outside ones are moved in."""
        return self.tile(level, self._owner(0, level, row), self._owner(1, level, col))

    def level_for(self, extent: float, fraction: float) -> int:
        """Return the level at which an object of `extent` level-0 pixels comes nearest to `fraction` of a tile.

        It is never so fine that the object could be cut: the extent is at most half the tile.
        """
        wanted = math.log2(max(extent, 1e-3) / (fraction * self.side))
        whole = math.ceil(math.log2(max(extent, 1e-3) / (0.5 * self.side)))
        return self.clamp(max(round(wanted), whole))

    def _origins(self, length: int, level: int) -> range:
        span = self.span(level)
        stride = max(span // 2, 1)
        return range(0, max(length - span, 0) + stride, stride) if length > span else range(1)

    def _origin(self, axis: int, level: int, position: int) -> int:
        length, span = self.shape[axis], self.span(level)
        return min(self._origins(length, level)[position], max(length - span, 0))

    def _border(self, axis: int, level: int, position: int) -> int:
        """Return where tile `position` hands over to the next: the middle of what both read."""
        here = self._origin(axis, level, position)
        after = self._origin(axis, level, position + 1)
        return (here + after + self.span(level)) // 2

    def _interval(self, axis: int, level: int, position: int) -> tuple[int, int, int, int]:
        length = self.shape[axis]
        last = len(self._origins(length, level)) - 1
        start = self._origin(axis, level, position)
        stop = min(start + self.span(level), length)
        own_start = 0 if position == 0 else self._border(axis, level, position - 1)
        own_stop = length if position == last else self._border(axis, level, position)
        return start, stop, own_start, own_stop

    def _owner(self, axis: int, level: int, at: float) -> int:
        last = len(self._origins(self.shape[axis], level)) - 1
        span = self.span(level)
        position = min(max(int((at - span / 4) // max(span // 2, 1)), 0), last)
        while position > 0 and at < self._border(axis, level, position - 1):
            position -= 1
        while position < last and at >= self._border(axis, level, position):
            position += 1
        return position
