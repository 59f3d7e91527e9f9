"""GridProposer: propose objects by a regular grid of points, as SAM's mask generator does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.cleaning import Cleaning
from napari_sam.core.geometry import Box
from napari_sam.core.masks import mask_from_logits, near_border, stability_score, touches_border
from napari_sam.core.predictor import Embedding, PointAnswer, PointsPredictor, Predictor
from napari_sam.core.prompts import TilePrompts
from napari_sam.core.tiles import Tile
from napari_sam.everything.options import GridOptions
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.proposing.guided import is_uniform
from napari_sam.similarity.descriptors import described

# Tile pixels to a side of a logit.
CELL = 4
# Points that are asked at once. What they find can spare only later ones, and they lie far apart.
AT_ONCE = 16
# Logits around a mask's own that are not kept: low enough that no pixel between is positive.
OUTSIDE = np.float32(-32)


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A mask that passes the thresholds, not enlarged yet.

    Parameters
    ----------
    logits
        Around the positive ones, float32: with one cell more on each side.
    corner
        Row and column of the first of them in the logits of the tile.
    box
        The mask's edges in level-0 pixels.
    score, stability
        Predicted IoU and stability score.
    point
        The prompted point, (row, col) in level-0 pixels.
    """

    logits: NDArray[np.float32]
    corner: tuple[int, int]
    box: Box
    score: float
    stability: float
    point: NDArray[np.float64]

    @property
    def cells(self) -> tuple[slice, slice]:
        """Where the logits lie in those of the tile."""
        (top, left), (rows, cols) = self.corner, self.logits.shape
        return slice(top, top + rows), slice(left, left + cols)


class GridProposer:
    """Asks a model at the points of a grid, and decides at the size of the logits which masks are enlarged.

    Parameters
    ----------
    predictor
        Any model; one that is a `PointsPredictor` is asked for many points at once.
    options
        The grid, and the thresholds.
    coarsest
        The coarsest level of the search: `crop_n_points_downscale_factor` counts from there. By default the grid is
        the same on all levels.

    Attributes
    ----------
    side, overlap
        Side of the tiles in tile pixels, and the share that the next tile reads too.
    """

    def __init__(self, predictor: Predictor, options: GridOptions, coarsest: int | None = None) -> None:
        self._predictor, self._options, self._coarsest = predictor, options, coarsest
        self.side, self.overlap = predictor.input_side, options.tile_overlap

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
        if is_uniform(rendered, tile):
            return Proposals.none()
        (embedding,) = self._predictor.encode(rendered[None])
        candidates = list(self._candidates(tile, embedding, shape))
        boxes = np.array([one.box.as_tuple() for one in candidates], np.float64).reshape(-1, 4)
        scores = np.array([one.score for one in candidates])
        chosen = [candidates[i] for i in distinct(boxes, scores, self._options.box_nms_thresh)]
        # Packed one by one: enlarged, a mask has eight times as many bytes.
        found = Proposals.joined([self._proposed(one, tile, shape) for one in chosen])
        masks = [found.mask(i) for i in range(len(found))]
        return replace(found, descriptors=described(self._predictor, embedding, rendered, tile, masks))

    def pictures(self, tile: Tile) -> tuple[Tile, ...]:
        """Return the tile."""
        return (tile,)

    def _candidates(self, tile: Tile, embedding: Embedding, shape: tuple[int, int]) -> Iterator[Candidate]:
        """Yield the masks that pass the thresholds, and are not cut by the tile."""
        left = self._points(tile)
        explained = np.zeros((self.side // CELL, self.side // CELL), bool)
        while len(left):
            if self._options.adaptive:
                cells = np.floor((left + 0.5) / CELL).astype(np.intp).clip(0, len(explained) - 1)
                left = left[~explained[tuple(cells.T)]]
            asked, left = left[:AT_ONCE], left[AT_ONCE:]
            for answer in self._answers(embedding, asked):
                found = list(self._passing(answer, asked[answer.index], tile, shape))
                if found:
                    # A larger mask of the same answer may hold other objects, which are still to be found.
                    smallest = min(found, key=lambda one: np.count_nonzero(one.logits > 0))
                    explained[smallest.cells] |= smallest.logits > 0
                yield from found

    def _passing(
        self, answer: PointAnswer, point: NDArray[np.float64], tile: Tile, shape: tuple[int, int]
    ) -> Iterator[Candidate]:
        """Yield the masks of a point that are stable and not cut by the tile."""
        options = self._options
        located = tile.points_from_tile(point)
        for logits, score in zip(answer.logits, answer.iou_prediction, strict=True):
            stability = stability_score(logits, options.stability_score_offset)
            inside = logits > 0
            # Without a threshold an empty mask gets here.
            if stability < options.stability_score_thresh or not inside.any():
                continue
            rows, cols = (np.flatnonzero(inside.any(axis))[[0, -1]] for axis in (1, 0))
            top, bottom, left, right = (
                edge for first, last in (rows, cols) for edge in (max(int(first) - 1, 0), int(last) + 2)
            )
            kept = logits[top:bottom, left:right].copy()
            box = _box(kept, (top, left), tile)
            if not near_border(box, tile, shape):
                yield Candidate(kept, (top, left), box, float(score), stability, located)

    def _answers(self, embedding: Embedding, points: NDArray[np.float64]) -> Iterator[PointAnswer]:
        """Yield the masks of points whose predicted IoU passes."""
        least = self._options.pred_iou_thresh
        if isinstance(self._predictor, PointsPredictor):
            yield from self._predictor.decode_points(embedding, points, least)
            return
        for index, point in enumerate(points):
            prompts = TilePrompts(point[None].astype(np.float32), np.ones(1, bool))
            answer = self._predictor.decode(embedding, prompts)
            passes = answer.iou_prediction >= least
            if passes.any():
                yield PointAnswer(index, answer.logits[passes], answer.iou_prediction[passes])

    def _points(self, tile: Tile) -> NDArray[np.float64]:
        """Return the grid points that lie in what the tile owns, shape (n, 2), in tile pixels, neighbors far apart."""
        options = self._options
        finer = 0 if self._coarsest is None else self._coarsest - tile.level
        count = max(1, options.points_per_side // options.crop_n_points_downscale_factor**finer)
        # Where SAM's generator has them: its pixels are counted from their edges, and the model's from their centers.
        along = (np.arange(count) + 0.5) * (self.side / count)
        grid = np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)
        grid = grid[np.argsort(_spread(count), kind="stable")]
        return grid[tile.box_to_tile(tile.owned).contains_points(grid)]

    def _proposed(self, one: Candidate, tile: Tile, shape: tuple[int, int]) -> Proposals:
        """Return a mask at the size of the image, or none where it vanishes or its tile cuts it."""
        logits = np.full((self.side // CELL, self.side // CELL), OUTSIDE)
        logits[one.cells] = one.logits
        mask = replace(mask_from_logits(logits, tile, one.score), stability_score=one.stability)
        least = self._options.min_mask_region_area
        if least and mask.area:
            mask = Cleaning(fill_holes=least - 1, minimum_size=least)(mask, shape)
        if mask.area == 0 or touches_border(mask, shape):
            return Proposals.none()
        return Proposals.of([mask], one.point, tile.level)


def distinct(boxes: NDArray[np.float64], scores: NDArray[np.float64], threshold: float) -> list[int]:
    """Return which masks remain when those whose boxes overlap a better one's too much are left out, best first.

    Parameters
    ----------
    boxes
        Shape (n, 4): (top, left, bottom, right).
    scores
        Shape (n,).
    threshold
        Largest IoU of two boxes.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        low = np.maximum(boxes[kept, :2], boxes[i, :2])
        high = np.minimum(boxes[kept, 2:], boxes[i, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        if not (shared / (areas[kept] + areas[i] - shared) > threshold).any():
            kept.append(int(i))
    return kept


def _box(logits: NDArray[np.float32], corner: tuple[int, int], tile: Tile) -> Box:
    """Return the edges of the positive logits in level-0 pixels, as enlarging them would place them.

    Between two cells the logits are interpolated; so an edge lies where the farthest of its cells' values crosses 0.
    """
    edges = []
    for axis in (0, 1):
        values = logits if axis == 0 else logits.T
        first, last = np.flatnonzero((values > 0).any(axis=1))[[0, -1]]
        start = (tile.read.top, tile.read.left)[axis]
        stop = (tile.read.bottom, tile.read.right)[axis]
        cell = CELL * tile.step[axis]
        low = corner[axis] + first + 0.5 - _beyond(values, first, -1)
        high = corner[axis] + last + 0.5 + _beyond(values, last, 1)
        edges.append((max(start, round(start + low * cell)), min(stop, round(start + high * cell))))
    (top, bottom), (left, right) = edges
    return Box(top, left, max(bottom, top + 1), max(right, left + 1))


def _beyond(values: NDArray[np.float32], row: int, direction: int) -> float:
    """Return how far beyond the middle of a row positive values reach, in cells."""
    if not 0 <= row + direction < len(values):
        return 0.5  # The edge of the tile.
    inside = values[row] > 0
    here, there = values[row][inside], values[row + direction][inside]
    return float((here / (here - there)).max())


def _spread(count: int) -> NDArray[np.int64]:
    """Return the order in which the points of a square grid are asked: always those far from the ones before.

    Rows and columns are halved in turn, so the first quarter of the points covers the square as evenly as all do.
    """
    at = np.arange(count)
    key = np.zeros((count, count), np.int64)
    for bit in range(8):  # A grid has at most 256 points on a side.
        halves = at >> bit & 1
        key |= halves[:, None] << (15 - 2 * bit) | halves[None, :] << (14 - 2 * bit)
    return key.ravel()
