"""Focal and dice loss on the masks, squared error on the predicted IoU, and dense targets for the image encoder."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def mask_losses(logits: Tensor, masks: Tensor, *, focal_weight: float, gamma: float) -> tuple[Tensor, Tensor]:
    """Compare candidates with the truth.

    Parameters
    ----------
    logits
        Shape (n, candidates, rows, cols).
    masks
        Shape (n, rows, cols), 0 to 1: the share of each cell that the object covers.
    focal_weight
        Weight of the focal loss; that of the dice loss is 1.
    gamma
        Exponent of the focal loss.

    Returns
    -------
    loss : torch.Tensor
        Shape (n, candidates).
    iou : torch.Tensor
        Shape (n, candidates): the true IoU, without gradient.
    """
    truth = masks[:, None].expand_as(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    share = logits.sigmoid()
    focal = (cross_entropy * (share - truth).abs().pow(gamma)).mean((2, 3))
    dice = 1 - (2 * (share * truth).sum((2, 3)) + 1) / (share.sum((2, 3)) + truth.sum((2, 3)) + 1)
    with torch.no_grad():
        answer, real = logits > 0, truth > 0.5
        union = (answer | real).sum((2, 3)).clamp(min=1)
        iou = (answer & real).sum((2, 3)) / union
    return focal_weight * focal + dice, iou


def dense_targets(objects: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return what every pixel could know of its object: foreground, border, and the way to the object's centre.

    Parameters
    ----------
    objects
        Shape (rows, cols), int: labels, 0 or less for what is no object.

    Returns
    -------
    numpy.ndarray
        Shape (4, rows, cols), float32: foreground and border, 0 or 1; then rows and cols to the centre, in units of the
        object's radius, -1.5 to 1.5.
    """
    inside = objects > 0
    border = np.zeros(objects.shape, bool)
    for axis in (0, 1):
        differs = np.diff(objects, axis=axis) != 0
        border |= np.pad(differs, [(0, int(a == axis)) for a in (0, 1)])
        border |= np.pad(differs, [(int(a == axis), 0) for a in (0, 1)])
    _, index = np.unique(objects, return_inverse=True)
    index = index.reshape(objects.shape)
    count = np.bincount(index.ravel())
    radius = np.sqrt(count)[index]
    ways = []
    for position in np.indices(objects.shape):
        center = np.bincount(index.ravel(), position.ravel()) / count
        ways.append(np.clip((center[index] - position) / radius, -1.5, 1.5) * inside)
    return np.stack([inside, border, *ways]).astype(np.float32)


def dense_loss(predicted: Tensor, targets: Tensor) -> Tensor:
    """Compare dense predictions (n, 4, rows, cols) with `dense_targets`; return the mean loss."""
    seen = F.binary_cross_entropy_with_logits(predicted[:, :2], targets[:, :2])
    return seen + 2 * F.smooth_l1_loss(predicted[:, 2:], targets[:, 2:])
