"""The image encoder of the first release, for checkpoints of that release."""

from __future__ import annotations

from torch import Tensor, nn

from napari_sam.models.compact.feature_pyramid import FeaturePyramid
from napari_sam.models.compact.layers import ResidualBlock, downsampling


class ResidualEncoder(FeaturePyramid):
    """Residual blocks (He et al. 2016) at strides 4 to 32, and a feature pyramid.

    Parameters
    ----------
    width
        Channels of the stride-16 output.
    widths
        Channels at strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, *, width: int = 128, widths: tuple[int, int, int, int, int] = (32, 48, 96, 192, 256)) -> None:
        w2, w4, w8, w16, w32 = widths
        super().__init__(width=width, widths=(w4, w8, w16, w32))
        self.stem = nn.Sequential(downsampling(3, w2), downsampling(w2, w4), ResidualBlock(w4), ResidualBlock(w4))
        self.stage8 = nn.Sequential(downsampling(w4, w8), *(ResidualBlock(w8) for _ in range(2)))
        self.stage16 = nn.Sequential(downsampling(w8, w16), *(ResidualBlock(w16) for _ in range(4)))
        self.stage32 = nn.Sequential(downsampling(w16, w32), *(ResidualBlock(w32) for _ in range(2)))

    def backbone_features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return features of strides 4, 8, 16 and 32."""
        x4 = self.stem(x)
        x8 = self.stage8(x4)
        x16 = self.stage16(x8)
        return x4, x8, x16, self.stage32(x16)
