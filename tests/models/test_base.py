"""The half of a predictor that all networks share, and prompts as tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam.core.geometry import Box
from napari_sam.core.prompts import TilePrompts
from napari_sam.models.base import pack, split_tiles, strided_shapes, unpack
from napari_sam.models.prompt_tokens import BOTTOM_RIGHT, NEGATIVE, POSITIVE, TOP_LEFT, prompt_tokens

PADDING = -1
POINTS = np.array([[10, 20], [30, 40]], np.float32)
LABELS = np.array([True, False])


def test_the_embedding_of_a_tile_owns_its_memory_so_that_it_does_not_keep_its_batch() -> None:
    features = [torch.rand(4, 3, 2, 2), torch.rand(4, 5, 1, 1)]
    tiles = split_tiles(features, 4)
    for number, tensors in enumerate(tiles):
        for tensor, feature in zip(tensors, features, strict=True):
            assert torch.equal(tensor, feature[number : number + 1].half().float())
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_packed_features_come_back_in_their_shapes_and_what_half_precision_cannot_hold_is_clamped() -> None:
    shapes = strided_shapes(((2, 16), (1, 8)), 32)
    assert shapes == [(1, 2, 2, 2), (1, 1, 4, 4)]
    (tensors,) = split_tiles([torch.full(shape, 1e6) for shape in shapes], 1)
    values = pack(tensors)
    assert values.shape == (24,)
    again = unpack(values, shapes, torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(tensors, again, strict=True))
    assert again[0].max() == 65504


@pytest.mark.parametrize(
    ("box", "box_first", "padding", "expected"),
    [
        (None, True, PADDING, [PADDING, POSITIVE, NEGATIVE]),
        (None, False, PADDING, [POSITIVE, NEGATIVE, PADDING]),
        (None, True, None, [POSITIVE, NEGATIVE]),
        (Box(1, 2, 30, 40), True, PADDING, [TOP_LEFT, BOTTOM_RIGHT, POSITIVE, NEGATIVE]),
        (Box(1, 2, 30, 40), False, None, [POSITIVE, NEGATIVE, TOP_LEFT, BOTTOM_RIGHT]),
    ],
)
def test_tokens_are_xy_in_the_order_of_the_network_and_padding_takes_the_place_of_a_box(
    box: Box | None, box_first: bool, padding: int | None, expected: list[int]
) -> None:
    coords, types = prompt_tokens(TilePrompts(POINTS, LABELS, box), box_first=box_first, padding=padding)
    assert types.tolist() == expected
    assert (coords.dtype, types.dtype) == (np.float32, np.int64)
    by_type = dict(zip(types.tolist(), coords.tolist(), strict=True))
    assert (by_type[POSITIVE], by_type[NEGATIVE]) == ([20, 10], [40, 30])
    if box is not None:
        assert (by_type[TOP_LEFT], by_type[BOTTOM_RIGHT]) == ([2, 1], [40, 30])
