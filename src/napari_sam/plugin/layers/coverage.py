"""The coverage layer: an outline of the tiles that are encoded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.tiles import Tile
from napari_sam.plugin.layers.adapters import translate_to
from napari_sam.plugin.layers.factory import make_drawing

if TYPE_CHECKING:
    from napari.layers import Image, Labels

COVERAGE_COLOR = "#4aa3df"
# Pixels of the picture along a tile.
CELLS = 64


def make_coverage(image: Image) -> Labels:
    """Return a layer that outlines which tiles are encoded; `show_coverage` fills it."""
    return make_drawing(image, "SAM coverage", COVERAGE_COLOR)


def show_coverage(
    layer: Labels,
    image: Image,
    plane: Plane,
    coverage: tuple[Box, NDArray[np.uint8], tuple[float, float]] | None,
) -> None:
    """Draw which tiles are encoded; see `coverage_of`."""
    if coverage is None:
        layer.data = np.zeros((1,) * image.ndim, np.uint8)
        return
    box, cells, size = coverage
    # Drawn here and not by napari's own contours, of which it complains in three dimensions.
    cells = np.pad(cells, 1)
    cells = cells & ~binary_erosion(cells)
    position, factor = np.array(plane.index, float), np.ones(image.ndim)
    for axis, start, step in zip(plane.axes, (box.top, box.left), size, strict=True):
        # The middle of the first cell, which lies outside of the box.
        position[axis], factor[axis] = start - step / 2 - 0.5, step
    shape = [1] * image.ndim
    shape[plane.axes[0]], shape[plane.axes[1]] = cells.shape
    layer.data = plane.oriented(cells).reshape(shape)
    # Setting each of them takes napari 10 ms.
    for name, value in (("scale", np.asarray(image.scale) * factor), ("translate", translate_to(image, position))):
        if not np.allclose(getattr(layer, name), value, rtol=1e-12):
            setattr(layer, name, value)


def coverage_of(tiles: list[Tile], ready: list[Tile]) -> tuple[Box, NDArray[np.uint8], tuple[float, float]] | None:
    """Return which tiles are ready: the box of all, its cells (1 where a ready one owns them), and a cell's size."""
    if not tiles:
        return None
    box = tiles[0].owned
    for tile in tiles[1:]:
        box = box.union(tile.owned)
    height, width = (max(step * tiles[0].side / CELLS, 1.0) for step in tiles[0].step)
    cells = np.zeros((math.ceil(box.height / height), math.ceil(box.width / width)), np.uint8)
    for tile in ready:
        own = tile.owned.moved(-box.top, -box.left)
        # Rounded alike on both sides, so neighbours share no cell; the last ones take what is left.
        bottom = None if own.bottom >= box.height else max(round(own.bottom / height), 1)
        right = None if own.right >= box.width else max(round(own.right / width), 1)
        cells[round(own.top / height) : bottom, round(own.left / width) : right] = 1
    return box, cells, (height, width)
