"""SAM's prompt encoder: points and boxes become tokens, masks a dense embedding (Kirillov et al. 2023, appendix A)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from napari_sam.models.sam.layers import LayerNorm2d

NOT_A_POINT = -1


class PositionEmbeddingRandom(nn.Module):
    """Random-Fourier features of positions (Tancik et al. 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))

    def forward(self, xy: Tensor) -> Tensor:
        """Encode positions (..., 2), (x, y) in 0..1, into (..., 2 * features)."""
        angle = 2 * math.pi * ((2 * xy - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angle.sin(), angle.cos()], -1)


class PromptEncoder(nn.Module):
    """Tokens for points and boxes, a dense embedding for masks.

    Parameters
    ----------
    width
        Token width.
    side
        Side of the image encoder's input, in pixels.
    grid
        Side of the image embedding.
    mask_channels
        Hidden channels of the mask's convolutions.
    """

    def __init__(self, *, width: int = 256, side: int = 1024, grid: int = 64, mask_channels: int = 16) -> None:
        super().__init__()
        self.side, self.grid = side, grid
        self.pe_layer = PositionEmbeddingRandom(width // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, 2, stride=2),
            LayerNorm2d(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, 2, stride=2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def forward(self, coords: Tensor, types: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encode the prompts of n objects, each with the same number of tokens.

        Parameters
        ----------
        coords
            Shape (n, tokens, 2), float, (x, y) in pixels of the input.
        types
            Shape (n, tokens), int64: NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT or NOT_A_POINT. As in training,
            points without a box are followed by one NOT_A_POINT.
        masks
            Shape (n, 1, 4 * grid, 4 * grid), logits; or None.

        Returns
        -------
        sparse : torch.Tensor
            Shape (n, tokens, width).
        dense : torch.Tensor
            Shape (n, width, grid, grid).
        """
        table = torch.cat([embedding.weight for embedding in (self.not_a_point_embed, *self.point_embeddings)])
        position = self.pe_layer((coords + 0.5) / self.side)
        sparse = torch.where((types == NOT_A_POINT)[..., None], 0, position) + table[types + 1]
        if masks is None:
            dense = self.no_mask_embed.weight[..., None, None].expand(len(coords), -1, self.grid, self.grid)
        else:
            dense = self.mask_downscaling(masks)
        return sparse, dense

    def dense_position(self) -> Tensor:
        """Return the positions of the image embedding's cells, (1, width, grid, grid)."""
        weight = self.pe_layer.positional_encoding_gaussian_matrix
        at = (torch.arange(self.grid, device=weight.device, dtype=weight.dtype) + 0.5) / self.grid
        xy = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)
        position: Tensor = self.pe_layer(xy)
        return position.permute(2, 0, 1)[None]
