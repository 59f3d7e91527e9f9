"""RoundDecoder: one round of prompts, decoded on the tile and at the level that suit the object."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.candidates import Candidates
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, mask_from_logits, touches_border
from napari_sam.core.prompts import Prompts, TilePrompts
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.errors import PromptError

if TYPE_CHECKING:
    from napari_sam.core.predictor import Predictor

MAX_REFINEMENTS = 2
MAX_PIXELS_PROBED = 2**24


class RoundDecoder:
    """Decode prompts on the tiles of a volume.

    Parameters
    ----------
    encoder
        Gives the embeddings of tiles.
    predictor
        Decodes prompts on them.
    """

    def __init__(self, encoder: TileEncoder, predictor: Predictor) -> None:
        self._encoder, self._predictor, self._volume = encoder, predictor, encoder.volume

    def answer(self, plane: Plane, prompts: Prompts, previous: Mask | None, downsample: float | None) -> Candidates:
        """Decode one round of prompts at the level that suits the object."""
        grid = self._encoder.grid(plane)
        if previous is None and prompts.box is None and prompts.bounds.extent < 2:
            found = self._probe(plane, grid, prompts, downsample)
        else:
            bounds = bounds_of(prompts, previous)
            found = self.decode_on(plane, self.tile_for(grid, bounds, previous), prompts, previous)
        return replace(self._refine(plane, grid, prompts, found), prompts=prompts, downsample=downsample)

    def tile_for(self, grid: TileGrid, bounds: Box, previous: Mask | None) -> Tile:
        """Return the tile for an object inside `bounds`: the one of the last answer as long as that suits."""
        tile = previous.tile if previous else None
        least, most = self._predictor.object_range
        if tile and tile.read.contains(bounds) and least < grid.extent(bounds) / grid.span(tile.level) < most:
            return tile
        return grid.tile_at(grid.level_for(grid.extent(bounds), self._predictor.object_fraction), *bounds.center)

    def _probe(self, plane: Plane, grid: TileGrid, prompts: Prompts, downsample: float | None) -> Candidates:
        """Decode a single point, which says nothing of size, at several levels and return the best answer."""
        reach = self._predictor.probe_levels
        if downsample is None and reach:
            reach += 1  # A script has no zoom to guess from.
        middle = round(math.log2(downsample or 1))
        levels = range(middle - reach, middle + reach + 1)
        center = prompts.bounds.center
        tiles = [grid.tile_at(level, *center) for level in sorted({grid.clamp(level) for level in levels})]
        # Without coarser levels in the data, a view of all of a huge image asks for more than a click should read.
        tiles = [tile for tile in tiles if self._volume.pixels_for(plane, tile) <= MAX_PIXELS_PROBED] or tiles[:1]
        self._volume.read_ahead(plane, [tile for tile in tiles if not self._encoder.is_ready(plane, tile)])
        self._check_value(plane, tiles[0], prompts)
        answers = [self.decode_on(plane, tile, prompts, None) for tile in tiles]
        return max(answers, key=lambda answer: answer.best.iou_prediction if answer.best.area else -1.0)

    def _check_value(self, plane: Plane, tile: Tile, prompts: Prompts) -> None:
        """Refuse a lone point where the image holds nothing.

        Raises
        ------
        PromptError
            It does.
        """
        if not self._volume.may_hold_nothing:
            return
        point = prompts.positive[0]
        pixels, origin, size = self._volume.read_tile(plane, tile)
        at = [int((p + 0.5 - start) / step) for p, start, step in zip(point, origin, size, strict=True)]
        row, col = (min(max(i, 0), n - 1) for i, n in zip(at, pixels.shape, strict=False))
        if not np.isfinite(pixels[row, col]).any():
            raise PromptError(f"The image holds no data at ({point[0]:g}, {point[1]:g}): click where it does.")

    def _refine(self, plane: Plane, grid: TileGrid, prompts: Prompts, found: Candidates) -> Candidates:
        """Decode again where the mask's own extent asks for another level, with that mask as prompt."""
        seen = {found.best.tile}
        for _ in range(MAX_REFINEMENTS):
            mask = found.best
            assert mask.tile is not None
            if mask.area == 0:
                break
            bounds = bounds_of(prompts, mask)
            if touches_border(mask, grid.shape):
                tile = grid.tile_at(grid.clamp(mask.tile.level + 1), *bounds.center)
            else:
                tile = self.tile_for(grid, bounds, mask)
            if tile in seen:
                break
            seen.add(tile)
            found = self.decode_on(plane, tile, prompts, mask)
        return found

    def decode_on(self, plane: Plane, tile: Tile, prompts: Prompts, previous: Mask | None) -> Candidates:
        """Decode one round of prompts on one tile, wherever that lies; the better level is `segment`'s to find."""
        decoded = self._predictor.decode(self._encoder.embedding(plane, tile), TilePrompts.on(tile, prompts, previous))
        masks = [
            mask_from_logits(logits, tile, float(iou))
            for logits, iou in zip(decoded.logits, decoded.iou_prediction, strict=True)
        ]
        order = sorted(range(len(masks)), key=lambda i: masks[i].area)
        best = int(np.argmax(decoded.iou_prediction))
        return Candidates(tuple(masks[i] for i in order), order.index(best), plane)


def bounds_of(prompts: Prompts, mask: Mask | None) -> Box:
    """Return the smallest box that holds the prompts and an earlier answer to them."""
    return prompts.bounds if mask is None or mask.area == 0 else prompts.bounds.union(mask.box)
