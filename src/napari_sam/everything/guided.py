"""GuidedProposer: propose objects where the image encoder's dense guesses agree on a center."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask, mask_from_logits, touches_border
from napari_sam.core.predictor import Embedding, WindowPredictor
from napari_sam.core.prompts import TilePrompts
from napari_sam.core.tiles import Tile
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.seeds import CELL, center_seeds

# Share of a tile that the next one reads too: objects of up to this share are seen whole.
OVERLAP = 0.25
# A tile also proposes objects a little beyond what it owns, since neighbors place a seed slightly differently.
MARGIN = 16.0
# Square root of the area of objects that are proposed at a level, in tile pixels. Others suit another level.
LEAST_SIZE, MOST_SIZE = 7.0, 88.0
# Other seeds that are given as negative points to the second decoding.
NEGATIVES = 6
# The second decoding, with the mask of the first, must agree with it (IoU).
LEAST_AGREEMENT = 0.6
# A proposal with a lower score is not stored: no filter would choose it.
LEAST_SCORE = 0.2


class GuidedProposer:
    """Proposes the objects of one tile after the other.

    Parameters
    ----------
    predictor
        The model.

    Attributes
    ----------
    side, overlap
        Side of the tiles in tile pixels, and the share that the next tile reads too.
    """

    def __init__(self, predictor: WindowPredictor) -> None:
        self._predictor = predictor
        self.side, self.overlap = predictor.sweep_side, OVERLAP

    def propose(self, tile: Tile, embedding: Embedding, shape: tuple[int, int]) -> Proposals:
        """Propose the objects whose seeds the tile owns.

        Parameters
        ----------
        tile, embedding
            The tile, encoded.
        shape
            Rows and columns of the plane.
        """
        points, radius = center_seeds(self._predictor.dense_guesses(embedding))
        suits = _owned(points, tile) & (radius >= LEAST_SIZE / 2) & (radius <= MOST_SIZE * 1.5)
        points = points[suits]
        if not len(points):
            return Proposals.of([], points, tile.level)
        origins = self._predictor.window_origins(points)
        first, scores = self._decoded(
            embedding, origins, [_point_prompt(p - o) for p, o in zip(points, origins, strict=True)]
        )
        fits = np.flatnonzero(_fits(first))
        points, origins, first, scores = points[fits], origins[fits], first[fits], scores[fits]
        second, refined = self._decoded(embedding, origins, _second_prompts(points, origins, first))
        agreement = _ious(first, second)
        final = np.where(agreement >= LEAST_AGREEMENT, (scores + refined) / 2 * agreement**0.5, 0.0)
        masks, chosen = [], []
        for i in np.flatnonzero(final >= LEAST_SCORE):
            window = _window(tile, origins[i], self._predictor.window_side)
            mask = mask_from_logits(second[i], window, float(final[i]))
            if mask.area and not touches_border(mask, shape) and _suits(mask, tile):
                masks.append(replace(mask, low_res_logits=None, tile=None))
                chosen.append(i)
        at = points[chosen]
        located = np.stack(
            [
                (at[:, 0] + 0.5) * tile.step[0] + tile.read.top - 0.5,
                (at[:, 1] + 0.5) * tile.step[1] + tile.read.left - 0.5,
            ],
            1,
        )
        return Proposals.of(masks, located, tile.level)

    def _decoded(
        self, embedding: Embedding, origins: NDArray[np.intp], prompts: Sequence[TilePrompts]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the best mask of each prompt, as logits, and its predicted IoU."""
        logits, scores = self._predictor.decode_windows(embedding, origins, prompts)
        best = scores.argmax(axis=1)
        rows = np.arange(len(best))
        return logits[rows, best], scores[rows, best]


def _owned(points: NDArray[np.float64], tile: Tile) -> NDArray[np.bool_]:
    edges = tile.box_to_tile(tile.owned).grown(MARGIN)
    inside = tile.box_to_tile(tile.read)
    box = edges.intersection(inside)
    at = points + 0.5
    return np.asarray(((at >= (box.top, box.left)) & (at < (box.bottom, box.right))).all(axis=1), bool)


def _point_prompt(point: NDArray[np.float64]) -> TilePrompts:
    return TilePrompts(point[None].astype(np.float32), np.ones(1, bool))


def _fits(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which masks have cells, but fill less than three quarters of their window."""
    cells = (logits > 0).sum(axis=(1, 2))
    return np.asarray((cells > 0) & (cells < 0.75 * logits.shape[1] * logits.shape[2]), bool)


def _second_prompts(
    points: NDArray[np.float64], origins: NDArray[np.intp], logits: NDArray[np.float32]
) -> list[TilePrompts]:
    """Return for each first mask the mask, its point, and the nearest points of other objects around it."""
    prompts = []
    side = logits.shape[-1]
    for i, (origin, mask) in enumerate(zip(origins, logits, strict=True)):
        near = points - origin
        cells = np.floor((near + 0.5) / CELL).astype(np.intp)
        inside = ((cells >= 0) & (cells < side)).all(axis=1)
        inside[i] = False
        at = np.flatnonzero(inside)
        at = at[mask[tuple(cells[at].T)] <= 0]
        at = at[np.argsort(((near[at] - near[i]) ** 2).sum(axis=1), kind="stable")[:NEGATIVES]]
        given = np.concatenate([near[i : i + 1], near[at]]).astype(np.float32)
        prompts.append(TilePrompts(given, np.arange(len(given)) == 0, None, mask))
    return prompts


def _ious(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    both = ((first > 0) & (second > 0)).sum(axis=(1, 2))
    either = ((first > 0) | (second > 0)).sum(axis=(1, 2))
    return np.asarray(both / np.maximum(either, 1), np.float64)


def _window(tile: Tile, origin: NDArray[np.intp], side: int) -> Tile:
    """Return a window of a tile as a tile of its own."""
    top, left = (
        start + int(at) * step
        for start, at, step in zip((tile.read.top, tile.read.left), origin, tile.step, strict=True)
    )
    read = Box(top, left, top + side * tile.step[0], left + side * tile.step[1]).intersection(tile.read)
    return Tile(tile.level, tile.row, tile.col, side, read, read, tile.step)


def _suits(mask: Mask, tile: Tile) -> bool:
    size = (mask.area / (tile.step[0] * tile.step[1])) ** 0.5
    return bool(LEAST_SIZE <= size <= MOST_SIZE)
