"""The image encoder: a pretrained EfficientNet-Lite2, a path for fine detail, and a feature pyramid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sam.models.compact.feature_pyramid import FeaturePyramid
from napari_sam.models.compact.layers import ResidualBlock, downsampling, in_strips
from napari_sam.models.compact.trunk import EfficientNetLite

# Normalization of the encoder's input: (intensity - mean) / standard deviation, with intensities from 0 to 1.
PIXEL_MEAN, PIXEL_STD = 0.45, 0.25
# Normalization in the trunk's pretraining, with intensities from 0 to 255.
TRUNK_MEAN, TRUNK_STD = 127.0, 128.0
CONTEXT_CHANNELS = 256
FINEST_CHANNELS = 32
# Added at stride 4, where the trunk has only 24 channels.
DETAIL_CHANNELS = 32


class DenseHead(nn.Module):
    """Predict foreground and border of all objects, and scale the likeness of pixels.

    `likeness` holds the factor and the offset that turn the cosine of two pixel embeddings into the logit that both
    pixels belong to one object.

    Parameters
    ----------
    channels
        Channels of the features of stride 4.
    """

    def __init__(self, channels: int = FINEST_CHANNELS) -> None:
        super().__init__()
        self.region = nn.Conv2d(channels, 2, 1)
        self.likeness = nn.Parameter(torch.tensor([8.0, -4.0]))

    def forward(self, f4: Tensor) -> Tensor:
        """Return logits of foreground and of border, shape (n, 2, side/4, side/4), float32."""
        logits: Tensor = self.region(f4).float()
        return logits


class ImageEncoder(FeaturePyramid):
    """EfficientNet-Lite2 down to stride 32, a short path to stride 4, and a feature pyramid.

    Parameters
    ----------
    width
        Channels of the stride-16 output, on which the prompts' attention works.
    """

    def __init__(self, *, width: int = 128) -> None:
        w4, w8, w16, w32 = EfficientNetLite.channels
        super().__init__(width=width, widths=(w4 + DETAIL_CHANNELS, w8, w16, CONTEXT_CHANNELS))
        self.trunk = EfficientNetLite()
        self.detail = nn.Sequential(
            downsampling(3, DETAIL_CHANNELS),
            downsampling(DETAIL_CHANNELS, DETAIL_CHANNELS),
            ResidualBlock(DETAIL_CHANNELS),
        )
        self.reduce32 = nn.Conv2d(w32, CONTEXT_CHANNELS, 1)
        self.dense_head = DenseHead()

    def backbone_features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return features of strides 4, 8, 16 and 32."""
        scale, offset = PIXEL_STD * 255 / TRUNK_STD, (PIXEL_MEAN * 255 - TRUNK_MEAN) / TRUNK_STD
        x4, x8, x16, x32 = self.trunk(x * scale + offset)
        detail = in_strips(self.detail, x, training=self.training)
        return torch.cat([x4, detail], 1), x8, x16, self.reduce32(x32)
