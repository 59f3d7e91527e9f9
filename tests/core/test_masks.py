from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_sam.core.geometry import Box, interpolation_matrix
from napari_sam.core.masks import (
    Mask,
    iou,
    mask_from_logits,
    merge_correction,
    paste,
    stability_score,
    touches_border,
)
from napari_sam.core.tiles import Tile, TileGrid

SIDE = 32
CELLS = SIDE // 4


def blobs(seed: int, keep: float) -> np.ndarray:
    """Return smooth logits in steps of 1/4, so that interpolation at dyadic positions is exact in float32."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(CELLS, CELLS)), 0.8) * 12 - 4 + 8 * keep
    return (np.round(smooth * 4) / 4).astype(np.float32)


def brute_force(logits: np.ndarray, tile: Tile, shape: tuple[int, int]) -> np.ndarray:
    rows, cols = tile.read.pixel_shape
    cell = 4 * tile.downsample
    by_row = interpolation_matrix(CELLS, (np.arange(rows) + 0.5) / cell)
    by_col = interpolation_matrix(CELLS, (np.arange(cols) + 0.5) / cell)
    whole = np.zeros(shape, bool)
    whole[tile.read.slices] = by_row @ logits @ by_col.T > 0
    return whole


@settings(max_examples=150)
@given(
    st.integers(-2, 3),
    st.integers(0, 10**6),
    st.floats(-0.5, 1),
    st.sampled_from([(300, 280), (20, 33), (9, 300), (64, 64), (2, 5)]),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_mask_is_all_logits_upsampled_and_cut_at_zero(level, seed, keep, shape, down, across):
    grid = TileGrid(shape, SIDE)
    tile = grid.tile_at(level, down * shape[0], across * shape[1])
    logits = blobs(seed, keep)
    mask = mask_from_logits(logits, tile, 0.5)
    expected = brute_force(logits, tile, shape)
    np.testing.assert_array_equal(mask.to_array(shape), expected)
    assert mask.area == expected.sum()
    assert tile.read.contains(mask.box)
    assert mask.tile == tile
    assert mask.iou_prediction == 0.5


def test_upsampling_agrees_with_another_implementation():
    logits = blobs(3, 0.4)
    tile = TileGrid((128, 128), SIDE).tile(1, 2, 2)
    at = (np.arange(64) + 0.5) / 8 - 0.5
    expected = ndimage.map_coordinates(logits, np.meshgrid(at, at, indexing="ij"), order=1, mode="nearest")
    differing = mask_from_logits(logits, tile).to_array((128, 128))[tile.read.slices] != (expected > 0)
    assert not (differing & (np.abs(expected) > 1e-4)).any()
    assert 0 < (expected > 0).sum() < expected.size


def test_no_positive_logit_gives_an_empty_mask_that_still_knows_its_tile():
    tile = TileGrid((100, 100), SIDE).tile(0, 2, 1)
    mask = mask_from_logits(np.full((CELLS, CELLS), -0.25, np.float32), tile, 0.25)
    assert mask.area == 0
    assert mask.box.is_empty
    assert mask.tile == tile
    assert mask.low_res_logits is not None
    assert mask.stability_score == 0
    assert not mask.to_array((100, 100)).any()


def test_positive_logits_in_the_padding_alone_give_an_empty_mask():
    tile = TileGrid((10, 10), SIDE).tile(0, 0, 0)
    logits = np.full((CELLS, CELLS), -4, np.float32)
    logits[6:, 6:] = 4
    assert mask_from_logits(logits, tile).area == 0


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_tightening_changes_neither_pixels_nor_place_and_leaves_no_empty_side(seed, density):
    pixels = np.random.default_rng(seed).random((9, 11)) < density * 0.3
    mask = Mask(Box(5, 7, 14, 18), pixels, 0.5, 0.25)
    tight = mask.tightened()
    np.testing.assert_array_equal(tight.to_array((20, 20)), mask.to_array((20, 20)))
    assert (tight.iou_prediction, tight.stability_score) == (0.5, 0.25)
    if tight.area:
        edges = tight.pixels[0], tight.pixels[-1], tight.pixels[:, 0], tight.pixels[:, -1]
        assert all(edge.any() for edge in edges)
        assert tight.box.pixel_shape == tight.pixels.shape
    else:
        assert tight.box.is_empty


@given(st.integers(0, 10**6))
def test_the_stability_score_is_the_iou_of_the_looser_and_the_tighter_cut(seed):
    logits = np.random.default_rng(seed).normal(0, 2, (CELLS, CELLS)).astype(np.float32)
    assert stability_score(logits) == pytest.approx(iou(logits > 1, logits > -1))


def test_a_sharp_edge_is_stable_and_a_vague_one_is_not():
    sharp = np.full((CELLS, CELLS), -5, np.float32)
    sharp[2:6, 2:6] = 5
    assert stability_score(sharp) == 1
    assert stability_score(sharp / 10) == 0


def mask_in(tile: Tile, box: Box) -> Mask:
    return Mask(box, np.ones(box.pixel_shape, bool), tile=tile)


SHAPE = (200, 200)
MIDDLE = TileGrid(SHAPE, SIDE).tile(0, 3, 3)  # reads 48 to 80
FIRST = TileGrid(SHAPE, SIDE).tile(0, 0, 0)
LAST = TileGrid(SHAPE, SIDE).tile(0, *(n - 1 for n in TileGrid(SHAPE, SIDE).count(0)))
COARSE = TileGrid(SHAPE, SIDE).tile(2, 1, 1)  # reads 64 to 192


@pytest.mark.parametrize(
    ("tile", "box", "expected"),
    [
        (MIDDLE, Box(60, 60, 70, 70), False),
        (MIDDLE, Box(48, 60, 70, 70), True),
        (MIDDLE, Box(60, 48, 70, 70), True),
        (MIDDLE, Box(60, 60, 80, 70), True),
        (MIDDLE, Box(60, 60, 70, 80), True),
        (MIDDLE, Box(49, 49, 79, 79), False),
        (FIRST, Box(0, 0, 10, 10), False),
        (FIRST, Box(0, 0, 32, 10), True),
        (FIRST, Box(0, 0, 10, 32), True),
        (LAST, Box(180, 180, 200, 200), False),
        (LAST, Box(168, 180, 200, 200), True),
        (LAST, Box(180, 168, 200, 200), True),
        (COARSE, Box(67, 90, 100, 100), True),  # Less than one tile pixel from the border.
        (COARSE, Box(69, 90, 100, 100), False),
    ],
)
def test_a_mask_touches_the_border_of_its_tile_but_not_that_of_the_image(tile, box, expected):
    assert touches_border(mask_in(tile, box), SHAPE) is expected


def test_masks_without_a_tile_or_without_pixels_touch_nothing():
    assert not touches_border(Mask(Box(0, 0, 5, 5), np.ones((5, 5), bool)), SHAPE)
    assert not touches_border(Mask(Box(48, 48, 53, 53), np.zeros((5, 5), bool), tile=MIDDLE), SHAPE)


@given(st.integers(0, 10**6))
def test_pasting_what_was_cropped_is_the_identity(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (20, 25)).astype(np.uint16)
    box = Box(3, 4, 15, 21)
    blank = np.where(labels == 2, 0, labels)
    region = blank[box.slices]
    paste(region, Mask(box, labels[box.slices] == 2), 2)
    np.testing.assert_array_equal(region, labels[box.slices])
    outside = np.ones(labels.shape, bool)
    outside[box.slices] = False
    assert (blank[outside] != 2).all()


def test_keeping_writes_free_pixels_only_and_overwriting_all_of_them():
    before = np.array([[0, 1, 2], [0, 0, 3]])
    mask = Mask(Box(0, 0, 2, 3), np.array([[True, True, False], [False, True, True]]))
    kept, taken = before.copy(), before.copy()
    written = paste(kept, mask, 9, "keep")
    np.testing.assert_array_equal(kept, [[9, 1, 2], [0, 9, 3]])
    np.testing.assert_array_equal(written, [[True, False, False], [False, True, False]])
    written = paste(taken, mask, 9, "overwrite")
    np.testing.assert_array_equal(taken, [[9, 9, 2], [0, 9, 9]])
    np.testing.assert_array_equal(written, mask.pixels)


def test_pasting_does_not_change_the_mask():
    mask = Mask(Box(0, 0, 2, 2), np.ones((2, 2), bool))
    paste(np.ones((2, 2), int), mask, 5, "keep")
    assert mask.area == 4


def test_iou_of_overlapping_disjoint_and_empty_masks():
    a, b, none = np.zeros((3, 4, 4), bool)
    a[:2], b[1:3] = True, True
    assert iou(a, b) == pytest.approx(1 / 3)
    assert iou(a, ~a) == 0
    assert iou(a, none) == 0
    assert iou(none, none) == 1


def mask_of(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (40, 60)) -> Mask:
    """Return a mask of rectangles (top, left, bottom, right)."""
    pixels = np.zeros(shape, bool)
    for top, left, bottom, right in boxes:
        pixels[top:bottom, left:right] = True
    return Mask(Box.of_shape(shape), pixels).tightened()


CANVAS = (40, 60)
OBJECT = (5, 5, 25, 25)


@pytest.mark.parametrize(
    ("answer", "points", "expected"),
    [
        pytest.param([OBJECT, (10, 25, 20, 35), (30, 5, 36, 20)], [(15, 30)], [OBJECT, (10, 25, 20, 35)], id="added"),
        pytest.param([(5, 5, 25, 15)], [(15, 22)], [(5, 5, 25, 15)], id="removed"),
        pytest.param([OBJECT, (30, 5, 36, 20)], [(10, 10)], [OBJECT, (30, 5, 36, 20)], id="no difference there"),
        pytest.param([(10, 40, 30, 58)], [(15, 50)], [(10, 40, 30, 58)], id="all was wrong"),
    ],
)
def test_a_correction_changes_only_the_connected_region_around_its_point(answer, points, expected):
    before = mask_of(OBJECT)
    after = mask_of(*answer)
    at = np.array(points, float)
    merged = merge_correction(before, after, at, after.to_array(CANVAS)[tuple(at.astype(int).T)])
    np.testing.assert_array_equal(merged.to_array(CANVAS), mask_of(*expected).to_array(CANVAS))


def test_a_correction_also_changes_where_an_earlier_point_contradicts_the_mask():
    before, after = mask_of(OBJECT), mask_of(OBJECT, (10, 25, 20, 35), (30, 5, 36, 20), (28, 40, 38, 45))
    points, labels = np.array([(33.0, 10.0), (12.0, 12.0), (15.0, 30.0)]), np.array([True, True, True])
    merged = merge_correction(before, after, points, labels)
    expected = mask_of(OBJECT, (10, 25, 20, 35), (30, 5, 36, 20))
    np.testing.assert_array_equal(merged.to_array(CANVAS), expected.to_array(CANVAS))


def test_a_correction_of_an_empty_mask_or_to_an_empty_one_is_the_answer():
    empty, some = mask_of(), mask_of(OBJECT)
    at, labels = np.array([(6.0, 6.0)]), np.array([False])
    assert merge_correction(empty, some, at, ~labels) is some
    assert merge_correction(some, empty, at, labels) is empty
