"""SAM's mask decoder for many lone points on one tile, of which only those that promise a good mask are finished.

What the transformer does to a cell of the image is a change of low rank: to the embedding of the tile, which all points
share, it adds a weighted sum of a few vectors of the point's tokens, and normalizes. So the products of the embedding
with the weights that follow are computed once for each tile, and for each point only those of the few vectors. The
predicted IoU is known before any mask is, and the mask itself costs as much again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models.sam.decoders.tile_decoder import as_matrix, cells_of, heads_of, on_grid
from napari_sam.models.sam.layers import LayerNorm2d
from napari_sam.models.sam.mask_decoder import MaskDecoder
from napari_sam.models.sam.transformer import TwoWayAttentionBlock

# Cells that are upscaled in one go on a processor: the parts stay in its cache.
CELLS_AT_ONCE = 1024
# Points that are mixed with the image in one go. On a processor more of them drive each other out of the cache.
POINTS_AT_ONCE = {"cpu": 1}
MOST_POINTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True, eq=False)
class PointSide:
    """What all points on a tile share.

    Parameters
    ----------
    cells
        Shape (cells, width): the image embedding with the dense embedding of no mask.
    keys, values, queries
        Shapes (heads, inner, cells), (heads, cells, inner) and (heads, inner, cells): projections of the first layer.
    second
        Shape (cells, 3 * inner): the same cells through the second layer's keys, values and queries.
    upscaled
        Shape (cells, 4 * width / 4): the same cells through the first transposed convolution.
    """

    cells: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor
    second: Tensor
    upscaled: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What a layer of the transformer does to the cells of the image.

    Parameters
    ----------
    shares, vectors
        Shapes (n, rank, cells) and (n, rank, width): what is added, as a product.
    mean, scale
        Shape (n, 1, cells): what the normalization took away and multiplied with.
    """

    shares: Tensor
    vectors: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def of(
        cls, layer: TwoWayAttentionBlock, tokens: Tensor, start: Tensor, queries: Tensor, cells: Tensor
    ) -> tuple[Change, Tensor]:
        """Return what cells find among tokens, and the cells after it.

        Parameters
        ----------
        layer
            The layer.
        tokens, start
            Shape (n, tokens, width): the tokens, and their positions.
        queries
            Shape (..., heads, inner, cells): the projected cells.
        cells
            Shape (n, cells, width).
        """
        attention, norm = layer.cross_attn_image_to_token, layer.norm4
        n, count, heads = len(tokens), tokens.shape[1], attention.heads
        keys, values = (
            projected.view(n, count, heads, -1).transpose(1, 2)
            for projected in (attention.k_proj(tokens + start), attention.v_proj(tokens))
        )
        shares = torch.softmax((keys * keys.shape[-1] ** -0.5) @ queries, 2).flatten(1, 2)
        # The shares of a head's tokens add up to one, so each head's output may carry its part of the bias.
        out = attention.out_proj.weight.view(-1, heads, values.shape[-1]).permute(1, 2, 0)
        vectors = (values @ out).flatten(1, 2) + attention.out_proj.bias / heads
        added = torch.baddbmm(cells, shares.mT, vectors)
        after, mean, scale = torch.native_layer_norm(added, norm.weight.shape, norm.weight, norm.bias, norm.eps)
        return cls(shares, vectors, mean.mT, scale.mT), after

    def of_point(self, i: int) -> Change:
        """Return the part of one point."""
        shares, vectors, mean, scale = (part[i : i + 1] for part in (self.shares, self.vectors, self.mean, self.scale))
        return Change(shares, vectors, mean, scale)


class PointDecoder:
    """Decodes lone points, in float32 and without gradients; three masks for each, as `MaskDecoder` does.

    Parameters
    ----------
    decoder
        The trained mask decoder, on its device, in float32.
    position
        Shape (1, width, grid, grid): positions of the image embedding's cells.
    no_mask
        Shape (1, width): the dense embedding where no mask is given.
    """

    def __init__(self, decoder: MaskDecoder, position: Tensor, no_mask: Tensor) -> None:
        self._decoder, self._no_mask = decoder, no_mask
        self._layers = [layer for layer in decoder.transformer.layers if isinstance(layer, TwoWayAttentionBlock)]
        assert len(self._layers) == 2
        self._position = cells_of(position)
        self._grid = position.shape[-1]
        enlarging, norm, _, second, _ = decoder.output_upscaling
        assert isinstance(norm, LayerNorm2d)
        self._norm, self._enlarge = norm, as_matrix(second)
        self._second, self._second_constant = self._second_projections()
        matrix, bias = as_matrix(enlarging)
        after = self._layers[1].norm4
        self._first_enlarge = after.weight[:, None] * matrix
        before = self._layers[0].norm4
        self._both_norms = before.weight[:, None] * self._first_enlarge
        sums = [self._both_norms.sum(0), self._first_enlarge.sum(0), before.bias @ self._first_enlarge]
        self._constants = torch.stack([*sums, after.bias @ matrix + bias])
        last = decoder.transformer.final_attn_token_to_image
        # Without the bias, which adds the same to all cells: the softmax forgets it.
        placed = (self._position @ last.k_proj.weight.T).view(len(self._position), last.heads, -1)
        self._last_keys = placed.permute(1, 2, 0).contiguous()

    def _second_projections(self) -> tuple[Tensor, Tensor]:
        """Return the second layer's keys, values and queries as one matrix of a normalized cell, and what they add."""
        norm = self._layers[0].norm4
        to_cells, to_tokens = self._layers[1].cross_attn_token_to_image, self._layers[1].cross_attn_image_to_token
        parts = (to_cells.k_proj, True), (to_cells.v_proj, False), (to_tokens.q_proj, True)
        constant = [layer(norm.bias + self._position if placed else norm.bias[None]) for layer, placed in parts]
        matrix = torch.cat([layer.weight.T for layer, _ in parts], 1)
        return norm.weight[:, None] * matrix, torch.cat([part.expand(len(self._position), -1) for part in constant], 1)

    def prepare(self, image: Tensor) -> PointSide:
        """Return what all points on a tile share, from its embedding of shape (1, width, grid, grid)."""
        cells = cells_of(image) + self._no_mask
        placed = cells + self._position
        first = self._layers[0]
        to_cells, to_tokens = first.cross_attn_token_to_image, first.cross_attn_image_to_token

        def by_head(projected: Tensor) -> Tensor:
            return projected.view(len(projected), to_cells.heads, -1).permute(1, 2, 0).contiguous()

        return PointSide(
            cells,
            by_head(to_cells.k_proj(placed)),
            by_head(to_cells.v_proj(cells)).transpose(1, 2).contiguous(),
            by_head(to_tokens.q_proj(placed)),
            cells @ self._second,
            cells @ self._both_norms,
        )

    def decode(self, side: PointSide, sparse: Tensor, least: float) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Decode points; yields those of which a mask's predicted IoU is at least `least`.

        Parameters
        ----------
        side
            The tile's.
        sparse
            Shape (n, tokens, width): the encoded points.
        least
            Lowest predicted IoU.

        Yields
        ------
        index : int
            Number of the point.
        logits : torch.Tensor
            Shape (masks, 4 * grid, 4 * grid), float32: the masks that pass.
        iou_prediction : torch.Tensor
            Shape (masks,), 0 to 1.
        """
        decoder = self._decoder
        heads = list(decoder.output_hypernetworks_mlps)[1:]
        step = POINTS_AT_ONCE.get(side.cells.device.type, MOST_POINTS_AT_ONCE)
        for start in range(0, len(sparse), step):
            tokens, *changes = self._mixed(side, sparse[start : start + step])
            scores = decoder.iou_prediction_head(tokens[:, 0])[:, 1:].clamp(0, 1)
            for i in torch.nonzero((scores >= least).any(1))[:, 0].tolist():
                passes = torch.nonzero(scores[i] >= least)[:, 0].tolist()
                weights = torch.stack([heads[mask](tokens[i, 1 + mask]) for mask in passes], -1)
                one, two = (change.of_point(i) for change in changes)
                yield start + i, self._logits(side, one, two, weights), scores[i, passes]

    def _mixed(self, side: PointSide, sparse: Tensor) -> tuple[Tensor, Change, Change]:
        """Return the tokens of the predicted IoU and the masks of points, and what the layers do to the cells."""
        decoder, (first, second) = self._decoder, self._layers
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        start = torch.cat([outputs[None].expand(len(sparse), -1, -1), sparse], 1)
        # The first layer's tokens are their own positions.
        tokens = first.norm1(first.self_attn(start, start, start))
        tokens = _looked(first, tokens, start, side.keys, side.values)
        one, cells = Change.of(first, tokens, start, side.queries, side.cells.expand(len(sparse), -1, -1))
        keys, values, queries = self._second_projections_of(side, one)
        placed = tokens + start
        tokens = second.norm1(tokens + second.self_attn(placed, placed, tokens))
        tokens = _looked(second, tokens, start, keys, values)
        two, cells = Change.of(second, tokens, start, queries, cells)
        return self._looked_last(tokens, start, cells), one, two

    def _second_projections_of(self, side: PointSide, change: Change) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys and queries of changed cells, (n, heads, inner, cells), and values, (n, heads, cells, inner)."""
        n = len(change.scale)
        shares = change.scale * torch.cat([change.shares, -change.mean], 1)
        vectors = torch.cat([change.vectors @ self._second, self._second.sum(0).expand(n, 1, -1)], 1)
        # The part that all points share, scaled; the constant; and then what this point adds.
        projected = torch.addcmul(self._second_constant, change.scale.mT, side.second)
        projected = torch.baddbmm(projected, shares.mT, vectors)
        heads = self._layers[1].cross_attn_token_to_image.heads
        keys, values, queries = projected.view(n, len(side.cells), 3, heads, -1).permute(2, 0, 3, 4, 1)
        return keys, values.mT, queries

    def _looked_last(self, tokens: Tensor, start: Tensor, cells: Tensor) -> Tensor:
        """Return the tokens of the predicted IoU and of the three masks after their last look at cells."""
        transformer = self._decoder.transformer
        attention = transformer.final_attn_token_to_image
        # The token between is that of the mask for a clear prompt.
        asking = [0, *range(2, 1 + len(self._decoder.output_hypernetworks_mlps))]
        tokens, start = tokens[:, asking], start[:, asking]
        n, count, heads = len(tokens), len(asking), attention.heads
        queries = attention.q_proj(tokens + start).view(n, count, heads, -1).transpose(1, 2)
        queries = queries * queries.shape[-1] ** -0.5
        # q . W x = (q W) . x; the products with the positions of the cells are known.
        asked = (queries @ heads_of(attention.k_proj, heads)).flatten(1, 2)
        scores = torch.baddbmm((queries @ self._last_keys).flatten(1, 2), asked, cells.mT)
        found = (torch.softmax(scores, -1) @ cells).view(n, heads, count, -1)
        assert attention.v_proj.bias is not None
        values = (found @ heads_of(attention.v_proj, heads).mT).transpose(1, 2).flatten(2) + attention.v_proj.bias
        last: Tensor = transformer.norm_final_attn(tokens + attention.out_proj(values))
        return last

    def _logits(self, side: PointSide, one: Change, two: Change, weights: Tensor) -> Tensor:
        """Return the logits of masks of one point, (masks, 4 * grid, 4 * grid).

        Parameters
        ----------
        side
            The tile's.
        one, two
            What the layers did to the cells; of one point.
        weights
            Shape (width / 8, masks): what each mask takes from the upscaled cells.
        """
        scale, last = (one.scale * two.scale)[0], two.scale[0]
        ones = torch.ones_like(last)
        shares = torch.cat(
            [scale * one.shares[0], last * two.shares[0], -scale * one.mean[0], -last * two.mean[0], last, ones]
        )
        vectors = torch.cat([one.vectors[0] @ self._both_norms, two.vectors[0] @ self._first_enlarge, self._constants])
        norm, (second, bias) = self._norm, self._enlarge
        step = CELLS_AT_ONCE if weights.device.type == "cpu" else len(side.cells)
        parts = []
        for first in range(0, len(side.cells), step):
            part = slice(first, first + step)
            up = torch.addmm(scale[0, part, None] * side.upscaled[part], shares[:, part].T, vectors)
            up = up.view(len(up) * 4, -1)
            up = F.gelu(F.layer_norm(up, norm.weight.shape, norm.weight, norm.bias, norm.eps))
            up = F.gelu(torch.addmm(bias, up, second)).view(len(up) * 4, -1)
            parts.append(up @ weights)
        return on_grid(torch.cat(parts), self._grid)


def _looked(layer: TwoWayAttentionBlock, tokens: Tensor, start: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return tokens after their look at cells and the MLP; keys are (..., heads, inner, cells)."""
    attention = layer.cross_attn_token_to_image
    n, count, heads = len(tokens), tokens.shape[1], attention.heads
    queries = attention.q_proj(tokens + start).view(n, count, heads, -1).transpose(1, 2)
    found = torch.softmax((queries * queries.shape[-1] ** -0.5) @ keys, -1) @ values
    tokens = layer.norm2(tokens + attention.out_proj(found.transpose(1, 2).flatten(2)))
    mixed: Tensor = layer.norm3(tokens + layer.mlp(tokens))
    return mixed
