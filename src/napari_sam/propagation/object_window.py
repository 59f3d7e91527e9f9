"""ObjectWindow: the square around an object, in which it is followed into the next plane."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.following.mask_fuser import WINDOW_CELLS
from napari_sam.core.geometry import Box, Plane, interpolated
from napari_sam.core.masks import Mask, mask_from_logits
from napari_sam.core.prompts import coverage
from napari_sam.core.rendering import Rendering
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.images.volume import Volume

# Side of the window, in extents of the object.
SPAN = 2.2
# The window of a smaller object is no smaller, in units.
LEAST_EXTENT = 4.0
# Tile pixels to a side of a logit.
CELL = 4


@dataclass(frozen=True, slots=True)
class ObjectWindow:
    """A square of a plane in cells, moved inside the plane where it would reach out.

    Parameters
    ----------
    tile
        The square, with a pixel for each cell.
    span
        Its side, in units: pixels along the finer axis.
    """

    tile: Tile
    span: float

    @classmethod
    def around(cls, grid: TileGrid, box: Box, span: float | None = None) -> Self:
        """Return the window around the box of an object, of the size that suits it or of a given span."""
        span = max(grid.extent(box), LEAST_EXTENT) * SPAN if span is None else span
        sides = [span / size for size in grid.pixel_size]
        top, left = (
            max(0.0, min(middle - side / 2, length - side))
            for middle, side, length in zip(box.center, sides, grid.shape, strict=True)
        )
        bottom, right = min(top + sides[0], grid.shape[0]), min(left + sides[1], grid.shape[1])
        read = Box(top, left, bottom, right)
        step = (sides[0] / WINDOW_CELLS, sides[1] / WINDOW_CELLS)
        return cls(Tile(0, 0, 0, WINDOW_CELLS, read, read, step), span)

    def pixels(self, volume: Volume, plane: Plane, rendering: Rendering) -> NDArray[np.float32]:
        """Return the brightness of each cell, 0 to 1, shape (cells, cells)."""
        return np.asarray(volume.render(plane, self.tile, rendering).mean(-1) / 255, np.float32)

    def coverage(self, mask: Mask | None) -> NDArray[np.float32]:
        """Return the share of each cell that a mask covers, shape (cells, cells)."""
        if mask is None or mask.area == 0:
            return np.zeros((WINDOW_CELLS, WINDOW_CELLS), np.float32)
        return np.asarray(coverage(mask, *self._centers(), self.tile.step).clip(0, 1), np.float32)

    def is_inside(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which cells lie in a plane of `shape`; a small plane does not fill the window."""
        rows, cols = self._centers()
        return np.asarray((rows < shape[0])[:, None] & (cols < shape[1]), bool)

    def sampled(self, tile: Tile, values: NDArray[np.float32], outside: float) -> NDArray[np.float32]:
        """Return the values of a tile's cells at the cells of the window.

        Parameters
        ----------
        tile
            The tile.
        values
            Shape (channels, n, n), over the whole tile, padding included.
        outside
            The value where the tile does not reach.
        """
        rows, cols = self._centers()
        height, width = (tile.side / values.shape[-1] * step for step in tile.step)
        at = (rows - tile.read.top) / height, (cols - tile.read.left) / width
        found = np.stack([interpolated(channel, *at) for channel in values])
        is_row = (rows >= tile.read.top) & (rows < tile.read.bottom)
        is_col = (cols >= tile.read.left) & (cols < tile.read.right)
        return np.where(is_row[:, None] & is_col, found, np.float32(outside))

    def mask(self, logits: NDArray[np.float32], confidence: float) -> Mask:
        """Return the mask of the window's logits, shape (cells, cells), at the resolution of the plane."""
        # To `mask_from_logits` each logit stands for a square of tile pixels.
        step = (self.tile.step[0] / CELL, self.tile.step[1] / CELL)
        finer = replace(self.tile, side=self.tile.side * CELL, step=step)
        return mask_from_logits(logits, finer, confidence)

    def _centers(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the rows and columns of the middles of the cells."""
        at = np.arange(WINDOW_CELLS) + 0.5
        return self.tile.read.top + at * self.tile.step[0], self.tile.read.left + at * self.tile.step[1]
