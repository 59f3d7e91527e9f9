"""TinyViT, the small image encoder of MobileSAM and of light HQ-SAM.

Sources: Wu et al. 2022 (TinyViT), Zhang et al. 2023 (MobileSAM). Names of parameters are those of the official
checkpoints. Features stay (n, channels, rows, cols) with the channels last in memory, which convolutions and
attention both read without a copy; nothing is derived from the weights before it is needed, so no copy of them ages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.sam.layers import neck

# Tables that some trainers store beside the weights from which they are computed.
DERIVED = ("attention_bias_idxs", "ab")
# Rows of the first stage that a processor works on at a time.
BAND = 32


class ConvNorm(nn.Module):
    """A convolution and a batch normalization, which are one convolution outside of training."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.bn.running_mean, self.bn.running_var
        if self.training or mean is None or variance is None:
            normed: Tensor = self.bn(self.c(x))
            return normed
        scale = self.bn.weight * (variance + self.bn.eps).rsqrt()
        weight, bias = self.c.weight * scale[:, None, None, None], self.bn.bias - mean * scale
        return F.conv2d(x, weight, bias, self.c.stride, self.c.padding, groups=self.c.groups)


class PatchEmbed(nn.Module):
    """Two strided convolutions, to a quarter of the rows and columns."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, width // 2, 3, stride=2), nn.GELU(), ConvNorm(width // 2, width, 3, stride=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        patches: Tensor = self.seq(x)
        return patches


class MBConv(nn.Module):
    """An inverted bottleneck (Sandler et al. 2018): wider, depthwise, narrower, and a skip."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        hidden = width * expansion
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[2]
        if self.training or x.device.type != "cpu":
            return self._rows(x, 0, rows)
        # The wide layers of a whole tile would be newly allocated each time, which costs more than the arithmetic.
        return torch.cat([self._rows(x, top, min(top + BAND, rows)) for top in range(0, rows, BAND)], 2)

    def _rows(self, x: Tensor, top: int, bottom: int) -> Tensor:
        """Return the rows from `top` to `bottom`; those beside them are what the depthwise convolution also sees."""
        first = max(top - 1, 0)
        wide = self.conv2(F.gelu(self.conv1(x[:, :, first : bottom + 1])))[:, :, top - first :][:, :, : bottom - top]
        return F.gelu(x[:, :, top:bottom] + self.conv3(F.gelu(wide)))


class PatchMerging(nn.Module):
    """From one stage to the next: other channels and, with `stride` 2, half the rows and columns."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride=stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        merged: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return merged


class Attention(nn.Module):
    """Self-attention inside windows, with a learned bias for each distance in rows and in columns.

    Parameters
    ----------
    width
        Token width.
    heads
        Number of heads.
    window
        Side of a window, in tokens.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, width * 3)
        self.proj = nn.Linear(width, width)
        # Entry r * window + c is for tokens r rows and c columns apart.
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))

    def forward(self, x: Tensor) -> Tensor:
        """Attend over (n, rows, cols, width), filled up to whole windows with tokens of zeros that take part."""
        n, rows, cols, width = x.shape
        side = self.window
        padded = F.pad(x, (0, 0, 0, -cols % side, 0, -rows % side))
        down, across = padded.shape[1] // side, padded.shape[2] // side
        windows = padded.reshape(n, down, side, across, side, width).transpose(2, 3).reshape(-1, side * side, width)
        qkv = self.qkv(self.norm(windows)).reshape(-1, side * side, self.heads, 3 * width // self.heads)
        q, k, v = qkv.transpose(1, 2).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias().to(q.dtype))
        mixed = mixed.reshape(n, down, across, self.heads, side, side, -1).permute(0, 1, 4, 2, 5, 3, 6)
        out: Tensor = self.proj(mixed.reshape(n, down * side, across * side, width))
        return out[:, :rows, :cols]

    def _bias(self) -> Tensor:
        """Return the bias of each pair of a window's tokens, (1, heads, window ** 2, window ** 2)."""
        side = self.window
        at = torch.arange(side, device=self.attention_biases.device)
        apart = (at[:, None] - at[None, :]).abs()
        index = apart[:, None, :, None] * side + apart[None, :, None, :]
        return self.attention_biases[:, index.reshape(side * side, side * side)][None]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in DERIVED:
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Mlp(nn.Module):
    """Normalization and two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return out


class TinyViTBlock(nn.Module):
    """Windowed attention, a depthwise convolution that carries over the windows' borders, and an MLP."""

    def __init__(self, width: int, heads: int, window: int, mlp_ratio: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = Mlp(width, width * mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        local: Tensor = self.local_conv((tokens + self.attn(tokens)).permute(0, 3, 1, 2))
        tokens = local.permute(0, 2, 3, 1)
        out: Tensor = tokens + self.mlp(tokens)
        return out.permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Blocks of one width and, in all stages but the last, the way to the next."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        out: Tensor = x if self.downsample is None else self.downsample(x)
        return out


class TinyViT(nn.Module):
    """From (n, 3, side, side) normalized pixels to (n, out_channels, side / 16, side / 16); as MobileSAM by default.

    Parameters
    ----------
    widths, depths, heads, windows
        Channels, number of blocks, heads and side of the windows of each stage. The first stage is convolutions, whose
        heads and windows are left unread.
    strides
        Step from each stage to the next.
    mlp_ratio, expansion
        How much wider the hidden layers of MLPs and of inverted bottlenecks are.
    out_channels
        Channels of the embedding.
    classes
        Classes of the classifier that the encoder was first trained as. It is in every official checkpoint and is
        kept, unused, so that checkpoints go both ways; 0 for none.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (2, 4, 5, 10),
        windows: Sequence[int] = (7, 7, 14, 7),
        strides: Sequence[int] = (2, 2, 1),
        mlp_ratio: int = 4,
        expansion: int = 4,
        out_channels: int = 256,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(widths[0])
        merges = [PatchMerging(*step) for step in zip(widths[:-1], widths[1:], strides, strict=True)]
        blocks: list[list[nn.Module]] = [[MBConv(widths[0], expansion) for _ in range(depths[0])]]
        for width, depth, count, window in zip(widths[1:], depths[1:], heads[1:], windows[1:], strict=True):
            blocks.append([TinyViTBlock(width, count, window, mlp_ratio) for _ in range(depth)])
        self.layers = nn.ModuleList(map(Stage, blocks, [*merges, None]))
        if classes:
            self.norm_head = nn.LayerNorm(widths[-1])
            self.head = nn.Linear(widths[-1], classes)
        self.neck = neck(widths[-1], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_early(x)[0]

    def forward_with_early(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding and the early feature that light HQ-SAM sharpens masks with.

        Parameters
        ----------
        x
            Shape (n, 3, side, side), float, normalized pixels; the side is a multiple of 16.

        Returns
        -------
        embedding : torch.Tensor
            Shape (n, out_channels, side / 16, side / 16).
        early : torch.Tensor
            Shape (n, side / 16, side / 16, widths[2]): what the third stage is given.
        """
        x = self.patch_embed(x.contiguous(memory_format=torch.channels_last))
        early = x
        for index, stage in enumerate(self.layers):
            x = stage(x)
            if index == 1:
                early = x.permute(0, 2, 3, 1)
        embedding: Tensor = self.neck(x)
        return embedding, early
