"""SAM's image encoder: a plain vision transformer with windows and decomposed relative positions.

Sources: Kirillov et al. 2023 (Segment Anything), Li et al. 2022 (ViTDet). The mathematics is that of the official code,
its execution is not: see `attention`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.sam.attention import attend, relative
from napari_sam.models.sam.layers import MLPBlock, neck

MLP_TOKENS = 1024


class PatchEmbed(nn.Module):
    """Cut the image into patches and project each to a token, (n, rows, cols, width).

    An image of one channel stands for three equal ones.
    """

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        weight = self.proj.weight.sum(1, keepdim=True) if channels == 1 else self.proj.weight
        # As a matrix product, which leaves the tokens in order: with the strides of a convolution's output, which every
        # residual sum hands on, each later layer would copy.
        patches = x.reshape(n, channels, height // self.patch, self.patch, width // self.patch, self.patch)
        lines = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(0, 2)
        tokens = F.linear(lines, weight.flatten(1), self.proj.bias)
        return tokens.view(n, height // self.patch, width // self.patch, -1)

    def fold(self, mean: Tensor, std: Tensor) -> None:
        """Take the normalization of pixels, (3,) each, into the weights: from now on `forward` is given pixels."""
        weight = self.proj.weight / std[:, None, None]
        self.proj.weight = nn.Parameter(weight, requires_grad=False)
        moved = (weight * mean[:, None, None]).sum((1, 2, 3))
        assert self.proj.bias is not None
        self.proj.bias = nn.Parameter(self.proj.bias - moved, requires_grad=False)


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

    def forward(self, x: Tensor, window: int) -> Tensor:
        """Attend over (n, rows, cols, width), inside windows of that side or, with 0, over the whole grid."""
        rows, cols = x.shape[1:3]
        qkv = self.qkv(x)
        if window:
            # Windows are cut after the projection, since that of the padding is only the bias.
            padded = _split_windows(qkv, window, self.qkv.bias)
            mixed = _join_windows(self._mix(padded), window, rows, cols)
        else:
            mixed = self._mix(qkv)
        out: Tensor = self.proj(mixed)
        return out

    def _mix(self, qkv: Tensor) -> Tensor:
        """Attend over (n, rows, cols, 3 * width); return (n, rows, cols, width)."""
        n, rows, cols, _ = qkv.shape
        q, k, v = qkv.reshape(n, rows * cols, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        grid = q.reshape(n, self.heads, rows, cols, -1)
        by_row = torch.einsum("nhrcd,rkd->nhrck", grid, relative(self.rel_pos_h, rows)).flatten(2, 3)
        by_col = torch.einsum("nhrcd,ckd->nhrck", grid, relative(self.rel_pos_w, cols)).flatten(2, 3)
        return attend(q, k, v, by_row, by_col).transpose(1, 2).reshape(n, rows, cols, -1)


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
        x = x + self.attn(self.norm1(x), self.window)
        if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
            out: Tensor = x + self.mlp(self.norm2(x))
            return out
        # In parts: memory for all hidden values would be allocated anew each time, page by page.
        tokens = x.flatten(0, 2)
        for first in range(0, len(tokens), MLP_TOKENS):
            part = tokens[first : first + MLP_TOKENS]
            part += self.mlp(self.norm2(part))
        return x


class ImageEncoderViT(nn.Module):
    """From (n, 3, side, side) normalized pixels to (n, 256, side/16, side/16).

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
        self.global_blocks = global_blocks
        self.patch_embed = PatchEmbed(patch, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, width))
        self.blocks = nn.ModuleList(
            Block(width, heads, grid, 0 if index in global_blocks else window) for index in range(depth)
        )
        self.neck = neck(width, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_early(x)[0]

    def forward_with_early(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding and, for SAM-HQ, the output of the first block with global attention.

        Returns
        -------
        embedding : torch.Tensor
            Shape (n, 256, side/16, side/16).
        early : torch.Tensor
            Shape (n, side/16, side/16, width).
        """
        x = self.patch_embed(x) + self.pos_embed
        early = x
        first = min(self.global_blocks, default=0)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == first:
                early = x
        embedding: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return embedding, early


def _split_windows(x: Tensor, window: int, fill: Tensor) -> Tensor:
    """Cut (n, rows, cols, width) into (n * windows, window, window, width), padded at the end with `fill`, (width,)."""
    n, rows, cols, width = x.shape
    down, across = -(-rows // window), -(-cols // window)
    padded = fill.expand(n, down * window, across * window, width).clone()
    padded[:, :rows, :cols] = x
    windows = padded.reshape(n, down, window, across, window, width).transpose(2, 3)
    return windows.reshape(-1, window, window, width)


def _join_windows(windows: Tensor, window: int, rows: int, cols: int) -> Tensor:
    """Undo `_split_windows` for a grid of rows x cols."""
    down, across = -(-rows // window), -(-cols // window)
    x = windows.reshape(-1, down, across, window, window, windows.shape[-1]).transpose(2, 3)
    return x.reshape(x.shape[0], down * window, across * window, -1)[:, :rows, :cols].contiguous()
