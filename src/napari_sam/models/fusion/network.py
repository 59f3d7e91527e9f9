"""FusionNetwork: a small U-Net over the window around an object."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.core.following.mask_fuser import CHANNELS, SCALARS, WINDOW_CELLS

WIDTHS = (32, 64, 96)
HIDDEN = 48
# Cells added to an area before a share of it is taken, so that small objects have no wild shares.
MARGIN = 9.0
PREVIOUS_MASK, BEST_LOGITS = CHANNELS.index("previous mask"), CHANNELS.index("best logits")


class FusionNetwork(nn.Module):
    """Decide on masks from pixels, earlier masks, the decoder's answers, and the likeness of cells to the object."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        # Two by two cells become channels: the network works on half of the window's resolution.
        self.e1 = nn.Sequential(_convolution(4 * len(CHANNELS), fine), _convolution(fine, fine))
        self.e2 = nn.Sequential(_convolution(fine, middle, 2), _convolution(middle, middle))
        self.e3 = nn.Sequential(_convolution(middle, coarse, 2), _convolution(coarse, coarse))
        self.sc = nn.Linear(len(SCALARS), coarse)
        self.u2 = nn.Sequential(_convolution(coarse + middle, middle), _convolution(middle, middle))
        self.u1 = nn.Sequential(_convolution(middle + fine, fine), _convolution(fine, fine))
        self.out = nn.Conv2d(fine, 4, 3, 1, 1)
        self.scale = nn.Parameter(torch.ones(2))
        self.head = nn.Sequential(nn.Linear(2 * coarse + len(SCALARS) + 5, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))

    def forward(self, channels: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (n, cells, cells), and the logits of confidence (n,) and presence (n,)."""
        e1 = self.e1(F.pixel_unshuffle(channels, 2))
        e2 = self.e2(e1)
        e3 = self.e3(e2) + self.sc(scalars)[:, :, None, None]
        u2 = self.u2(torch.cat([F.interpolate(e3, scale_factor=2.0), e2], 1))
        u1 = self.u1(torch.cat([F.interpolate(u2, scale_factor=2.0), e1], 1))
        best, previous = channels[:, BEST_LOGITS], channels[:, PREVIOUS_MASK]
        logits = F.pixel_shuffle(self.out(u1), 2)[:, 0]
        logits = logits + self.scale[0] * best + self.scale[1] * (previous * 2 - 1)
        pooled = e3.flatten(2)
        known = [pooled.mean(2), pooled.amax(2), scalars, _agreement(logits.sigmoid(), previous, (best > 0).float())]
        confidence, presence = self.head(torch.cat(known, 1)).unbind(1)
        return logits, confidence, presence


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _agreement(mask: Tensor, previous: Tensor, decoded: Tensor) -> Tensor:
    """Return how a soft mask compares with the previous and the decoded one, shape (n, 5)."""

    def area(values: Tensor) -> Tensor:
        return values.flatten(1).sum(1)

    def shared(other: Tensor) -> Tensor:
        return area(torch.minimum(mask, other)) / (area(torch.maximum(mask, other)) + MARGIN)

    own = area(mask)
    figures = [
        own / (area(previous) + MARGIN),
        shared(previous),
        shared(decoded),
        area(mask * (1 - mask)) / (own + MARGIN),
        (own / WINDOW_CELLS**2).sqrt(),
    ]
    return torch.stack(figures, 1).clamp(0, 3)
