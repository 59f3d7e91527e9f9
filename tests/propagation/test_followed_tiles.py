"""Tiles of followed objects: how small ones share them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.core.geometry import Box
from napari_sam.core.tiles import TileGrid
from napari_sam.propagation.followed_tiles import FEW, MARGIN, shared_tiles

SIDE, RANGE, FRACTION = 512, (0.1, 0.75), 1 / 3
SHAPE = (512, 512)


def own_tile(grid, box):
    return grid.tile_at(grid.level_for(grid.extent(box), FRACTION), *box.center)


def squares(count, size, seed=0):
    """Return boxes of objects that do not touch, by label."""
    rng = np.random.default_rng(seed)
    to_a_side = int(np.ceil(np.sqrt(count)))
    step = SHAPE[0] / to_a_side
    boxes = {}
    for label in range(1, count + 1):
        top, left = np.array(divmod(label - 1, to_a_side)) * step + rng.uniform(0, step - size, 2)
        boxes[label] = Box(int(top), int(left), int(top) + size, int(left) + size)
    return boxes


def shared(boxes):
    grid = TileGrid(SHAPE, SIDE)
    own = {label: own_tile(grid, box) for label, box in boxes.items()}
    return own, shared_tiles(grid, own, boxes, RANGE)


@pytest.mark.parametrize(("size", "share"), [(6, 0.65), (10, 0.65), (16, 0.25), (25, 0.3)])
def test_two_hundred_small_objects_share_tiles(size, share):
    own, tiles = shared(squares(200, size))
    assert len(set(own.values())) > 120
    assert len(set(tiles.values())) <= share * len(set(own.values()))


@pytest.mark.parametrize("size", [4, 10, 25, 60, 150])
def test_every_object_lies_inside_its_tile_and_is_not_too_small_in_it(size):
    boxes = squares(36 if size < 80 else 9, size)
    own, tiles = shared(boxes)
    assert tiles.keys() == boxes.keys()
    grid = TileGrid(SHAPE, SIDE)
    for label, box in boxes.items():
        tile = tiles[label]
        if tile == own[label]:
            continue
        space = MARGIN * size
        wider = Box(box.top - space, box.left - space, box.bottom + space, box.right + space)
        assert tile.read.contains(wider.intersection(Box.of_shape(SHAPE)))
        assert grid.extent(box) / grid.span(tile.level) < RANGE[1]
        assert tile.level == own[label].level or grid.extent(box) / grid.span(tile.level) > RANGE[0]


def test_a_few_objects_keep_the_tiles_that_suit_them_best():
    for size in (4, 10, 25, 60, 120):
        own, tiles = shared(squares(FEW, size))
        assert tiles == own


def test_a_large_object_shares_no_tile_with_small_ones_around_it():
    boxes = squares(100, 10) | {999: Box(100, 100, 400, 400)}
    own, tiles = shared(boxes)
    assert tiles[999] == own[999]
    assert all(tiles[label] != tiles[999] for label in range(1, 101))


def test_tiles_do_not_depend_on_the_order_of_the_objects():
    boxes = squares(50, 10)
    backwards = dict(reversed(boxes.items()))
    assert shared(boxes)[1] == shared(backwards)[1]
