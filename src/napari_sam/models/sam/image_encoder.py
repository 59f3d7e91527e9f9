"""SAM's image encoder: a plain vision transformer with windows and decomposed relative positions.

Sources: Kirillov et al. 2023 (Segment Anything), Li et al. 2022 (ViTDet). The mathematics is that of the official code;
the relative positions are folded into queries and keys, so that no array of tokens x tokens is ever made.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.sam.layers import LayerNorm2d, MLPBlock


class PatchEmbed(nn.Module):
    """Cut the image into patches and project each to a token, (n, rows, cols, width)."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        # Without `contiguous`, the strides of the convolution survive every residual sum and each layer copies.
        tokens: Tensor = self.proj(x).permute(0, 2, 3, 1).contiguous()
        return tokens


class Attention(nn.Module):
    """Multi-head self-attention over a grid of tokens, with relative positions of rows and columns.

    Parameters
    ----------
    width
        Token width.
    heads
        Number of heads.
    grid
        Side of the grid, or of the window, that the relative positions are for.
    """

    def __init__(self, width: int, heads: int, grid: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, width * 3)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Attend over (n, rows, cols, width)."""
        n, rows, cols, width = x.shape
        q, k, v = self.qkv(x).reshape(n, rows * cols, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        head = q.shape[-1]
        grid = q.reshape(n, self.heads, rows, cols, head)
        by_row = torch.einsum("nhrcd,rkd->nhrck", grid, _relative(self.rel_pos_h, rows))
        by_col = torch.einsum("nhrcd,ckd->nhrck", grid, _relative(self.rel_pos_w, cols))
        # softmax(q k / sqrt(d) + by_row[row of k] + by_col[col of k]) is plain attention of longer queries and keys:
        # the added parts meet the one-hot row and column of each key.
        position = torch.cat([by_row, by_col], -1).flatten(2, 3)
        keys = _one_hot(rows, cols, k)
        longer_q = torch.cat([q * head**-0.5, position], -1)
        longer_k = torch.cat([k, keys.expand(n, self.heads, -1, -1)], -1)
        # Fused kernels want values as wide as the keys; the zeros are cut off again.
        longer_v = F.pad(v, (0, longer_k.shape[-1] - head))
        out = F.scaled_dot_product_attention(longer_q, longer_k, longer_v, scale=1.0)[..., :head]
        mixed: Tensor = self.proj(out.transpose(1, 2).reshape(n, rows, cols, width))
        return mixed


class Block(nn.Module):
    """A transformer block; with `window` > 0 attention stays inside windows of that side.

    Parameters
    ----------
    width, heads
        Token width and number of heads.
    grid
        Side of the whole grid of tokens.
    window
        Side of the windows, 0 for attention over the whole grid.
    """

    def __init__(self, width: int, heads: int, grid: int, window: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, window or grid)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLPBlock(width, width * 4)
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm1(x)
        if self.window:
            rows, cols = x.shape[1:3]
            inner = _join_windows(self.attn(_split_windows(inner, self.window)), self.window, rows, cols)
        else:
            inner = self.attn(inner)
        x = x + inner
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ImageEncoderViT(nn.Module):
    """From (n, 3, side, side) normalised pixels to (n, 256, side/16, side/16).

    Parameters
    ----------
    side
        Side of the input in pixels.
    width, depth, heads
        Size of the transformer.
    global_blocks
        The blocks whose attention is not windowed.
    window
        Side of the windows of the others, in tokens.
    out_channels
        Channels of the embedding.
    patch
        Side of a patch in pixels.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        global_blocks: tuple[int, ...],
        side: int = 1024,
        window: int = 14,
        out_channels: int = 256,
        patch: int = 16,
    ) -> None:
        super().__init__()
        grid = side // patch
        self.side = side
        self.patch_embed = PatchEmbed(patch, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, width))
        self.blocks = nn.ModuleList(
            Block(width, heads, grid, 0 if index in global_blocks else window) for index in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(width, out_channels, 1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return out


def _relative(table: Tensor, size: int) -> Tensor:
    """Return the relative positions of `size` queries and keys, (size, size, width), from a table of 2 * size - 1."""
    if table.shape[0] != 2 * size - 1:
        resized = F.interpolate(table.T[None].float(), size=2 * size - 1, mode="linear")[0].T
        table = resized.to(table.dtype)
    at = torch.arange(size, device=table.device)
    return table[at[:, None] - at[None, :] + size - 1]


def _one_hot(rows: int, cols: int, like: Tensor) -> Tensor:
    """Return the one-hot row and column of each token, (1, 1, rows * cols, rows + cols)."""
    row = torch.eye(rows, dtype=like.dtype, device=like.device)[:, None].expand(-1, cols, -1)
    col = torch.eye(cols, dtype=like.dtype, device=like.device)[None].expand(rows, -1, -1)
    return torch.cat([row, col], -1).flatten(0, 1)[None, None]


def _split_windows(x: Tensor, window: int) -> Tensor:
    """Cut (n, rows, cols, width) into (n * windows, window, window, width), padded with zeros at the end."""
    n, rows, cols, width = x.shape
    x = F.pad(x, (0, 0, 0, -cols % window, 0, -rows % window))
    down, across = x.shape[1] // window, x.shape[2] // window
    windows = x.reshape(n, down, window, across, window, width).transpose(2, 3)
    return windows.reshape(-1, window, window, width)


def _join_windows(windows: Tensor, window: int, rows: int, cols: int) -> Tensor:
    """Undo `_split_windows` for a grid of rows x cols."""
    down, across = -(-rows // window), -(-cols // window)
    x = windows.reshape(-1, down, across, window, window, windows.shape[-1]).transpose(2, 3)
    return x.reshape(x.shape[0], down * window, across * window, -1)[:, :rows, :cols]
