"""Sweep: propose the objects of a plane, tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.predictor import DenseGuesses, WindowPredictor
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.embeddings.cache import tile_digest
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import GridOptions
from napari_sam.everything.proposal_cache import ProposalCache, key_of
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.proposing.grid import GridProposer
from napari_sam.everything.proposing.guided import GuidedProposer, is_uniform
from napari_sam.everything.proposing.levels import LEAST_SIDE_OF_GRID, coarsest_level, levels_for, sampled_levels

if TYPE_CHECKING:
    from napari_sam.embeddings.encoder import TileEncoder

# Image encoders take sides that are multiples of their coarsest stride.
SIDE_STEP = 32


class Proposer(Protocol):
    """Proposes the objects of one tile.

    Attributes
    ----------
    side, overlap
        Side of the tiles in tile pixels, and the share that the next tile reads too.
    """

    side: int
    overlap: float

    def propose(self, tile: Tile, render: Callable[[Tile], NDArray[np.uint8]], shape: tuple[int, int]) -> Proposals:
        """Propose the objects of a tile of a plane of `shape`; `render` returns the pixels of a tile."""
        ...

    def pictures(self, tile: Tile) -> tuple[Tile, ...]:
        """Return the tiles that may be rendered for a tile, itself first."""
        ...


@dataclass(frozen=True, slots=True)
class Region:
    """The part of a plane that is searched.

    Parameters
    ----------
    box
        Half-open, in level-0 pixels.
    mask
        Pixels in it that count, or None for all.
    first
        The part that is searched first, and what lies around it next; by default the coarse levels are.
    """

    box: Box
    mask: Mask | None = None
    first: Box | None = None

    def meets(self, tile: Tile) -> bool:
        """Return whether a tile owns a pixel that counts."""
        part = tile.owned.intersection(self.box).rounded_out()
        if part.is_empty or self.mask is None:
            return not part.is_empty
        inside = part.intersection(self.mask.box)
        if inside.is_empty:
            return False
        return bool(self.mask.pixels[inside.moved(-self.mask.box.top, -self.mask.box.left).slices].any())

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points (row, col), shape (n, 2), count."""
        inside = self.box.contains_points(points)
        if self.mask is not None:
            cells = np.floor(points + 0.5).astype(np.intp) - (int(self.mask.box.top), int(self.mask.box.left))
            inside &= ((cells >= 0) & (cells < self.mask.pixels.shape)).all(axis=1)
            inside[inside] = self.mask.pixels[tuple(cells[inside].T)]
        return inside


@dataclass(frozen=True, slots=True, eq=False)
class EverythingProgress:
    """Progress of a search for all objects of a plane.

    Parameters
    ----------
    total, done
        Number of tiles of the search, and of finished ones.
    plane
        The plane.
    parts
        What each finished tile proposed.
    numbers
        The number of each finished tile in the order in which they are joined; that of `parts` by default.
    """

    total: int
    done: int
    plane: Plane
    parts: Sequence[Proposals]
    numbers: Sequence[int] | None = field(default=None, kw_only=True)

    @property
    def proposals(self) -> Proposals:
        """What was proposed so far."""
        order = range(self.done) if self.numbers is None else np.argsort(self.numbers[: self.done])
        return Proposals.joined([self.parts[at] for at in order])

    @property
    def found(self) -> FoundObjects:
        """What was found so far."""
        return FoundObjects(self.plane, self.proposals)


RunTiles = Callable[[Sequence[Tile]], Iterator[tuple[Tile, Proposals]]]


def propose_all(plane: Plane, sweep: Sweep, run: RunTiles | None = None) -> Iterator[EverythingProgress]:
    """Propose all objects of a sweep; yields after every tile, and once for a region without any.

    Parameters
    ----------
    plane, sweep
        What is searched.
    run
        Proposes the objects of tiles, in any order; `Sweep.run` by default.
    """
    tiles = sweep.tiles
    number_of = {tile: number for number, tile in enumerate(tiles)}
    parts: list[Proposals] = []
    numbers: list[int] = []
    yield EverythingProgress(len(tiles), 0, plane, parts, numbers=numbers)
    for tile, proposals in (run or sweep.run)(tiles):
        parts.append(proposals)
        numbers.append(number_of[tile])
        yield EverythingProgress(len(tiles), len(parts), plane, parts, numbers=numbers)


class Sweep:
    """Proposes the objects of a region, on the tiles of one or several levels.

    Parameters
    ----------
    encoder
        Encoder of the volume.
    plane, region
        Where.
    sizes
        (smallest, largest) diameter of the objects, in units; None to find out on a sample.
    grid
        Options of the grid of points, for a model that has no dense guesses; or to use the grid with one that has.
    levels
        The levels, where they are known; by default they follow from the sizes.
    shift
        Moves the tiles, in tile pixels, by multiples of 32: what an image encoder sees depends on where its coarsest
        cells begin. See `TileGrid`. For tests of the seams.
    cache
        Where the proposals of tiles are kept, so that tiles that were searched before are not encoded again; None to
        keep nothing.

    Attributes
    ----------
    encoder, plane, region
        As given.
    grid_options
        The options of the grid of points, or None for the model's guesses.
    levels
        The levels that are searched.
    shape, pixel_size
        Rows and columns of the plane, and the size of a pixel along them in units.
    """

    def __init__(
        self,
        encoder: TileEncoder,
        plane: Plane,
        region: Region,
        *,
        sizes: tuple[float, float] | None = None,
        grid: GridOptions | None = None,
        levels: Sequence[int] | None = None,
        shift: tuple[int, int] = (0, 0),
        cache: ProposalCache | None = None,
    ) -> None:
        self.encoder, self.plane, self.region, self.grid_options = encoder, plane, region, grid
        self._cache = cache
        self.shape = plane.shape_in(encoder.volume.shape)
        predictor = encoder.predictor
        options = grid or GridOptions()
        self._dense: WindowPredictor | None = None
        self._proposer: Proposer = GridProposer(predictor, options)
        if grid is None and isinstance(predictor, WindowPredictor) and predictor.guesses_foreground:
            self._dense, self._proposer = predictor, GuidedProposer(predictor)
        self.pixel_size = encoder.volume.pixel_size(plane)
        self._shift = (shift[0] // SIDE_STEP * SIDE_STEP, shift[1] // SIDE_STEP * SIDE_STEP)
        self.levels = self._levels(sizes, options) if levels is None else list(levels)
        if self._dense is None and self.levels:
            self._proposer = GridProposer(predictor, options, max(self.levels))

    def grid(self, level: int, side: int | None = None) -> TileGrid:
        """Return the tiles of a level; where the whole plane is smaller than a tile, one no larger than needed.

        Parameters
        ----------
        level
            The level.
        side
            Side of the tiles, in tile pixels; by default that of the search.
        """
        side = side or self._proposer.side
        if self._dense is not None:
            longest = max(length * size for length, size in zip(self.shape, self.pixel_size, strict=True))
            needed = math.ceil(longest * 2.0**-level / SIDE_STEP) * SIDE_STEP
            side = min(max(needed, self._dense.window_side), side)
        return TileGrid(self.shape, side, self.pixel_size, self._proposer.overlap, self._shift)

    @property
    def tiles(self) -> list[Tile]:
        """The tiles, the coarse levels first; or those first that lie nearest to what is searched first."""
        tiles = [
            tile
            for level in sorted(self.levels, reverse=True)
            for tile in self.grid(level).tiles_over(level, self.region.box)
            if self.region.meets(tile)
        ]
        first = self.region.first
        return tiles if first is None else sorted(tiles, key=lambda tile: _distance(tile.owned, first))

    def run(self, tiles: Sequence[Tile]) -> Iterator[tuple[Tile, Proposals]]:
        """Propose the objects of tiles, in their order.

        Raises
        ------
        ImageError
            A tile cannot be read.
        """
        for tile in tiles:
            yield tile, self.proposals(tile)

    def proposals(self, tile: Tile, render: Callable[[Tile], NDArray[np.uint8]] | None = None) -> Proposals:
        """Propose the objects of a tile; its pixels are those that `render` returns, and of the volume by default."""
        found = self._proposed(tile, render or self.render)
        return found.taken(np.flatnonzero(self.region.holds(found.points)))

    def pictures(self, tile: Tile) -> tuple[Tile, ...]:
        """Return the tiles that may be rendered for a tile, itself first."""
        return self._proposer.pictures(tile)

    def known(self, tile: Tile) -> Proposals | None:
        """Return what an earlier search has proposed on a tile, in and around the region; None where there was none."""
        return None if self._cache is None else self._cache.get(self._key(tile, self.render(tile)))

    def _proposed(self, tile: Tile, render: Callable[[Tile], NDArray[np.uint8]]) -> Proposals:
        """Return the proposals of a tile, from the cache if they are there."""
        if self._cache is None:
            return self._proposer.propose(tile, render, self.shape)
        rendered = render(tile)
        key = self._key(tile, rendered)
        found = self._cache.get(key)
        if found is None:
            found = self._proposer.propose(tile, lambda other: rendered if other == tile else render(other), self.shape)
            self._cache.put(key, found)
        return found

    def _key(self, tile: Tile, rendered: NDArray[np.uint8]) -> str:
        """Return the key of a tile's proposals; the grid of points depends on the coarsest level, too."""
        digest = tile_digest(rendered, self.encoder.predictor.digest)
        coarsest = None if self._dense is not None else max(self.levels)
        return key_of(digest, tile, self.shape, self.grid_options, coarsest)

    def render(self, tile: Tile) -> NDArray[np.uint8]:
        """Return the pixels of a tile, as the image encoder sees them."""
        return self.encoder.volume.render(self.plane, tile, self.encoder.rendering)

    def _levels(self, sizes: tuple[float, float] | None, options: GridOptions) -> list[int]:
        if sizes is not None:
            return levels_for(sizes, self.shape)
        if self._dense is not None:
            # A sample of small tiles says as much and costs a quarter.
            small = self.encoder.predictor.input_side
            volume = self.encoder.volume
            return sampled_levels(
                lambda level: self.grid(level, small),
                self._guesses,
                self.region.box,
                lambda tile: volume.pixels_for(self.plane, tile),
            )
        grid = self.grid(0)
        top = min(grid.max_level, coarsest_level(self.shape, LEAST_SIDE_OF_GRID))
        return sorted({grid.clamp(top - step) for step in range(options.crop_n_layers + 1)})

    def _guesses(self, tile: Tile) -> DenseGuesses | None:
        rendered = self.render(tile)
        if is_uniform(rendered, tile):
            return None
        assert self._dense is not None
        (embedding,) = self.encoder.predictor.encode(rendered[None])
        return self._dense.dense_guesses(embedding)


def _distance(box: Box, other: Box) -> float:
    """Return how far apart two boxes are, 0 where they meet."""
    rows = max(box.top - other.bottom, other.top - box.bottom, 0)
    cols = max(box.left - other.right, other.left - box.right, 0)
    return float(math.hypot(rows, cols))
