"""Layers shared by the three parts of the compact model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]


class ChannelLayerNorm(nn.Module):
    """Layer normalization over the channels of (n, channels, rows, cols).

    Behind the prompts it stands where the encoder has batch normalization: rounds of prompts have different
    statistics, which batch normalization does not survive.
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


def downsampling(inputs: int, outputs: int) -> nn.Sequential:
    """Return a 3 x 3 convolution of stride 2 with batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def enlarge(x: Tensor) -> Tensor:
    """Double rows and columns by linear interpolation."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


def grid_centers(count: int, step: float, like: Tensor) -> Tensor:
    """Return the centers of `count` cells of side `step`, in tile pixels."""
    return (torch.arange(count, device=like.device, dtype=torch.float32) + 0.5) * step
