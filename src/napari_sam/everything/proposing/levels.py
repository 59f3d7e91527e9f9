"""Which levels a sweep needs: from the sizes that the user names, or from a sample of the plane."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.core.predictor import DenseGuesses
from napari_sam.core.tiles import MAX_MAGNIFICATION_LEVEL, Tile, TileGrid
from napari_sam.everything.proposing.seeds import CELL, LEAST_FOREGROUND

# Square root of the area, in tile pixels, at which objects are found best; they are decoded at twice the size then.
BEST_SIZE = 25.0
# A level counts if this share of the most frequent size's votes are for sizes that suit it.
LEAST_SHARE = 0.25
# The finest level that is tried without a wish of the user: magnified by this much.
FINEST = -2
# The coarsest level shows the plane at least this large, in tile pixels: one object may be as large as the plane.
LEAST_SIDE = 40.0
# The same for a grid of points, whose coarsest layer has points at a fixed number for each tile.
LEAST_SIDE_OF_GRID = 96.0
# The sample has no tiles that lie on more pixels of the data: without coarser levels, the coarsest tile of a plane of
# 100 000 x 100 000 pixels reads all of them.
MOST_PIXELS_SAMPLED = 2**26


def coarsest_level(shape: tuple[int, int], least_side: float = LEAST_SIDE) -> int:
    """Return the coarsest level on which a plane is still of some size."""
    return max(FINEST, math.floor(math.log2(max(shape) / least_side)))


def levels_for(sizes: tuple[float, float], shape: tuple[int, int]) -> list[int]:
    """Return the levels for objects of a range of diameters, in units; see `TileGrid`."""
    last = coarsest_level(shape)
    low, high = (
        round(math.log2(max(size, 1.0) * math.sqrt(math.pi) / 2 / BEST_SIZE)) if math.isfinite(size) else last
        for size in sizes
    )
    low = min(max(low, MAX_MAGNIFICATION_LEVEL), last)
    return list(range(low, max(min(high, last), low) + 1))


def sampled_levels(
    grid_of: Callable[[int], TileGrid],
    guesses: Callable[[Tile], DenseGuesses | None],
    box: Box,
    pixels_of: Callable[[Tile], float],
) -> list[int]:
    """Return the levels at which most of the objects in a box are found best.

    Some tiles of each level are looked at. A level is taken if many cells guess there that their object has the size
    that suits it.

    Parameters
    ----------
    grid_of
        Returns the tiles of a level.
    guesses
        Encodes a tile and returns its guesses; None for a tile without any content.
    box
        Part of the plane that is looked at.
    pixels_of
        Returns the number of pixels of the data that a tile lies on. Levels whose tiles lie on more than
        `MOST_PIXELS_SAMPLED` are not looked at.
    """
    shape = grid_of(0).shape
    votes: dict[int, float] = {}
    for level in range(FINEST, coarsest_level(shape) + 1):
        tiles = list(_spread(list(grid_of(level).corners(level, box)), grid_of(level)))
        if any(pixels_of(tile) > MOST_PIXELS_SAMPLED for tile in tiles):
            break
        seen = [(tile, guess) for tile in tiles if (guess := guesses(tile)) is not None]
        votes[level] = float(np.mean([_votes(guess, tile) for tile, guess in seen])) if seen else 0.0
    most = max(votes.values())
    if most == 0:
        return [min(0, max(votes))]
    return [level for level, count in votes.items() if count >= LEAST_SHARE * most]


def _votes(guesses: DenseGuesses, tile: Tile) -> float:
    """Return the share of a tile that lies on objects of the size that suits it."""
    assert guesses.foreground is not None
    rows, cols = (
        max(1, min(math.ceil(length / step / CELL), guesses.radius.shape[0]))
        for length, step in zip((tile.read.height, tile.read.width), tile.step, strict=True)
    )
    foreground, radius = guesses.foreground[:rows, :cols], guesses.radius[:rows, :cols]
    least, most = BEST_SIZE / math.sqrt(2), BEST_SIZE * math.sqrt(2)
    suits: NDArray[np.bool_] = (foreground > LEAST_FOREGROUND) & (radius >= least) & (radius < most)
    return float(foreground[suits].sum() / foreground.size)


def _spread(corners: Sequence[Tile], grid: TileGrid) -> Iterable[Tile]:
    """Return a few tiles between the first and the last one."""
    first, last = corners
    rows, cols = last.row - first.row + 1, last.col - first.col + 1
    down, across = (
        [start + (2 * i + 1) * count // (2 * min(count, 2)) for i in range(min(count, 2))]
        for start, count in ((first.row, rows), (first.col, cols))
    )
    return [grid.tile(first.level, row, col) for row in down for col in across]
