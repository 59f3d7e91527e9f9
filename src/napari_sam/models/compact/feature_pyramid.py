"""The feature pyramid of the image encoders: attention at stride 32, and lateral connections up to stride 4."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.compact.layers import ResidualBlock, enlarge, fuse_convolutions
from napari_sam.models.sam.transformer import Attention

HEADS = 4


class GlobalBlock(nn.Module):
    """Self-attention between all cells of stride 32, for the context of an object.

    Parameters
    ----------
    channels
        Number of channels of the input and the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, HEADS)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        cells = x.flatten(2).transpose(1, 2)
        normed = self.norm1(cells)
        cells = cells + self.attention(normed, normed, normed)
        cells = cells + self.mlp(self.norm2(cells))
        out: Tensor = cells.transpose(1, 2).reshape(x.shape)
        return out


class FeaturePyramid(nn.Module):
    """A feature pyramid (Lin et al. 2017) from stride 32 to 4; subclasses add the backbone in `backbone_features`.

    Parameters
    ----------
    width
        Channels of the stride-16 output, on which the prompts' attention works.
    widths
        Channels of the backbone at strides 4, 8, 16 and 32.
    """

    def __init__(self, *, width: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        w4, w8, w16, w32 = widths
        self.context = nn.Sequential(*(GlobalBlock(w32) for _ in range(2)))
        self.lateral32 = nn.Conv2d(w32, width, 1)
        self.lateral16 = nn.Conv2d(w16, width, 1)
        self.out16 = ResidualBlock(width)
        self.lateral8 = nn.Conv2d(w8, 64, 1)
        self.top8 = nn.Conv2d(width, 64, 1)
        self.out8 = ResidualBlock(64)
        self.lateral4 = nn.Conv2d(w4, 32, 1)
        self.top4 = nn.Conv2d(64, 32, 1)
        self.out4 = ResidualBlock(32)
        self.pixel_proj = nn.Conv2d(32, 32, 1)
        self.center_proj = nn.Conv2d(32, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Encode normalized images.

        Parameters
        ----------
        x
            Shape (n, 3, side, side), float.

        Returns
        -------
        tuple of torch.Tensor
            Features of shape (n, width, side/16, side/16), (n, 64, side/8, side/8) and (n, 32, side/4, side/4),
            pixel embeddings of unit length, (n, 32, side/4, side/4), and a guess at the object of each pixel, (n, 3,
            side/4, side/4): the offset to its center, x and y, in radii, and the logarithm of its radius in pixels.
        """
        f16, f8, f4 = self.features(x)
        return f16, f8, f4, *self.guesses(f4)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features of strides 16, 8 and 4; `guesses` computes the others from the last one."""
        x4, x8, x16, x32 = self.backbone_features(x)
        x32 = self.context(x32)
        f16: Tensor = self.out16(self.lateral16(x16) + enlarge(self.lateral32(x32)))
        f8: Tensor = self.out8(self.lateral8(x8) + enlarge(self.top8(f16)))
        f4: Tensor = self.out4(self.lateral4(x4) + enlarge(self.top4(f8)))
        return f16, f8, f4

    def guesses(self, f4: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixel embeddings, and the center and radius of the object of each pixel; see `forward`."""
        return F.normalize(self.pixel_proj(f4).float(), dim=1), self.center_proj(f4).float()

    def backbone_features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return features of strides 4, 8, 16 and 32, with the channels in `widths`."""
        raise NotImplementedError

    def fuse_convolutions(self) -> None:
        """Replace the convolutions behind `features` by faster ones with the same results; see `FusedConvolution`."""
        # The heads stay as they are: the decoder's calls of them are traced.
        heads = {"pixel_proj", "center_proj", "dense_head"}
        parts = nn.ModuleDict({name: child for name, child in self.named_children() if name not in heads})
        fuse_convolutions(parts)
        for name, part in parts.items():
            setattr(self, name, part)
