"""Attention over a grid of tokens with decomposed relative positions (Li et al. 2022), executed three ways.

All three compute softmax(q k / sqrt(d) + by_row[row of k] + by_col[col of k]) v without an array of tokens x tokens for
all heads at once. Which is fastest depends on the processor; see docs/speed.md for what was measured.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# What one step of `in_parts` holds of the scores, for each thread: about the second-level cache of a processor core.
PART_BYTES = 2**21
MIN_ROWS = 64
# Sums along shorter rows than this cost more than longer products.
MIN_COLS = 32
# Flex attention works on blocks of this many tokens; smaller grids (windows) are left to `extended`.
FLEX_TOKENS = 1024


def attend(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_col: Tensor) -> Tensor:
    """Attend over a grid the fastest way that this device has.

    Parameters
    ----------
    q, k, v
        Shape (n, heads, rows * cols, head width).
    by_row, by_col
        Shapes (n, heads, rows * cols, rows) and (n, heads, rows * cols, cols): what a query adds to the score of every
        key of a row, and of a column.

    Returns
    -------
    torch.Tensor
        Shape (n, heads, rows * cols, head width).
    """
    if torch.compiler.is_compiling() and q.device.type == "cuda" and q.shape[2] >= FLEX_TOKENS:
        return flexible(q, k, v, by_row, by_col)
    if q.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return extended(q, k, v, by_row, by_col)
    return in_parts(q, k, v, by_row, by_col)


def in_parts(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_col: Tensor) -> Tensor:
    """Attend some queries of some heads at a time, so that their scores stay in the processor's cache; see `attend`.

    Against `extended` it does a third of the multiplications on a whole grid. Nothing here can be differentiated.
    """
    n, heads, tokens, width = q.shape
    rows, cols = by_row.shape[-1], by_col.shape[-1]
    adds = cols >= MIN_COLS
    longer_q, longer_k = (q * width**-0.5, k) if adds else _longer(q, k, by_row, by_col)
    # Copied once here; products of strided parts would copy them each time.
    queries, keys, values, row_scores, col_scores = (
        x.contiguous().flatten(0, 1) for x in (longer_q, longer_k.transpose(-1, -2), v, by_row, by_col)
    )
    out = torch.empty_like(values)
    line = tokens * q.element_size()
    step = min(tokens, max(MIN_ROWS, PART_BYTES // line))
    group = torch.get_num_threads() * max(1, PART_BYTES // (step * line))
    for start in range(0, len(out), group):
        batch = slice(start, start + group)
        for first in range(0, tokens, step):
            part = batch, slice(first, first + step)
            scores = torch.bmm(queries[part], keys[batch])
            if adds:
                on_grid = scores.view(*scores.shape[:2], rows, cols)
                on_grid += row_scores[part][..., None]
                on_grid += col_scores[part][..., None, :]
            out[part] = torch.bmm(torch.softmax(scores, -1), values[batch])
    return out.view(n, heads, tokens, width)


def extended(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_col: Tensor) -> Tensor:
    """Attend as plain attention of longer queries and keys, which any fused kernel can do; see `attend`.

    The added parts of a query meet the one-hot row and column of each key.
    """
    width = q.shape[-1]
    longer_q, longer_k = _longer(q, k, by_row, by_col)
    # Fused kernels want values as wide as the keys, in steps of 8; the zeros are cut off again.
    total = -(-longer_k.shape[-1] // 8) * 8
    longer_q, longer_k, longer_v = (F.pad(x, (0, total - x.shape[-1])) for x in (longer_q, longer_k, v))
    return F.scaled_dot_product_attention(longer_q, longer_k, longer_v, scale=1.0)[..., :width]


def flexible(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_col: Tensor) -> Tensor:
    """Attend with a kernel that adds the positions as it goes, torch's flex attention when compiled; see `attend`."""
    # Imported when it is needed: it brings the compiler.
    from torch.nn.attention.flex_attention import flex_attention

    cols = by_col.shape[-1]

    def add_position(score: Tensor, n: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + by_row[n, head, query, key // cols] + by_col[n, head, query, key % cols]

    out: Tensor = flex_attention(q.contiguous(), k.contiguous(), v.contiguous(), score_mod=add_position)
    return out


def relative(table: Tensor, size: int) -> Tensor:
    """Return the relative positions of `size` queries and keys, (size, size, width), from a table of 2 * size - 1."""
    if table.shape[0] != 2 * size - 1:
        resized = F.interpolate(table.T[None].float(), size=2 * size - 1, mode="linear")[0].T
        table = resized.to(table.dtype)
    at = torch.arange(size, device=table.device)
    return table[at[:, None] - at[None, :] + size - 1]


def _longer(q: Tensor, k: Tensor, by_row: Tensor, by_col: Tensor) -> tuple[Tensor, Tensor]:
    """Return queries and keys whose plain products are the scores with positions."""
    at = _one_hot(by_row.shape[-1], by_col.shape[-1], k).expand(*k.shape[:2], -1, -1)
    return torch.cat([q * q.shape[-1] ** -0.5, by_row, by_col], -1), torch.cat([k, at], -1)


def _one_hot(rows: int, cols: int, like: Tensor) -> Tensor:
    """Return the one-hot row and column of each token, (1, 1, rows * cols, rows + cols)."""
    row = torch.eye(rows, dtype=like.dtype, device=like.device)[:, None].expand(-1, cols, -1)
    col = torch.eye(cols, dtype=like.dtype, device=like.device)[None].expand(rows, -1, -1)
    return torch.cat([row, col], -1).flatten(0, 1)[None, None]
