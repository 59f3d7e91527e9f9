"""GuidedProposer: propose objects where the image encoder's dense guesses agree on a center."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask, iou, mask_from_logits, touches_border
from napari_sam.core.predictor import Embedding, WindowPredictor
from napari_sam.core.prompts import Prompts, TilePrompts
from napari_sam.core.tiles import Tile
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.proposing.seeds import CELL, center_seeds
from napari_sam.similarity.descriptors import described

# What a tile and the next one both read, as a share of a window: objects of up to this size are seen whole.
OVERLAP = 0.75
# A tile also proposes objects a little beyond what it owns, since neighbors place a seed slightly differently.
MARGIN = 16.0
# Square root of the area of objects that are proposed at a level, in tile pixels. Others suit another level.
LEAST_SIZE, MOST_SIZE = 7.0, 88.0
# Other seeds that are given as negative points to the second decoding.
NEGATIVES = 6
# Objects of up to this share of a window at twice the resolution are decoded a second time there, others as the first.
FINER_SHARE = 0.75
# The second decoding, with the mask of the first, must agree with it (IoU).
LEAST_AGREEMENT = 0.6
# A proposal with a lower score is not stored: no filter would choose it.
LEAST_SCORE = 0.2

Render = Callable[[Tile], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class FirstAnswer:
    """What a seed leads to, and what to ask next.

    Parameters
    ----------
    prompts
        The seed, and the nearest other seeds outside the mask as negative points, in level-0 pixels.
    mask
        The mask that the seed alone leads to, with its logits.
    """

    prompts: Prompts
    mask: Mask

    @property
    def point(self) -> NDArray[np.float64]:
        """The seed, (row, col)."""
        seed: NDArray[np.float64] = self.prompts.points[0]
        return seed

    def confirmed_by(self, second: Mask, shape: tuple[int, int]) -> Mask | None:
        """Return the second mask with the score of both; None where they disagree or it is cut by its window."""
        if second.area == 0 or touches_border(second, shape):
            return None
        box = self.mask.box.union(second.box)
        agreement = iou(self.mask.in_box(box), second.in_box(box))
        score = (self.mask.iou_prediction + second.iou_prediction) / 2 * agreement**0.5
        if agreement < LEAST_AGREEMENT or score < LEAST_SCORE:
            return None
        return replace(second, iou_prediction=score, low_res_logits=None, tile=None)


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
        self.side = predictor.sweep_side
        self.overlap = OVERLAP * predictor.window_side / predictor.sweep_side

    def propose(self, tile: Tile, render: Render, shape: tuple[int, int]) -> Proposals:
        """Propose the objects whose seeds the tile owns.

        Each seed is decoded as a point, then once more with its own mask and the nearest other seeds as negative
        points: at twice the resolution where the object is small enough. What both agree on is proposed.

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
        answers = self._first_answers(tile, embedding)
        found: list[Mask | None] = [None] * len(answers)
        finer = _finer(tile)
        span = FINER_SHARE * self._predictor.window_side
        small = [i for i, answer in enumerate(answers) if _extent(answer.mask, finer) <= span]
        if small:
            (fine,) = self._predictor.encode(render(finer)[None])
            self._confirm(found, answers, small, finer, fine, shape)
        self._confirm(found, answers, [i for i, mask in enumerate(found) if mask is None], tile, embedding, shape)
        kept = [(i, mask) for i, mask in enumerate(found) if mask is not None and _suits(mask, tile)]
        points, masks = np.array([answers[i].point for i, _ in kept]), [mask for _, mask in kept]
        descriptors = described(self._predictor, embedding, rendered, tile, masks)
        return Proposals.of(masks, points, tile.level, descriptors)

    def pictures(self, tile: Tile) -> tuple[Tile, ...]:
        """Return the tile, and the same pixels at twice the resolution."""
        return tile, _finer(tile)

    def _first_answers(self, tile: Tile, embedding: Embedding) -> list[FirstAnswer]:
        """Decode the seeds of a tile, each as a point; without those whose mask is empty or fills its window."""
        points, radius = center_seeds(self._predictor.dense_guesses(embedding))
        points = points[_owned(points, tile) & (radius >= LEAST_SIZE / 2) & (radius <= MOST_SIZE * 1.5)]
        origins = self._predictor.window_origins(points, tile.side)
        logits, scores = self._decoded(embedding, origins, [_point_prompt(at) for at in points - origins])
        fits = np.flatnonzero(_fits(logits))
        points, origins, logits = points[fits], origins[fits], logits[fits]
        located = tile.points_from_tile(points)
        answers = []
        for i, score in enumerate(scores[fits]):
            chosen = np.array([i, *_neighbors(i, points - origins[i], logits[i])])
            window = _window(tile, origins[i], self._predictor.window_side)
            prompts = Prompts(located[chosen], np.arange(len(chosen)) == 0)
            answers.append(FirstAnswer(prompts, mask_from_logits(logits[i], window, float(score))))
        return [answer for answer in answers if answer.mask.area]

    def _confirm(
        self,
        found: list[Mask | None],
        answers: Sequence[FirstAnswer],
        chosen: Sequence[int],
        tile: Tile,
        embedding: Embedding,
        shape: tuple[int, int],
    ) -> None:
        """Decode the chosen answers once more on windows of a tile, and enter what agrees into `found`."""
        centers = [tile.point_to_tile(*(np.array(answers[i].mask.box.center) - 0.5)) for i in chosen]
        origins = self._predictor.window_origins(np.array(centers).reshape(-1, 2), tile.side)
        windows = [_window(tile, origin, self._predictor.window_side) for origin in origins]
        prompts = [
            TilePrompts.on(window, answers[i].prompts, answers[i].mask)
            for i, window in zip(chosen, windows, strict=True)
        ]
        asked = [k for k, prompt in enumerate(prompts) if prompt.labels.any()]  # The window may not see the seed.
        logits, scores = self._decoded(embedding, origins[asked], [prompts[k] for k in asked])
        for k, answer, score in zip(asked, logits, scores, strict=True):
            mask = mask_from_logits(answer, windows[k], float(score))
            found[chosen[k]] = answers[chosen[k]].confirmed_by(mask, shape)

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


def _neighbors(i: int, near: NDArray[np.float64], logits: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the numbers of the seeds nearest to seed `i` in its window and outside its mask, at most `NEGATIVES`."""
    cells = np.floor((near + 0.5) / CELL).astype(np.intp)
    inside = ((cells >= 0) & (cells < logits.shape[-1])).all(axis=1)
    inside[i] = False
    at = np.flatnonzero(inside)
    at = at[logits[tuple(cells[at].T)] <= 0]
    nearest = np.argsort(((near[at] - near[i]) ** 2).sum(axis=1), kind="stable")
    return np.asarray(at[nearest[:NEGATIVES]], np.intp)


def _window(tile: Tile, origin: NDArray[np.intp], side: int) -> Tile:
    """Return a window of a tile as a tile of its own."""
    top, left = (
        start + int(at) * step
        for start, at, step in zip((tile.read.top, tile.read.left), origin, tile.step, strict=True)
    )
    read = Box(top, left, top + side * tile.step[0], left + side * tile.step[1]).intersection(tile.read)
    return Tile(tile.level, tile.row, tile.col, side, read, read, tile.step)


def _extent(mask: Mask, tile: Tile) -> float:
    """Return the longer side of a mask's box, in the pixels of a tile."""
    return max(mask.box.height / tile.step[0], mask.box.width / tile.step[1])


def _suits(mask: Mask, tile: Tile) -> bool:
    size: float = (mask.area / (tile.step[0] * tile.step[1])) ** 0.5
    return LEAST_SIZE <= size <= MOST_SIZE


def _finer(tile: Tile) -> Tile:
    """Return a tile of the same pixels at twice the resolution."""
    rows, cols = tile.step
    return replace(tile, level=tile.level - 1, side=2 * tile.side, step=(rows / 2, cols / 2))


def is_uniform(rendered: NDArray[np.uint8], tile: Tile) -> bool:
    """Return whether all pixels of a rendered tile are equal, apart from those beyond the image."""
    lengths = (tile.read.height, tile.read.width)
    rows, cols = (max(1, int(length / step)) for length, step in zip(lengths, tile.step, strict=True))
    inside = rendered[:rows, :cols]
    return bool((inside == inside[:1, :1]).all())
