"""The prompt encoder: tokens as in SAM, and dense maps of the prompts and of similar pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.compact.layers import ChannelLayerNorm, grid_centers
from napari_sam.models.prompt_tokens import NEGATIVE, POSITIVE, TOP_LEFT

NOT_A_POINT = 4
DISK_SIGMA = 5.0
DISTANCE_UNIT = 64.0
TRAINED_SIDE = 256.0
MAPS = 10
MIN_LOG_RADIUS, MAX_LOG_RADIUS = 0.0, 6.0


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPrompts:
    """The inputs of the mask decoder.

    Parameters
    ----------
    tokens
        Shape (n, prompts, width).
    dense16
        Shape (n, width, side/16, side/16): added to the image features.
    dense4
        Shape (n, 32, side/4, side/4): added on the way up.
    position16
        Shape (1, (side/16)**2, width): position of each stride-16 cell.
    """

    tokens: Tensor
    dense16: Tensor
    dense4: Tensor
    position16: Tensor


class PromptEncoder(nn.Module):
    """Random-Fourier positions and type embeddings (Kirillov et al. 2023), and ten dense maps at stride 4.

    The maps are: earlier logits, positive and negative disks, box, likeness to the positive points, to the negative
    points and to the box's mean, nearness to a positive point, and agreement with the positive and with the negative
    points on where the object's center is.
    """

    frequencies: Tensor

    def __init__(self, *, width: int = 128) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, width // 2))
        self.types = nn.Embedding(5, width)
        self.dense4 = nn.Sequential(
            nn.Conv2d(MAPS, 32, 3, padding=1), ChannelLayerNorm(32), nn.ReLU(), nn.Conv2d(32, 32, 1)
        )
        self.dense16 = nn.Sequential(
            nn.Conv2d(32, 64, 3, 2, 1), ChannelLayerNorm(64), nn.ReLU(), nn.Conv2d(64, width, 3, 2, 1)
        )

    def forward(
        self, pixels: Tensor, centers: Tensor, coords: Tensor, types: Tensor, mask_logits: Tensor
    ) -> EncodedPrompts:
        """Encode the prompts of n objects, each with the same number of points.

        Parameters
        ----------
        pixels
            Shape (n, 32, side/4, side/4): unit pixel embeddings of each object's tile.
        centers
            Shape (n, 3, side/4, side/4): way to the object's center and logarithm of its radius; see `ImageEncoder`.
        coords
            Shape (n, prompts, 2), float32, (x, y) in tile pixels.
        types
            Shape (n, prompts), int64: NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT or NOT_A_POINT; a TOP_LEFT is
            followed by its BOTTOM_RIGHT.
        mask_logits
            Shape (n, side/4, side/4): earlier logits, zero where there are none.
        """
        side = pixels.shape[-1] * 4
        known = (types != NOT_A_POINT)[..., None]
        tokens = self._position(coords / TRAINED_SIDE) * known + self.types(types)
        dense4 = self.dense4(self._maps(pixels, centers, coords, types, mask_logits))
        dense16 = self.dense16(dense4)
        cells = grid_centers(side // 16, 16 / TRAINED_SIDE, pixels)
        grid = torch.stack(torch.meshgrid(cells, cells, indexing="xy"), -1).reshape(1, -1, 2)
        return EncodedPrompts(tokens, dense16, dense4, self._position(grid))

    def _position(self, xy: Tensor) -> Tensor:
        angle = 2 * math.pi * ((xy * 2 - 1) @ self.frequencies)
        return torch.cat([angle.sin(), angle.cos()], -1)

    @staticmethod
    def _maps(pixels: Tensor, centers: Tensor, coords: Tensor, types: Tensor, mask_logits: Tensor) -> Tensor:
        """Return the dense maps, shape (n, MAPS, side/4, side/4)."""
        count = pixels.shape[-1]
        center = grid_centers(count, 4.0, pixels)
        x, y = coords[..., 0, None, None], coords[..., 1, None, None]
        squared = (center[None, None, None, :] - x) ** 2 + (center[None, None, :, None] - y) ** 2
        positive, negative = ((types == kind)[..., None, None] for kind in (POSITIVE, NEGATIVE))
        disks = torch.exp(-squared / (2 * DISK_SIGMA**2))
        nearest = torch.where(positive, squared, torch.full_like(squared, 1e6)).amin(1).sqrt()

        sampled_at = (coords / (count * 4) * 2 - 1)[:, :, None]
        at = F.grid_sample(pixels, sampled_at, align_corners=False)[..., 0]
        likeness = torch.einsum("ncp,nchw->nphw", at, pixels)
        alike = [torch.where(kind, likeness, torch.full_like(likeness, -1.0)).amax(1) for kind in (positive, negative)]

        agreement = _agreement(centers, sampled_at)
        agree = [torch.where(kind, agreement, torch.zeros_like(agreement)).amax(1) for kind in (positive, negative)]

        box = _box_map(coords, types, count)
        share = box / (box.sum((1, 2), keepdim=True) + 1e-3)
        mean = F.normalize(torch.einsum("nchw,nhw->nc", pixels, share), dim=1)
        box_alike = torch.einsum("nc,nchw->nhw", mean, pixels) * (box.amax((1, 2)) > 0)[:, None, None]
        return torch.stack(
            [
                torch.tanh(mask_logits / 4),
                (disks * positive).amax(1),
                (disks * negative).amax(1),
                box,
                *alike,
                box_alike,
                torch.exp(-nearest / DISTANCE_UNIT),
                *agree,
            ],
            -1,
        ).permute(0, 3, 1, 2)


def _agreement(centers: Tensor, at: Tensor) -> Tensor:
    """Return how well each pixel and each prompt agree on the center of their object, 0 to 1.

    Parameters
    ----------
    centers
        Shape (n, 3, rows, cols), as `ImageEncoder` gives them.
    at
        Shape (n, prompts, 1, 2): the prompts for `grid_sample`.

    Returns
    -------
    torch.Tensor
        Shape (n, prompts, rows, cols).
    """
    rows = centers.shape[-1]
    cell = grid_centers(rows, 4.0, centers)
    radius = centers[:, 2].clamp(MIN_LOG_RADIUS, MAX_LOG_RADIUS).exp()
    x = cell[None, None, :] + centers[:, 0] * radius
    y = cell[None, :, None] + centers[:, 1] * radius
    x0, y0, radius0 = F.grid_sample(torch.stack([x, y, radius], 1), at, align_corners=False)[..., 0].unbind(1)
    squared = (x[:, None] - x0[..., None, None]) ** 2 + (y[:, None] - y0[..., None, None]) ** 2
    return torch.exp(-2 * squared / radius0[..., None, None].clamp(min=2.0) ** 2)


def _box_map(coords: Tensor, types: Tensor, count: int) -> Tensor:
    """Return 1 in the stride-4 cells that overlap each object's box, 0 elsewhere; shape (n, count, count)."""
    is_corner = types == TOP_LEFT
    has_box = is_corner.any(1)
    first = is_corner.int().argmax(1)
    rows = torch.arange(types.shape[0], device=types.device)
    top_left = torch.floor(coords[rows, first] / 4)
    bottom_right = torch.ceil(coords[rows, (first + 1).clamp(max=types.shape[1] - 1)] / 4)
    cell = torch.arange(count, device=coords.device)

    def inside(axis: int) -> Tensor:
        return (cell >= top_left[:, axis, None]) & (cell < bottom_right[:, axis, None])

    box = inside(1)[:, :, None] & inside(0)[:, None, :] & has_box[:, None, None]
    return box.to(coords.dtype)
