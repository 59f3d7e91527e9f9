"""CandidateScorer: estimate the IoU of masks from the answers of several tiles to the same prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.core.geometry import Box
from napari_sam.core.predictor import Decoded
from napari_sam.core.prompts import TilePrompts
from napari_sam.core.tiles import Tile

DENSE_FEATURES = 5
PROMPT_FEATURES = 6
# Each mask by itself: by the decoder's own features, by `dense_features` and by `prompt_features`.
DECODER_FEATURES = 128 + DENSE_FEATURES + PROMPT_FEATURES
# Each mask beside those of the other tiles; see `comparison_features`.
COMPARED_FEATURES = 20
# Of its entries in the state dict of the whole network.
SCORER_PREFIX = "scorer."
DROPOUT = 0.15
# Tile pixels to a side of a cell of the logits, and cells around a mask that count as its surroundings.
CELL, NEAR = 4, 9
MOST_LOG_RADIUS = 6.0
LEVEL_UNIT = 3.0
LEAST_SHARE = 1e-3
# Of the entry with the usual size of the objects that a model was taught.
SIZE_PREFIX = "usual_size."
# How much less masks of an unusual size count, for each half of the squared distance in spreads, and at most.
SIZE_WEIGHT, MOST_UNUSUAL = 0.1, 2.0

Answers = Sequence[tuple[Tile, Decoded]]


class CandidateScorer(nn.Module):
    """Estimate the IoU of each mask from the decoder's description of it and from the masks on other tiles.

    Parameters
    ----------
    hidden
        Width of both hidden layers.
    """

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.described = nn.Linear(DECODER_FEATURES, hidden)
        self.compared = nn.Linear(COMPARED_FEATURES, hidden)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, 1),
        )

    def forward(self, described: Tensor, compared: Tensor) -> Tensor:
        """Score masks.

        Parameters
        ----------
        described
            Shape (..., DECODER_FEATURES).
        compared
            Shape (..., COMPARED_FEATURES), of `comparison_features`.

        Returns
        -------
        torch.Tensor
            Shape (...): logits of the IoU.
        """
        scores: Tensor = self.head(self.described(described) + self.compared(compared))[..., 0]
        return scores


class UsualSize(nn.Module):
    """How large the objects are that a model was taught: of answers to a first click, others count less."""

    def __init__(self) -> None:
        super().__init__()
        # Mean and spread of the logarithm of the area, in the smallest pixels of a plane.
        self.register_buffer("log_area", torch.tensor([0.0, 1.0]))

    def adjusted(self, scores: NDArray[np.float32], answers: Answers) -> NDArray[np.float32]:
        """Return scores of masks, shape (tiles, masks), lower where their sizes are unusual.

        A box or a second click say more of the size, and so does an earlier mask: they leave the scores as they are.
        """
        if not all(_is_first_click(decoded) for _, decoded in answers):
            return scores
        mean, spread = np.asarray(self.get_buffer("log_area").cpu(), np.float32)
        cells = np.stack([np.count_nonzero(decoded.logits > 0, axis=(1, 2)) for _, decoded in answers])
        sides = np.array([[CELL * tile.downsample] for tile, _ in answers])
        distance = (np.log(cells * sides**2 + 1) - mean) / spread
        unusual = np.minimum(distance**2 / 2, MOST_UNUSUAL)
        # Where no mask is of the usual size, these are other objects: nothing is changed.
        return np.asarray(np.maximum(scores - SIZE_WEIGHT * (unusual - unusual.min()), 0), np.float32)


def _is_first_click(decoded: Decoded) -> bool:
    """Whether an answer is to positive points only, as `prompt_features` tells."""
    assert decoded.features is not None
    _, negative, has_box, _, has_mask, _ = decoded.features[0, -PROMPT_FEATURES:]
    return not (negative or has_box or has_mask)


def dense_features(logits: Tensor, region: Tensor, centers: Tensor) -> Tensor:
    """Compare masks with what each cell guesses of its object without prompts.

    Parameters
    ----------
    logits
        Shape (n, masks, rows, cols): the decoder's masks.
    region
        Shape (1, 2, rows, cols): probability of foreground and of a border.
    centers
        Shape (1, 3, rows, cols): see `FeaturePyramid.forward`.

    Returns
    -------
    torch.Tensor
        Shape (n, masks, DENSE_FEATURES), float32: foreground inside and around the mask, border inside it and along its
        outline, and how much larger the objects of its cells are guessed to be (logarithm of the ratio of radii).
    """
    share = logits.sigmoid()
    around = F.avg_pool2d(share, NEAR, stride=1, padding=NEAR // 2) * (1 - share)
    outline = (F.max_pool2d(share, 3, stride=1, padding=1) - share).clamp(min=0)
    foreground, border = region[:, :1], region[:, 1:]

    def mean(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum((2, 3)) / (weights.sum((2, 3)) + 1)

    area = share.sum((2, 3)) * CELL**2
    larger = mean(centers[:, 2:].clamp(0, MOST_LOG_RADIUS), share) - 0.5 * torch.log((area + 1) / math.pi)
    means = [mean(foreground, share), mean(foreground, around), mean(border, share), mean(border, outline), larger]
    return torch.stack(means, -1)


def prompt_features(logits: NDArray[np.float32], prompts: TilePrompts) -> NDArray[np.float32]:
    """Compare masks with the prompts that they answer.

    Parameters
    ----------
    logits
        Shape (masks, rows, cols), of the whole tile.
    prompts
        The prompts, in tile pixels.

    Returns
    -------
    numpy.ndarray
        Shape (masks, PROMPT_FEATURES), float32: share of the positive and of the negative points inside, whether there
        is a box and its IoU with the box around the mask, whether there is an earlier mask and its IoU with the mask.
    """
    inside = logits > 0
    features = np.zeros((len(logits), PROMPT_FEATURES), np.float32)
    cells = np.clip(((prompts.points + 0.5) // CELL).astype(np.intp), 0, logits.shape[-1] - 1)
    for column, sign in enumerate((True, False)):
        rows, cols = cells[prompts.labels == sign].T
        if len(rows):
            features[:, column] = inside[:, rows, cols].mean(axis=1)
    if prompts.box is not None:
        features[:, 2] = 1
        features[:, 3] = [_box_iou(mask, prompts.box) for mask in inside]
    if prompts.mask_logits is not None:
        earlier = prompts.mask_logits > 0
        features[:, 4] = 1
        features[:, 5] = (inside & earlier).sum(axis=(1, 2)) / np.maximum((inside | earlier).sum(axis=(1, 2)), 1)
    return features


def _box_iou(mask: NDArray[np.bool_], box: Box) -> float:
    """Return the IoU of a box in tile pixels with the one around a mask's cells."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return 0.0
    around = Box(rows[0] * CELL, cols[0] * CELL, (rows[-1] + 1) * CELL, (cols[-1] + 1) * CELL)
    common = around.intersection(box)
    inter = 0.0 if common.is_empty else common.height * common.width
    return float(inter / (around.height * around.width + box.height * box.width - inter))


def comparison_features(answers: Answers) -> NDArray[np.float32]:
    """Describe each mask of several tiles relative to the others.

    Parameters
    ----------
    answers
        Tiles of one plane, in any order, each with its answer to the same prompts.

    Returns
    -------
    numpy.ndarray
        Shape (tiles, masks, COMPARED_FEATURES), float32.
    """
    order = sorted(range(len(answers)), key=lambda i: answers[i][0].downsample)
    predicted = np.stack([_logit(answers[i][1].iou_prediction) for i in order])
    levels = np.array([answers[i][0].level for i in order], np.float32)
    features = np.zeros((*predicted.shape, COMPARED_FEATURES), np.float32)
    features[..., 0] = predicted
    features[..., 1] = predicted - predicted.max()
    features[..., 2] = predicted - predicted.max(axis=1, keepdims=True)
    features[..., 3] = ((levels - levels[0]) / LEVEL_UNIT)[:, None]
    features[..., 4] = ((levels[-1] - levels) / LEVEL_UNIT)[:, None]
    for at, index in enumerate(order):
        tile, decoded = answers[index]
        features[at, :, 5:9] = _extents(tile, decoded.logits)
    for at in range(len(order) - 1):
        (fine, fine_answer), (coarse, coarse_answer) = answers[order[at]], answers[order[at + 1]]
        whole, common = agreement(fine, fine_answer.logits, coarse, coarse_answer.logits)
        best_fine, best_coarse = predicted[at].argmax(), predicted[at + 1].argmax()
        features[at, :, 9] = 1
        features[at, :, 10] = predicted[at + 1].max()
        features[at, :, 11:14] = np.stack([whole.max(axis=1), whole[:, best_coarse], common.max(axis=1)], axis=-1)
        features[at, :, 14] = predicted[at + 1][whole.argmax(axis=1)]
        features[at + 1, :, 15] = 1
        features[at + 1, :, 16] = predicted[at].max()
        features[at + 1, :, 17:20] = np.stack([whole.max(axis=0), whole[best_fine], common.max(axis=0)], axis=-1)
    restored = np.empty_like(features)
    restored[order] = features
    return restored


def agreement(
    fine: Tile, fine_logits: NDArray[np.float32], coarse: Tile, coarse_logits: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the IoU of each mask of a finer tile with each mask of a coarser one.

    Both are compared in the cells of the coarser tile, whose share under a finer mask counts.

    Returns
    -------
    whole, common : numpy.ndarray
        Shape (fine masks, coarse masks), float32: over all of the coarser tile, and over the cells that both see.
    """
    count = coarse_logits.shape[-1]
    by_row, by_col = (_cells_in(fine, coarse, axis, count) for axis in (0, 1))
    shares = np.minimum(by_row @ (fine_logits > 0).astype(np.float32) @ by_col.T, 1).reshape(len(fine_logits), -1)
    masks = (coarse_logits > 0).astype(np.float32).reshape(len(coarse_logits), -1)
    seen = np.outer(by_row.any(axis=1), by_col.any(axis=1)).astype(np.float32).ravel()
    inter = shares @ masks.T
    areas = shares.sum(axis=1)[:, None]
    whole = inter / np.maximum(areas + masks.sum(axis=1) - inter, LEAST_SHARE)
    common = inter / np.maximum(areas + masks @ seen - inter, LEAST_SHARE)
    return whole.astype(np.float32), common.astype(np.float32)


def _cells_in(fine: Tile, coarse: Tile, axis: int, count: int) -> NDArray[np.float32]:
    """Return the share of each coarser cell (rows) that each finer cell (columns) makes up along one axis."""
    starts = [(tile.read.top, tile.read.left)[axis] for tile in (fine, coarse)]
    lengths = [tile.step[axis] * tile.side / count for tile in (fine, coarse)]
    centers = (starts[0] + (np.arange(count) + 0.5) * lengths[0] - starts[1]) / lengths[1]
    cells = np.floor(centers).astype(np.intp)
    shares = np.zeros((count, count), np.float32)
    inside = (cells >= 0) & (cells < count)
    shares[cells[inside], np.flatnonzero(inside)] = lengths[0] / lengths[1]
    return shares


def _extents(tile: Tile, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return of each mask, shape (masks, 4): log of the area, extent, length cut by the tile's borders, and fill.

    Borders of the image do not count: up to those a tile owns its pixels.
    """
    count = logits.shape[-1]
    inside = logits > 0
    height, width = inside.any(axis=2).sum(axis=1), inside.any(axis=1).sum(axis=1)
    rows, cols = (
        min(count, int(np.ceil((high - low) / (step * tile.side / count))))
        for low, high, step in (
            (tile.read.top, tile.read.bottom, tile.step[0]),
            (tile.read.left, tile.read.right, tile.step[1]),
        )
    )
    cuts = np.stack([inside[:, 0], inside[:, rows - 1], inside[:, :, 0], inside[:, :, cols - 1]]).sum(axis=2)
    read, owned = tile.read, tile.owned
    is_cut = [read.top < owned.top, owned.bottom < read.bottom, read.left < owned.left, owned.right < read.right]
    area = inside.sum(axis=(1, 2))
    return np.stack(
        [
            np.log((area + 1) / count**2) / 8,
            np.maximum(height, width) / count,
            np.array(is_cut) @ cuts / np.maximum(height + width, 1),
            area / np.maximum(height * width, 1),
        ],
        axis=-1,
    ).astype(np.float32)


def _logit(share: NDArray[np.float32]) -> NDArray[np.float32]:
    clipped = np.clip(share, LEAST_SHARE, 1 - LEAST_SHARE)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float32)
