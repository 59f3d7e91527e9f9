"""Boxes as prompts of SAM 3's detector, without torchvision."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor


def without_torchvision(geometry_encoder: Any) -> None:
    """Let the library's encoder of boxes pool image features by `roi_align` in place of torchvision's."""
    geometry_encoder._encode_boxes = partial(_encode_boxes, geometry_encoder)


def _encode_boxes(encoder: Any, boxes: Tensor, mask: Tensor, labels: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the prompt of each box, as the method of this name of the library's `Sam3GeometryEncoder`.

    Parameters
    ----------
    encoder
        The library's module.
    boxes
        Shape (1, n, 4): column and row of the center, width and height, from 0 to 1.
    mask, labels
        Shape (1, n): which boxes count, and which of them are like the objects that are searched.
    features
        Shape (1, channels, rows, cols), normalized.
    """
    cols, rows, widths, heights = boxes[0].unbind(-1)
    size = features.shape[-2:]
    edges = torch.stack([rows - heights / 2, cols - widths / 2, rows + heights / 2, cols + widths / 2], dim=1)
    pooled = roi_align(features[0], edges * torch.tensor([*size, *size], device=boxes.device), encoder.roi_size)
    places = encoder._encode_box_coordinates(cols, rows, widths, heights)
    prompts = (
        encoder.boxes_direct_project(boxes[0])
        + encoder.boxes_pool_project(pooled).flatten(1)
        + encoder.boxes_pos_enc_project(places)
        + encoder.label_embed(labels[0].long())
    )
    return prompts[None], mask


def roi_align(features: Tensor, boxes: Tensor, bins: int) -> Tensor:
    """Average features in the cells of a grid over each box (He et al. 2017, RoIAlign).

    A cell is sampled at regular points, at most one feature apart, between features by bilinear interpolation. As
    torchvision's function with its default options: a feature lies at the whole number of its row and column, and no
    box is smaller than one feature.

    Parameters
    ----------
    features
        Shape (channels, rows, cols).
    boxes
        Shape (n, 4): top, left, bottom and right, in features.
    bins
        Cells along each side of a box.

    Returns
    -------
    torch.Tensor
        Shape (n, channels, bins, bins).
    """
    pooled = [
        _weights(top, bottom, bins, features.shape[1], features.device)
        @ features
        @ _weights(left, right, bins, features.shape[2], features.device).T
        for top, left, bottom, right in boxes.tolist()
    ]
    return torch.stack(pooled)


def _weights(start: float, stop: float, bins: int, length: int, device: torch.device) -> Tensor:
    """Return the share of each feature along one axis in the average of each cell, shape (bins, length)."""
    extent = max(stop - start, 1.0)
    count = math.ceil(extent / bins)
    points = start + (torch.arange(bins * count, dtype=torch.float64) + 0.5) * extent / (bins * count)
    is_inside = (points >= -1) & (points <= length)
    points = points.clamp(0, length - 1)
    first = points.floor().long().clamp(max=max(length - 2, 0))
    share = points - first
    weights = torch.zeros(len(points), length, dtype=torch.float64)
    numbers = torch.arange(len(points))
    weights[numbers, first] += 1 - share
    weights[numbers, (first + 1).clamp(max=length - 1)] += share
    weights *= is_inside[:, None]
    return weights.reshape(bins, count, length).mean(dim=1).float().to(device)
