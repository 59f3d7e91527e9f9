"""GridProposer: propose objects by a regular grid of points, as SAM's mask generator does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.cleaning import Cleaning
from napari_sam.core.masks import Mask, mask_from_logits, stability_score, touches_border
from napari_sam.core.predictor import Embedding, Predictor
from napari_sam.core.prompts import TilePrompts
from napari_sam.core.tiles import Tile
from napari_sam.everything.guided import is_uniform
from napari_sam.everything.options import GridOptions
from napari_sam.everything.proposals import Proposals


class GridProposer:
    """Asks a model at the points of a grid, and decides at the size of the logits which masks are enlarged.

    Parameters
    ----------
    predictor
        Any model.
    options
        The grid, and the thresholds.

    Attributes
    ----------
    side, overlap
        Side of the tiles in tile pixels, and the share that the next tile reads too.
    """

    def __init__(self, predictor: Predictor, options: GridOptions) -> None:
        self._predictor, self._options = predictor, options
        self.side, self.overlap = predictor.input_side, 0.5

    def propose(self, tile: Tile, render: Callable[[Tile], NDArray[np.uint8]], shape: tuple[int, int]) -> Proposals:
        """Propose the objects at the grid points that the tile owns.

        Parameters
        ----------
        tile
            The tile.
        render
            Returns the pixels of a tile; see `Volume.render`.
        shape
            Rows and columns of the plane.
        """
        rendered = render(tile)
        if is_uniform(rendered):
            return Proposals.none()
        (embedding,) = self._predictor.encode(rendered[None])
        logits, scores, points = self._candidates(tile, embedding)
        kept = _distinct(logits, scores, self._options.box_nms_thresh)
        masks, at = [], []
        for i in kept:
            mask = self._enlarged(logits[i], scores[i], tile, shape)
            if mask is not None:
                masks.append(mask)
                at.append(points[i])
        return Proposals.of(masks, np.array(at).reshape(-1, 2), tile.level)

    def _candidates(
        self, tile: Tile, embedding: Embedding
    ) -> tuple[list[NDArray[np.float32]], list[float], list[NDArray[np.float64]]]:
        """Return the masks that pass the thresholds, as logits, with their predicted IoUs and level-0 points."""
        options = self._options
        logits: list[NDArray[np.float32]] = []
        scores: list[float] = []
        points: list[NDArray[np.float64]] = []
        explained = np.zeros((self.side // 4, self.side // 4), bool)
        for point in self._points(tile):
            cell = tuple(np.floor((point + 0.5) / 4).astype(np.intp))
            if options.adaptive and explained[cell]:
                continue
            answer = self._predictor.decode(embedding, TilePrompts(point[None].astype(np.float32), np.ones(1, bool)))
            for mask, score in zip(answer.logits, answer.iou_prediction, strict=True):
                if score < options.pred_iou_thresh or stability_score(mask) < options.stability_score_thresh:
                    continue
                if not (mask > 0).any():  # Without a threshold an empty mask gets here.
                    continue
                explained |= mask > 0
                logits.append(mask)
                scores.append(float(score))
                points.append((point + 0.5) * tile.step + (tile.read.top, tile.read.left) - 0.5)
        return logits, scores, points

    def _points(self, tile: Tile) -> NDArray[np.float64]:
        """Return the grid points that lie in what the tile owns, shape (n, 2), in tile pixels."""
        step = self.side / self._options.points_per_side
        along = (np.arange(self._options.points_per_side) + 0.5) * step - 0.5
        grid = np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)
        return grid[tile.box_to_tile(tile.owned).contains_points(grid)]

    def _enlarged(self, logits: NDArray[np.float32], score: float, tile: Tile, shape: tuple[int, int]) -> Mask | None:
        mask = mask_from_logits(logits, tile, score)
        least = self._options.min_mask_region_area
        if least and mask.area:
            mask = Cleaning(fill_holes=least, minimum_size=least)(mask, shape)
        if mask.area == 0 or touches_border(mask, shape):
            return None
        return replace(mask, low_res_logits=None, tile=None)


def _distinct(logits: list[NDArray[np.float32]], scores: list[float], threshold: float) -> list[int]:
    """Return which masks remain when those whose boxes overlap a better one's too much are left out, best first."""
    boxes = np.array([_cells(one) for one in logits], np.float64).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for i in np.argsort(-np.array(scores), kind="stable"):
        low = np.maximum(boxes[kept, :2], boxes[i, :2])
        high = np.minimum(boxes[kept, 2:], boxes[i, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        if not (shared / (areas[kept] + areas[i] - shared) > threshold).any():
            kept.append(int(i))
    return kept


def _cells(logits: NDArray[np.float32]) -> tuple[int, int, int, int]:
    rows, cols = np.flatnonzero((logits > 0).any(axis=1)), np.flatnonzero((logits > 0).any(axis=0))
    return int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1
