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


def dense_targets(objects: NDArray[np.int32], stride: int) -> NDArray[np.float32]:
    """Return the dense targets of every cell: foreground, border, the way to the center of its object, and its radius.

    Parameters
    ----------
    objects
        Shape (rows, cols), int: labels of the cells, 0 or less outside objects.
    stride
        Side of a cell, in pixels.

    Returns
    -------
    numpy.ndarray
        Shape (5, rows, cols), float32: foreground and border, 0 or 1; then x and y to the center, in units of the
        object's radius, -3 to 3, and the logarithm of that radius (the root of the area) in pixels; 0 outside objects.
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
    for position in np.indices(objects.shape)[::-1]:
        center = np.bincount(index.ravel(), position.ravel()) / count
        ways.append(np.clip((center[index] - position) / radius, -3, 3) * inside)
    return np.stack([inside, border, *ways, np.log(radius * stride) * inside]).astype(np.float32)


def dense_loss(seen: Tensor, centers: Tensor, targets: Tensor, counted: Tensor | None = None) -> Tensor:
    """Compare dense predictions with `dense_targets`.

    Parameters
    ----------
    seen
        Shape (n, 2, rows, cols): logits of foreground and border.
    centers
        Shape (n, 3, rows, cols): way to the center, x and y, and logarithm of the radius; only objects count.
    targets
        Shape (n, 5, rows, cols); of foreground and border, any share from 0 to 1.
    counted
        Shape (n, 1, rows, cols), 0 to 1: how much each cell counts; by default all alike.

    Returns
    -------
    torch.Tensor
        The loss, a scalar.
    """
    weights = torch.ones_like(targets[:, :1]) if counted is None else counted
    inside = targets[:, :1] * weights
    off = F.smooth_l1_loss(centers, targets[:, 2:], reduction="none", beta=0.5) * inside
    apart = F.binary_cross_entropy_with_logits(seen, targets[:, :2], reduction="none") * weights
    return apart.sum() / (2 * weights.sum() + 1e-6) + off.sum() / (inside.sum() + 1)


def sample_cells(
    objects: NDArray[np.int32], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Draw cells on objects, equally often from objects of any size; return flat indices and labels, both (count,).

    Without any object the indices are 0 and the labels -2, which no cell has.
    """
    flat = objects.ravel()
    order = np.argsort(flat, kind="stable")
    values, first, size = np.unique(flat[order], return_index=True, return_counts=True)
    chosen = np.flatnonzero(values > 0)
    if not len(chosen):
        return np.zeros(count, np.int64), np.full(count, -2, np.int32)
    pick = rng.choice(chosen, count)
    return order[first[pick] + rng.integers(0, size[pick])], values[pick].astype(np.int32)


def likeness_loss(pixels: Tensor, objects: Tensor, cells: Tensor, values: Tensor, contrast: Tensor) -> Tensor:
    """Return the loss of unit pixel embeddings that should be alike within an object and differ between objects.

    Parameters
    ----------
    pixels
        Shape (n, channels, rows, cols), of unit length over the channels.
    objects
        Shape (n, rows, cols), int: labels; -1 does not count.
    cells, values
        Shape (n, count): flat indices of drawn cells, and the labels of their objects; see `sample_cells`.
    contrast
        Shape (2,): factor and offset that make a logit of a cosine.

    Returns
    -------
    torch.Tensor
        The loss, a scalar: the same object and everything else weigh alike.
    """
    flat = pixels.flatten(2)
    at = flat.gather(2, cells[:, None].expand(-1, flat.shape[1], -1))
    logits = torch.einsum("ncp,ncx->npx", at, flat) * contrast[0] + contrast[1]
    labels = objects.flatten(1)[:, None]
    same = (labels == values[..., None]).float()
    other = ((labels != values[..., None]) & (labels >= 0) & (values[..., None] > 0)).float()
    attracted = (F.softplus(-logits) * same).sum() / (same.sum() + 1)
    repelled = (F.softplus(logits) * other).sum() / (other.sum() + 1)
    return attracted + repelled
