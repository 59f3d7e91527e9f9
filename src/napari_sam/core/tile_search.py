"""TileSearch: choose the tile, and so the level, on which an object is decoded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.core.masks import touches_border
from napari_sam.core.predictor import ScoringPredictor

if TYPE_CHECKING:
    from napari_sam.core.candidates import Candidates
    from napari_sam.core.geometry import Box
    from napari_sam.core.masks import Mask
    from napari_sam.core.predictor import Predictor
    from napari_sam.core.prompts import Prompts
    from napari_sam.core.tiles import Tile, TileGrid

MAX_REFINEMENTS = 2
MAX_PIXELS_PROBED = 2**24


@dataclass(frozen=True, slots=True)
class SearchStep:
    """One decoding that a search asks for.

    Parameters
    ----------
    tile
        The tile to decode.
    previous
        The mask whose logits are given to the decoder, or None.
    """

    tile: Tile
    previous: Mask | None


class TileSearch:
    """Search the tile that suits the object of one round of prompts.

    A single point says nothing of the object's size: tiles of several levels around the zoom are decoded, and the
    answer with the highest predicted IoU is taken. A box, a mask, several points or a previous answer have an extent,
    which gives one tile at once; a `ScoringPredictor` also gets the tiles one level finer and coarser. Such a predictor
    scores the answers of all these tiles together, after each of them.
    Then the extent of the mask decides: where it asks for a level that was not compared, or the mask runs into the
    border of its tile, it is decoded there again with itself as prompt, at most `MAX_REFINEMENTS` times.

    The search itself decodes nothing::

        while (step := search.next_step()) is not None:
            search.tell(step, decode(step))
        search.found

    Parameters
    ----------
    grid
        The tiles of the plane.
    predictor
        The model, of which only `object_fraction`, `object_range`, `probe_levels` and, if it has one, `score` are used.
    prompts
        One round of prompts of one object.
    previous
        The mask of the round before, or None.
    downsample
        Image pixels for each pixel of the screen: the middle of the levels that a single point is tried at. None for a
        script, which tries one level more at each end.
    start_level
        The level that is likely to suit, for example that of the mask at the last position or in the neighboring plane.
        It is tried first. This changes the order of the steps only, not the answer.
    pixels_of
        Returns the number of data pixels that must be read for a tile. Without coarser levels in the data, a view of
        all of a huge image asks for more than a single point should read: tiles of more than `MAX_PIXELS_PROBED` are
        not tried while there are others.
    may_decode
        Returns whether a tile may be decoded, for example because it is encoded already; all by default. Other tiles
        are left out of the search.

    Attributes
    ----------
    prompts
        The prompts.
    is_probing
        Whether the prompts are a single point, which is tried at several levels.
    found
        The best answer so far, or None.
    left_out
        Whether a tile was left out because of `may_decode`.
    """

    def __init__(
        self,
        grid: TileGrid,
        predictor: Predictor,
        prompts: Prompts,
        previous: Mask | None = None,
        *,
        downsample: float | None = None,
        start_level: int | None = None,
        pixels_of: Callable[[Tile], float],
        may_decode: Callable[[Tile], bool] | None = None,
    ) -> None:
        self.prompts = prompts
        self.found: Candidates | None = None
        self.left_out = False
        self._grid, self._predictor, self._previous, self._may_decode = grid, predictor, previous, may_decode
        self._scorer = predictor if isinstance(predictor, ScoringPredictor) and predictor.compares_tiles else None
        self.is_probing = previous is None and prompts.box is None and prompts.bounds.extent < 2
        if self.is_probing:
            self._first = self._probes(downsample, start_level, pixels_of)
        else:
            bounds = _bounds_of(prompts, previous)
            self._first = self._around(self._tile_for(bounds, previous), bounds.center, pixels_of)
        self._answers: list[tuple[Tile, Candidates]] = []
        # Tiles that a refinement would gain nothing from; a tile that was only probed is not among them.
        self._settled: set[Tile] = set()
        self._refinements = 0

    @property
    def first_tiles(self) -> tuple[Tile, ...]:
        """The tiles that are decoded in any case, as far as they are known and still to come; in order."""
        return tuple(self._first)

    def next_step(self) -> SearchStep | None:
        """Return the next step, or None at the end; the same step until `tell` is called with its answer."""
        while self._first:
            if self._is_allowed(self._first[0]):
                return SearchStep(self._first[0], self._previous)
            del self._first[0]
        tile = self._better_tile()
        if self.found is None or tile is None or not self._is_allowed(tile):
            return None
        return SearchStep(tile, self.found.best)

    def tell(self, step: SearchStep, answer: Candidates) -> bool:
        """Take the answer to a step, and return whether `found` has another best mask now.

        Parameters
        ----------
        step
            What `next_step` returned.
        answer
            Answer of the decoder.
        """
        if step.previous is not self._previous:  # A refinement: it goes on from an answer of this search.
            self._refinements += 1
            self._settled.add(step.tile)
            self.found = answer
            return True
        if step.tile in self._first:
            self._first.remove(step.tile)
        self._answers = self._scored([*self._answers, (step.tile, answer)])
        before, (tile, self.found) = self.found, max(self._answers, key=_rank)
        self._settled = {tile}
        return before is None or before.best.pixels is not self.found.best.pixels

    def _scored(self, answers: list[tuple[Tile, Candidates]]) -> list[tuple[Tile, Candidates]]:
        """Return the answers with the scores that they get together, from a predictor that can tell."""
        decoded = [(tile, answer.decoded) for tile, answer in answers]
        comparable = [(tile, one) for tile, one in decoded if one is not None]
        if self._scorer is None or len(comparable) < len(answers):
            return answers
        scores = self._scorer.score(comparable)
        return [(tile, answer.scored(row)) for (tile, answer), row in zip(answers, scores, strict=True)]

    def _around(self, tile: Tile, center: tuple[float, float], pixels_of: Callable[[Tile], float]) -> list[Tile]:
        """Return a tile and, for a predictor that compares them, those of the next levels at the same center."""
        if self._scorer is None:
            return [tile]
        levels = sorted({self._grid.clamp(tile.level + step) for step in (-1, 1)} - {tile.level})
        others = [self._grid.tile_at(level, *center) for level in levels]
        return [tile, *(other for other in others if pixels_of(other) <= MAX_PIXELS_PROBED)]

    def _probes(
        self, downsample: float | None, start_level: int | None, pixels_of: Callable[[Tile], float]
    ) -> list[Tile]:
        """Return the tiles that a single point is tried on: of `start_level`, then from the zoom outwards."""
        reach = self._predictor.probe_levels
        if downsample is None and reach:
            reach += 1  # A script has no zoom to guess from.
        middle = round(math.log2(downsample or 1))
        levels = sorted({self._grid.clamp(level) for level in range(middle - reach, middle + reach + 1)})
        tiles = [self._grid.tile_at(level, *self.prompts.bounds.center) for level in levels]
        tiles = [tile for tile in tiles if pixels_of(tile) <= MAX_PIXELS_PROBED] or tiles[:1]
        tiles.sort(key=lambda tile: (abs(tile.level - middle), tile.level))
        if start_level is not None:
            nearest = min(tiles, key=lambda tile: abs(tile.level - start_level))
            tiles.sort(key=lambda tile: tile is not nearest)
        return tiles

    def _better_tile(self) -> Tile | None:
        """Return the tile that the extent of the best mask asks for, unless the mask was decoded there."""
        if self.found is None or self.found.best.area == 0 or self._refinements == MAX_REFINEMENTS:
            return None
        mask = self.found.best
        bounds = _bounds_of(self.prompts, mask)
        if touches_border(mask, self._grid.shape):
            tile = self._grid.tile_at(self._grid.clamp(self._best_tile().level + 1), *bounds.center)
        else:
            tile = self._tile_for(bounds, mask)
            if self._scorer is not None and any(tile.level == one.level for one, _ in self._answers):
                return None  # Its level was compared; to decode it again gained nothing (0.595, and 0.597 without).
        return None if tile in self._settled else tile

    def _tile_for(self, bounds: Box, previous: Mask | None) -> Tile:
        """Return the tile for an object inside `bounds`: that of the previous answer as long as it suits."""
        tile = previous.tile if previous else None
        least, most = self._predictor.object_range
        extent = self._grid.extent(bounds)
        if tile and tile.read.contains(bounds) and least < extent / self._grid.span(tile.level) < most:
            return tile
        return self._grid.tile_at(self._grid.level_for(extent, self._predictor.object_fraction), *bounds.center)

    def _best_tile(self) -> Tile:
        assert self.found is not None
        tile = self.found.best.tile
        assert tile is not None
        return tile

    def _is_allowed(self, tile: Tile) -> bool:
        is_allowed = self._may_decode is None or self._may_decode(tile)
        self.left_out = self.left_out or not is_allowed
        return is_allowed


def _rank(seen: tuple[Tile, Candidates]) -> tuple[float, int]:
    """Return what decides between tiles: the predicted IoU of a mask that is not empty, then the finer level."""
    tile, answer = seen
    return answer.best.iou_prediction if answer.best.area else -1.0, -tile.level


def _bounds_of(prompts: Prompts, mask: Mask | None) -> Box:
    """Return the smallest box that holds the prompts and an earlier answer to them."""
    return prompts.bounds if mask is None or mask.area == 0 else prompts.bounds.union(mask.box)
