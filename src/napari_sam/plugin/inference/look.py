"""A look at one place before anything is clicked: the answer of a click there, by what is encoded already."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import touches_border
from napari_sam.core.prompts import Prompts
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.segmenter import MAX_REFINEMENTS, Candidates, Segmenter

if TYPE_CHECKING:
    from napari_sam.core.masks import Mask


@dataclass(frozen=True, slots=True)
class CursorPosition:
    """Where somebody looks.

    Parameters
    ----------
    plane
        The plane that is seen.
    point
        (row, col), in level-0 pixels; whole numbers are pixel centres.
    downsample
        How many pixels of the image one pixel of the screen shows.
    """

    plane: Plane
    point: tuple[float, float]
    downsample: float

    def is_near(self, other: CursorPosition, screen_pixels: float) -> bool:
        """Say whether two spots are at most so many pixels of the screen apart."""
        far = screen_pixels * max(self.downsample, other.downsample)
        return self.plane == other.plane and math.dist(self.point, other.point) <= far


class Look:
    """Decodes one point tile by tile, so that another look can take its place after every one of them.

    The first tile shows something at once; then those of the other levels that a click would try, and last the one
    that the mask's own extent asks for. Nothing is encoded: a tile whose embedding is not at hand is left out.

    Parameters
    ----------
    segmenter
        Knows the image, the model and what is encoded.
    spot
        Where.
    level
        The level to begin with, that of the last look; by default that of the screen.

    Attributes
    ----------
    found
        The best answer so far, or None.
    """

    def __init__(self, segmenter: Segmenter, spot: CursorPosition, level: int | None = None) -> None:
        self.spot = spot
        self.found: Candidates | None = None
        self._segmenter = segmenter
        self._grid: TileGrid = segmenter.encoder.grid(spot.plane)
        self._prompts = Prompts.of([spot.point], shape=self._grid.shape)
        self._lacks = False
        self._probes = self._tiles_to_probe(level)
        self._refinements = 0
        self._seen: set[Tile] = set()

    @property
    def lacks_tiles(self) -> bool:
        """Whether tiles were left out that a click there would look at, too: they are not encoded yet."""
        return self._lacks

    def next_step(self) -> tuple[Tile, Mask | None] | None:
        """Return the tile to decode next and the mask to go on from; None when the look is at its end."""
        hurried = None if len(self._seen) != 1 else self._better_tile()
        if hurried is not None:
            return hurried
        while self._probes:
            tile = self._probes.pop(0)
            if tile not in self._seen:
                return tile, None
        return self._better_tile()

    def take_step(self, step: tuple[Tile, Mask | None]) -> Candidates:
        """Decode a tile, in any thread."""
        return self._segmenter.decode_on(self.spot.plane, step[0], self._prompts, step[1])

    def take_in(self, step: tuple[Tile, Mask | None], answer: Candidates) -> bool:
        """Keep an answer if it is better than those before; say whether it is."""
        tile, refined = step
        self._seen.add(tile)
        self._refinements += refined is not None
        if self.found is None or refined is not None or _quality(answer) > _quality(self.found):
            self.found = answer
            return True
        return False

    def _tiles_to_probe(self, level: int | None) -> list[Tile]:
        middle = round(math.log2(self.spot.downsample))
        reach = self._segmenter.predictor.probe_levels
        levels = sorted(range(middle - reach, middle + reach + 1), key=lambda at: (abs(at - middle), at))
        clamped = [self._grid.clamp(at) for at in ([] if level is None else [level]) + levels]
        center = self._prompts.bounds.center
        tiles = [self._grid.tile_at(at, *center) for at in dict.fromkeys(clamped)]
        return [tile for tile in tiles if self._is_ready(tile)]

    def _better_tile(self) -> tuple[Tile, Mask | None] | None:
        """Return the tile that the best mask's own extent asks for, if that is another one."""
        if self.found is None or self._refinements >= MAX_REFINEMENTS:
            return None
        mask = self.found.best
        if mask.area == 0 or mask.tile is None:
            return None
        bounds = self._prompts.bounds.union(mask.box)
        if touches_border(mask, self._grid.shape):
            tile = self._grid.tile_at(self._grid.clamp(mask.tile.level + 1), *bounds.center)
        else:
            tile = self._segmenter.tile_for(self._grid, bounds, mask)
        return (tile, mask) if tile not in self._seen and self._is_ready(tile) else None

    def _is_ready(self, tile: Tile) -> bool:
        is_ready = self._segmenter.encoder.is_ready(self.spot.plane, tile)
        self._lacks = self._lacks or not is_ready
        return is_ready


def _quality(answer: Candidates) -> float:
    return answer.best.iou_prediction if answer.best.area else -1.0
