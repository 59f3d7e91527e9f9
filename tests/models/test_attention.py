"""One attention, three executions: all are the plain softmax with a bias for every pair of tokens."""

from __future__ import annotations

import pytest
import torch

from napari_sam.models.sam import attention


def plain(q, k, v, by_row, by_col):
    bias = (by_row[..., None] + by_col[..., None, :]).flatten(-2)
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias, -1) @ v


def inputs(n, heads, rows, cols, width=16):
    random = torch.Generator().manual_seed(rows + cols)
    shapes = [(n, heads, rows * cols, last) for last in (width, width, width, rows, cols)]
    return [torch.randn(shape, generator=random) for shape in shapes]


@pytest.mark.parametrize("execution", [attention.in_parts, attention.extended, attention.flexible])
@pytest.mark.parametrize("shape", [(1, 2, 64, 64), (5, 3, 14, 14), (2, 1, 7, 40), (1, 4, 40, 3)])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_every_execution_is_the_plain_one(execution, shape):
    given = inputs(*shape)
    with torch.inference_mode():
        expected = plain(*given)
        assert (execution(*given) - expected).abs().max() < 1e-5 * expected.abs().max() * 10


@pytest.mark.parametrize("part", [2**9, 2**14, 2**40])
def test_the_size_of_the_parts_does_not_change_the_answer(part, monkeypatch):
    given = inputs(3, 2, 36, 33)
    with torch.inference_mode():
        expected = plain(*given)
        monkeypatch.setattr(attention, "PART_BYTES", part)
        torch.testing.assert_close(attention.in_parts(*given), expected, atol=1e-5, rtol=1e-4)


def test_gradients_take_the_way_that_has_them():
    given = [x.requires_grad_() for x in inputs(1, 2, 33, 33)]
    attention.attend(*given).square().sum().backward()
    own = [x.grad for x in given]
    for x in given:
        x.grad = None
    plain(*given).square().sum().backward()
    for ours, x in zip(own, given, strict=True):
        torch.testing.assert_close(ours, x.grad, atol=1e-3, rtol=1e-3)


def test_relative_positions_of_another_length_are_interpolated():
    table = torch.arange(27, dtype=torch.float32)[:, None]
    assert attention.relative(table, 14)[0, 0] == 13
    assert attention.relative(table, 14)[13, 0] == 26
    longer = attention.relative(table, 28)
    assert longer.shape == (28, 28, 1)
    assert longer.min() == 0
    assert longer.max() == 26
