"""The few layers that the three parts of the compact model share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]


class ChannelLayerNorm(nn.Module):
    """Layer normalisation over the channels of (n, channels, rows, cols).

    Behind the prompts it stands where the encoder has batch normalisation: rounds of prompts have different
    statistics, which batch normalisation does not survive.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a skip (He et al. 2016)."""

    def __init__(self, channels: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(x + inner)


class Attention(nn.Module):
    """Multi-head attention with separate inputs for queries, keys and values, all of shape (n, tokens, width)."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def split(x: Tensor) -> Tensor:
            return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(split(self.q_proj(q)), split(self.k_proj(k)), split(self.v_proj(v)))
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


def enlarge(x: Tensor) -> Tensor:
    """Double rows and columns by linear interpolation."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


def grid_centers(count: int, step: float, like: Tensor) -> Tensor:
    """Return the centres of `count` cells of side `step`, in tile pixels."""
    return (torch.arange(count, device=like.device, dtype=torch.float32) + 0.5) * step
