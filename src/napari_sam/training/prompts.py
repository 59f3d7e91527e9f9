"""Simulated prompts (Kirillov et al. 2023, appendix A): a first prompt, then points where the answer is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from napari_sam.models.compact.prompt_encoder import NOT_A_POINT
from napari_sam.models.prompt_tokens import BOTTOM_RIGHT, NEGATIVE, POSITIVE, TOP_LEFT

CENTER_BIAS = 0.5
JITTER, MAX_JITTER = 0.1, 20.0


@dataclass(frozen=True, slots=True, eq=False)
class PromptBatch:
    """Prompts of n objects, all with the same number of tokens.

    Parameters
    ----------
    coords
        Shape (n, tokens, 2), float32, (x, y) in crop pixels.
    types
        Shape (n, tokens), int64: NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT or NOT_A_POINT.
    logits
        Shape (n, side / 4, side / 4): the last answer's logits, zero at first.
    """

    coords: Tensor
    types: Tensor
    logits: Tensor

    def followed_by(self, points: NDArray[np.float32], types: NDArray[np.int64], logits: Tensor) -> PromptBatch:
        """Return the prompts with one more point each, (n, 2), and the logits of the last answer."""
        device = self.coords.device
        coords = torch.cat([self.coords, torch.from_numpy(points)[:, None].to(device)], 1)
        kinds = torch.cat([self.types, torch.from_numpy(types)[:, None].to(device)], 1)
        return PromptBatch(coords, kinds, logits)

    def again(self, logits: Tensor) -> PromptBatch:
        """Return the same prompts with the last answer's logits: a round without new information."""
        return PromptBatch(self.coords, self.types, logits)


def first_prompts(masks: NDArray[np.bool_], box_share: float, rng: np.random.Generator) -> PromptBatch:
    """Return a first prompt for each object: a point inside, biased to the middle, or a jittered box.

    Parameters
    ----------
    masks
        Shape (n, side, side), bool; none empty.
    box_share
        Probability of a box.
    rng
        Source of randomness.
    """
    n, side = masks.shape[:2]
    coords, types = np.zeros((n, 2, 2), np.float32), np.full((n, 2), NOT_A_POINT, np.int64)
    for i, mask in enumerate(masks):
        if rng.random() < box_share:
            rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1], np.float64)
            width = np.tile(box[2:] - box[:2], 2)
            jittered = box + rng.normal(0, 1, 4) * np.minimum(JITTER * width, MAX_JITTER)
            jittered = np.clip(jittered, 0, side)
            if (jittered[2:] - jittered[:2] < 2).any():
                jittered = box
            coords[i], types[i] = jittered.reshape(2, 2), (TOP_LEFT, BOTTOM_RIGHT)
        else:
            coords[i, 0], types[i, 0] = _point_in(mask, rng), POSITIVE
    return PromptBatch(torch.from_numpy(coords), torch.from_numpy(types), torch.zeros(n, side // 4, side // 4))


def next_points(
    answers: NDArray[np.bool_], masks: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return a corrective point for each object, in the larger of its two errors: missed or surplus pixels.

    Parameters
    ----------
    answers, masks
        Shape (n, side, side), bool: the model's answers and the true objects.
    rng
        Source of randomness.

    Returns
    -------
    points : numpy.ndarray
        Shape (n, 2), float32, (x, y).
    types : numpy.ndarray
        Shape (n,), int64: POSITIVE or NEGATIVE. Without an error, a point on the object.
    """
    points, types = np.zeros((len(masks), 2), np.float32), np.full(len(masks), POSITIVE, np.int64)
    for i, (answer, mask) in enumerate(zip(answers, masks, strict=True)):
        missed, surplus = mask & ~answer, answer & ~mask
        if np.count_nonzero(surplus) > np.count_nonzero(missed):
            points[i], types[i] = _point_in(surplus, rng), NEGATIVE
        else:
            points[i] = _point_in(missed if missed.any() else mask, rng)
    return points, types


def _point_in(region: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float]:
    """Draw a pixel (x, y) of a region: half of the time from its inner part, else from all of it."""
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    top, left = rows[0], cols[0]
    inside = region[top : rows[-1] + 1, left : cols[-1] + 1]
    if rng.random() < CENTER_BIAS:
        depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        inside = depth >= 0.7 * depth.max()
    at = np.argwhere(inside)
    row, col = at[rng.integers(len(at))]
    return float(col + left), float(row + top)
