"""GuidedProposer: propose objects where the image encoder's dense guesses agree on a center."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask, iou, mask_from_logits, touches_border
from napari_sam.core.predictor import Embedding, WindowPredictor
from napari_sam.core.prompts import Prompts, TilePrompts
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

    def propose(self, tile: Tile, render: Callable[[Tile], NDArray[np.uint8]], shape: tuple[int, int]) -> Proposals:
        """Propose the objects whose seeds the tile owns.

        Each seed is decoded as a point, then once more with its own mask and the nearest other seeds as negative
        points, and what both agree on a third time at twice the resolution.

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
        points, logits, scores = self._agreed(tile, embedding)
        kept = np.flatnonzero(scores >= LEAST_SCORE)
        if not len(kept):
            return Proposals.none()
        origins = self._predictor.window_origins(points[kept], tile.side)
        rough = [
            mask_from_logits(logits[i], _window(tile, origin, self._predictor.window_side), float(scores[i]))
            for i, origin in zip(kept, origins, strict=True)
        ]
        located = (points[kept] + 0.5) * tile.step + (tile.read.top, tile.read.left) - 0.5
        good = [
            i for i, mask in enumerate(rough) if mask.area and not touches_border(mask, shape) and _suits(mask, tile)
        ]
        fine = self._refined([rough[i] for i in good], located[good], _finer(tile), render)
        masks = [_better(rough[i], each, shape) for i, each in zip(good, fine, strict=True)]
        return Proposals.of(
            [replace(mask, low_res_logits=None, tile=None) for mask in masks], located[good], tile.level
        )

    def _agreed(
        self, tile: Tile, embedding: Embedding
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float64]]:
        """Return points, logits and scores of the seeds of a tile; the score is 0 where two decodings disagree."""
        points, radius = center_seeds(self._predictor.dense_guesses(embedding))
        suits = _owned(points, tile) & (radius >= LEAST_SIZE / 2) & (radius <= MOST_SIZE * 1.5)
        points = points[suits]
        origins = self._predictor.window_origins(points, tile.side)
        first, scores = self._decoded(embedding, origins, [_point_prompt(at) for at in points - origins])
        fits = np.flatnonzero(_fits(first))
        points, origins, first, scores = points[fits], origins[fits], first[fits], scores[fits]
        second, again = self._decoded(embedding, origins, _second_prompts(points, origins, first))
        agreement = _ious(first, second)
        return points, second, np.where(agreement >= LEAST_AGREEMENT, (scores + again) / 2 * agreement**0.5, 0.0)

    def _refined(
        self, masks: list[Mask], points: NDArray[np.float64], tile: Tile, render: Callable[[Tile], NDArray[np.uint8]]
    ) -> list[Mask]:
        """Decode masks once more on a finer tile."""
        if not masks:
            return []
        (embedding,) = self._predictor.encode(render(tile)[None])
        centers = np.array([tile.point_to_tile(*(np.array(mask.box.center) - 0.5)) for mask in masks])
        origins = self._predictor.window_origins(centers, tile.side)
        windows = [_window(tile, origin, self._predictor.window_side) for origin in origins]
        prompts = [
            TilePrompts.on(window, Prompts(point[None], np.ones(1, bool)), mask)
            for window, point, mask in zip(windows, points, masks, strict=True)
        ]
        logits, scores = self._decoded(embedding, origins, prompts)
        return [
            mask_from_logits(found, window, (mask.iou_prediction + float(score)) / 2)
            for mask, found, window, score in zip(masks, logits, windows, scores, strict=True)
        ]

    def _decoded(
        self, embedding: Embedding, origins: NDArray[np.intp], prompts: Sequence[TilePrompts]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the best mask of each prompt, as logits, and its predicted IoU."""
        if not prompts:
            return np.zeros((0, 1, 1), np.float32), np.zeros(0, np.float32)
        logits, scores = self._predictor.decode_windows(embedding, origins, prompts)
        best = scores.argmax(axis=1)
        rows = np.arange(len(best))
        return logits[rows, best], scores[rows, best]


def _owned(points: NDArray[np.float64], tile: Tile) -> NDArray[np.bool_]:
    edges = tile.box_to_tile(tile.owned).grown(MARGIN)
    inside = tile.box_to_tile(tile.read)
    return edges.intersection(inside).contains_points(points)


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
    size: float = (mask.area / (tile.step[0] * tile.step[1])) ** 0.5
    return bool(LEAST_SIZE <= size <= MOST_SIZE)


def _finer(tile: Tile) -> Tile:
    """Return a tile of the same pixels at twice the resolution."""
    rows, cols = tile.step
    return replace(tile, level=tile.level - 1, side=2 * tile.side, step=(rows / 2, cols / 2))


def _better(rough: Mask, fine: Mask, shape: tuple[int, int]) -> Mask:
    """Return the finer mask where it agrees with the rough one and is not cut by its window."""
    if fine.area == 0 or touches_border(fine, shape):
        return rough
    box = rough.box.union(fine.box)
    return fine if iou(rough.in_box(box), fine.in_box(box)) >= LEAST_AGREEMENT else rough


def is_uniform(rendered: NDArray[np.uint8]) -> bool:
    """Return whether all pixels of a rendered tile are equal."""
    return bool((rendered == rendered[:1, :1]).all())
