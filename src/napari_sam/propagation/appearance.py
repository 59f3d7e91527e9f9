"""Appearance: what an object and its surroundings look like to the image encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.masks import Mask
from napari_sam.core.prompts import coverage
from napari_sam.core.tiles import Tile
from napari_sam.similarity.regions import inside_of, ring_around

# The surroundings reach as far as this, in cells.
FAR = 5
MOST = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """Mean features of an object and of its surroundings.

    Parameters
    ----------
    inside, around
        Shape (channels,), float32.
    """

    inside: NDArray[np.float32]
    around: NDArray[np.float32]

    @classmethod
    def of(cls, features: NDArray[np.float32], tile: Tile, mask: Mask) -> Self:
        """Return the appearance of a mask on a tile with features of shape (channels, cells, cells)."""
        covered = _covered(tile, mask, features.shape[-1])
        inside = inside_of(covered)
        ring = ring_around(inside, FAR)
        return cls(features[:, inside].mean(1), features[:, ring].mean(1))

    def likeness(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how like the object each cell is: 1 as the object, -1 as its surroundings; from -3 to 3."""
        difference = self.inside - self.around
        length = np.float32(np.linalg.norm(difference) + 1e-3)
        middle = (self.inside + self.around) / 2
        along = np.tensordot(difference / length, features - middle[:, None, None], 1)
        return np.asarray((along / length * 2).clip(-MOST, MOST), np.float32)


def _covered(tile: Tile, mask: Mask, cells: int) -> NDArray[np.float32]:
    """Return the share of each cell of a tile that a mask covers, shape (cells, cells)."""
    height, width = (tile.side / cells * step for step in tile.step)
    at = np.arange(cells) + 0.5
    return coverage(mask, tile.read.top + at * height, tile.read.left + at * width, (height, width))
