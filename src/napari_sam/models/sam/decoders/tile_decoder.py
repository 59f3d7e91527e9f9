"""SAM's mask decoder for one object on one tile: the same mathematics as `MaskDecoder`, a fraction of its work.

A tile is prompted many times and an object has few tokens, while the image has thousands of cells. So nothing is
projected for every cell: the projections of keys, queries, values and outputs are taken over to the tokens' side of
each product, what depends on the tile alone is kept, and transposed convolutions are matrix products on cells in any
order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.sam.hq import MaskDecoderHQ
from napari_sam.models.sam.layers import LayerNorm2d
from napari_sam.models.sam.mask_decoder import MaskDecoder
from napari_sam.models.sam.transformer import Attention, TwoWayAttentionBlock

CELLS_AT_ONCE = 512


@dataclass(frozen=True, slots=True, eq=False)
class ImageSide:
    """What every prompt on a tile shares.

    Parameters
    ----------
    image
        Shape (cells, width): the image embedding, nothing added.
    unmasked
        The same with the dense embedding of no mask added.
    placed
        `unmasked` with the positions added.
    first
        Projections of these by the first layer.
    hq_features
        Shape (1, width / 8, 4 * grid, 4 * grid), or None for a SAM without them.
    """

    image: Tensor
    unmasked: Tensor
    placed: Tensor
    first: FirstLayer
    hq_features: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class FirstLayer:
    """The first layer's projections of cells that no mask prompt has touched, by head.

    Parameters
    ----------
    keys, values
        Shapes (heads, inner, cells) and (heads, cells, inner): for tokens that look at cells.
    queries
        Shape (heads, inner, cells): for cells that look at tokens.
    """

    keys: Tensor
    values: Tensor
    queries: Tensor


class TileDecoder:
    """Decodes the prompts of one object; without gradients.

    Parameters
    ----------
    decoder
        The trained mask decoder, on its device.
    position
        Shape (1, width, grid, grid): positions of the image embedding's cells.
    no_mask
        Shape (1, width): the dense embedding where no mask is given.
    dtype
        Number format of the computation.
    """

    def __init__(self, decoder: MaskDecoder, position: Tensor, no_mask: Tensor, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._decoder = decoder.to(dtype)
        self._position = cells_of(position).to(dtype)
        self._no_mask = no_mask.to(dtype)
        self._grid = position.shape[-1]
        first, norm, _, second, _ = decoder.output_upscaling
        assert isinstance(norm, LayerNorm2d)
        self._norm = norm
        self._enlarge = [as_matrix(layer) for layer in (first, second)]

    def prepare(self, image: Tensor, hq_features: Tensor | None = None) -> ImageSide:
        """Return what every prompt on a tile shares, from its embedding of shape (1, width, grid, grid)."""
        cells = cells_of(image).to(self.dtype)
        unmasked = cells + self._no_mask
        placed = unmasked + self._position
        hq = None if hq_features is None else hq_features.to(self.dtype)
        return ImageSide(cells, unmasked, placed, self._first_layer(unmasked, placed), hq)

    def _first_layer(self, cells: Tensor, placed: Tensor) -> FirstLayer:
        layer = self._decoder.transformer.layers[0]
        assert isinstance(layer, TwoWayAttentionBlock)
        to_cells, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token

        def by_head(projected: Tensor, heads: int) -> Tensor:
            return projected.view(len(projected), heads, -1).permute(1, 2, 0).contiguous()

        return FirstLayer(
            by_head(to_cells.k_proj(placed), to_cells.heads),
            by_head(to_cells.v_proj(cells), to_cells.heads).transpose(1, 2).contiguous(),
            by_head(to_tokens.q_proj(placed), to_tokens.heads),
        )

    def decode(self, side: ImageSide, sparse: Tensor, dense: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decode one object.

        Parameters
        ----------
        side
            The tile's.
        sparse
            Shape (1, tokens, width): points and box.
        dense
            Shape (1, width, grid, grid), the mask's embedding; None where no mask is given.

        Returns
        -------
        logits : torch.Tensor
            Shape (1 + multimask, 4 * grid, 4 * grid), float32; see `MaskDecoder`.
        iou_prediction : torch.Tensor
            Shape (1 + multimask,), float32.
        hq_logits : torch.Tensor or None
            Shape (4 * grid, 4 * grid), float32; see `MaskDecoderHQ`.
        """
        decoder = self._decoder
        outputs = [decoder.iou_token.weight, decoder.mask_tokens.weight]
        if isinstance(decoder, MaskDecoderHQ):
            outputs.append(decoder.hf_token.weight)
        masks = len(decoder.mask_tokens.weight)
        start = torch.cat([*outputs, sparse[0].to(self.dtype)])
        if dense is None:
            tokens, cells = self._transform(start, side.unmasked, side.placed, side.first)
        else:
            masked = side.image + cells_of(dense).to(self.dtype)
            tokens, cells = self._transform(start, masked, masked + self._position)
        heads = zip(decoder.output_hypernetworks_mlps, tokens[1:], strict=False)
        weights = torch.stack([mlp(token) for mlp, token in heads]).T
        iou_prediction = decoder.iou_prediction_head(tokens[0]).float()
        # In parts that stay in the processor's cache, each from its cells to its logits.
        step = CELLS_AT_ONCE if cells.device.type == "cpu" else len(cells)
        parts = (self._upscale(cells[first : first + step]) for first in range(0, len(cells), step))
        if not isinstance(decoder, MaskDecoderHQ) or side.hq_features is None:
            return on_grid(torch.cat([part @ weights for part in parts]), self._grid).float(), iou_prediction, None
        up = torch.cat(list(parts))
        weight = decoder.hf_mlp(tokens[1 + masks])[None]
        hq_logits = decoder.hq_logits(on_grid(up, self._grid)[None], side.hq_features, weight)
        return on_grid(up @ weights, self._grid).float(), iou_prediction, hq_logits[0].float()

    def _transform(
        self, tokens: Tensor, cells: Tensor, placed: Tensor, first: FirstLayer | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mix tokens, (tokens, width), and cells, (cells, width), as `TwoWayTransformer` does."""
        transformer = self._decoder.transformer
        token_pe = tokens
        for index, layer in enumerate(transformer.layers):
            assert isinstance(layer, TwoWayAttentionBlock)
            if index:
                placed = cells + self._position
            tokens = _self_attend(layer, tokens, token_pe)
            known = None if index else first
            looked = _tokens_to_cells(layer.cross_attn_token_to_image, tokens + token_pe, placed, cells, known)
            tokens = layer.norm2(tokens + looked)
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            cells = layer.norm4(
                _cells_to_tokens(layer.cross_attn_image_to_token, placed, tokens + token_pe, tokens, cells, known)
            )
        looked = _tokens_to_cells(
            transformer.final_attn_token_to_image, tokens + token_pe, cells + self._position, cells
        )
        return transformer.norm_final_attn(tokens + looked), cells

    def _upscale(self, cells: Tensor) -> Tensor:
        """Return (16 * cells, width / 8), each cell's 4 x 4 parts together; `on_grid` puts them in place."""
        (first, first_bias), (second, second_bias) = self._enlarge
        up = torch.addmm(first_bias, cells, first).view(len(cells) * 4, -1)
        norm = self._norm
        up = F.gelu(F.layer_norm(up, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        return F.gelu(torch.addmm(second_bias, up, second)).view(len(cells) * 16, -1)


def on_grid(up: Tensor, grid: int) -> Tensor:
    """Put (16 * cells, channels), each cell's 4 x 4 parts together, in place: (channels, 4 * grid, 4 * grid)."""
    parts = up.view(grid, grid, 2, 2, 2, 2, -1)  # row, col, its half, its quarter
    return parts.permute(6, 0, 2, 4, 1, 3, 5).reshape(-1, 4 * grid, 4 * grid)


def cells_of(image: Tensor) -> Tensor:
    """Turn (1, width, grid, grid) into (cells, width)."""
    return image[0].flatten(1).T.contiguous()


def as_matrix(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return a transposed convolution of 2 x 2, stride 2, as a matrix, (inputs, 4 * outputs), and its bias."""
    assert isinstance(layer, nn.ConvTranspose2d)
    assert layer.bias is not None
    return layer.weight.permute(0, 2, 3, 1).flatten(1).contiguous(), layer.bias.repeat(4)


def _self_attend(layer: TwoWayAttentionBlock, tokens: Tensor, token_pe: Tensor) -> Tensor:
    if layer.first:  # The first block's tokens are their own positions.
        mixed = layer.self_attn(tokens[None], tokens[None], tokens[None])[0]
    else:
        placed = (tokens + token_pe)[None]
        mixed = tokens + layer.self_attn(placed, placed, tokens[None])[0]
    out: Tensor = layer.norm1(mixed)
    return out


def heads_of(layer: nn.Linear, heads: int) -> Tensor:
    """Return a projection's weights by head, (heads, inner, width)."""
    return layer.weight.view(heads, -1, layer.weight.shape[-1])


def _tokens_to_cells(
    attention: Attention, queries: Tensor, placed: Tensor, cells: Tensor, first: FirstLayer | None = None
) -> Tensor:
    """Return what tokens find when they look at cells, (tokens, width).

    A query meets the projected key of every cell: q . (W x + b) = (q W) . x, up to a part that is the same for all
    cells, which the softmax forgets. Projected values are summed after the cells are: sum p (W x + b) = W sum p x + b.
    """
    heads, count = attention.heads, len(queries)
    q = attention.q_proj(queries).view(count, heads, -1).transpose(0, 1)
    scale = q.shape[-1] ** -0.5
    if first is not None:
        found = torch.bmm(torch.softmax(torch.bmm(q * scale, first.keys), -1), first.values)
        known: Tensor = attention.out_proj(found.transpose(0, 1).flatten(1))
        return known
    asked = (torch.bmm(q, heads_of(attention.k_proj, heads)) * scale).flatten(0, 1)
    found = torch.softmax(asked @ placed.T, -1) @ cells
    values = torch.bmm(found.view(heads, count, -1), heads_of(attention.v_proj, heads).transpose(1, 2))
    assert attention.v_proj.bias is not None
    mixed: Tensor = attention.out_proj(values.transpose(0, 1).flatten(1) + attention.v_proj.bias)
    return mixed


def _cells_to_tokens(
    attention: Attention,
    placed: Tensor,
    keys: Tensor,
    values: Tensor,
    cells: Tensor,
    first: FirstLayer | None = None,
) -> Tensor:
    """Return the cells with what they find among the tokens added, (cells, width)."""
    heads, count = attention.heads, len(keys)
    k = attention.k_proj(keys).view(count, heads, -1).transpose(0, 1) * (attention.k_proj.out_features / heads) ** -0.5
    v = attention.v_proj(values).view(count, heads, -1).transpose(0, 1)
    if first is not None:
        scores = torch.bmm(k, first.queries)
    else:
        assert attention.q_proj.bias is not None
        asked = torch.bmm(k, heads_of(attention.q_proj, heads)).flatten(0, 1)
        shift = torch.bmm(k, attention.q_proj.bias.view(heads, -1, 1)).view(-1, 1)
        scores = torch.addmm(shift, asked, placed.T).view(heads, count, -1)
    # The shares of a head's tokens add up to one, so each head's output may carry its part of the bias.
    out = attention.out_proj.weight.view(-1, heads, v.shape[-1]).permute(1, 2, 0)
    brought = torch.bmm(v, out) + attention.out_proj.bias / heads
    return torch.addmm(cells, torch.softmax(scores, 1).flatten(0, 1).T, brought.flatten(0, 1))
