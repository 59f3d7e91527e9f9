from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.geometry import Box
from napari_sam.core.rendering import Rendering, area_average, percentile_limits, render_tile
from napari_sam.core.tiles import Tile, TileGrid

AS_IT_IS = Rendering(((0.0, 255.0),))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def rendered(pixels: np.ndarray, tile: Tile, rendering: Rendering = AS_IT_IS) -> np.ndarray:
    return render_tile(pixels[tile.read.slices], tile, rendering)


def test_percentile_limits_leave_out_half_a_percent_at_each_end():
    sample = np.arange(1001.0)
    np.random.default_rng(0).shuffle(sample)
    assert percentile_limits(sample.reshape(7, 11, 13)) == pytest.approx((5, 995))


def test_one_hot_pixel_does_not_darken_the_image():
    sample = np.tile(np.arange(100, 200, dtype=np.uint16), 100)
    sample[17] = 65535
    low, high = percentile_limits(sample)
    assert low == 100
    assert high < 200


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint32, np.int64, np.float16, np.float64])
def test_any_real_type_gets_limits_and_renders_between_black_and_white(dtype):
    pixels = (np.arange(64).reshape(8, 8) >= 32).astype(dtype)
    shown = Rendering((percentile_limits(pixels),))(pixels)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[..., 0], np.where(pixels, 255, 0))


def test_the_stretch_clips_at_its_limits_and_never_reverses_order():
    values = np.array([[-np.float32(1e30), 9, 10, 10.1, 15, 19.9, 20, 21, 1e30]], np.float32)
    shown = Rendering(((10.0, 20.0),))(values)[0, :, 0].astype(int)
    assert shown.tolist() == sorted(shown.tolist())
    assert shown[:3].tolist() == [0, 0, 0]
    assert shown[-3:].tolist() == [255, 255, 255]
    assert shown[4] == 128


@pytest.mark.parametrize(("gamma", "middle"), [(1.0, 128), (2.0, 64), (0.5, 180)])
def test_gamma_bends_the_middle_and_keeps_the_ends(gamma, middle):
    shown = Rendering(((0.0, 2.0),), gamma)(np.array([[0.0, 1.0, 2.0]]))
    assert shown[0, :, 0].tolist() == [0, middle, 255]


def test_a_grey_image_gives_three_equal_channels():
    shown = AS_IT_IS(noise(5, 6))
    assert shown.shape == (5, 6, 3)
    assert (shown == shown[..., :1]).all()


@pytest.mark.parametrize("channels", [3, 4, 5])
def test_of_more_than_three_channels_the_first_three_are_seen(channels):
    pixels = noise(5, 6, channels)
    np.testing.assert_array_equal(AS_IT_IS(pixels), pixels[..., :3])


def test_of_two_channels_the_first_is_seen_twice():
    pixels = noise(5, 6, 2)
    np.testing.assert_array_equal(AS_IT_IS(pixels), pixels[..., [0, 1, 0]])


def test_a_single_channel_axis_is_a_grey_image():
    pixels = noise(5, 6, 1)
    np.testing.assert_array_equal(AS_IT_IS(pixels), AS_IT_IS(pixels[..., 0]))


def test_each_channel_has_its_own_limits():
    shown = Rendering(((0.0, 255.0), (0.0, 510.0), (255.0, 510.0)))(np.full((2, 2, 3), 255, np.uint16))
    assert shown[0, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize("value", [0, 7, 60000])
def test_a_constant_image_renders_evenly(value):
    pixels = np.full((16, 16), value, np.uint16)
    shown = Rendering((percentile_limits(pixels),))(pixels)
    assert (shown == shown[0, 0]).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_few_bright_spots_on_a_constant_image_stay_visible_without_a_warning(dtype):
    pixels = np.zeros((100, 100), dtype)
    pixels[40:44, 50:55] = 1000
    shown = Rendering((percentile_limits(pixels),))(pixels)
    np.testing.assert_array_equal(shown[..., 0] > 128, pixels > 0)


def test_a_small_range_on_a_large_offset_keeps_its_steps():
    pixels = 2**28 + np.arange(64, dtype=np.int64).reshape(8, 8)
    shown = Rendering(((2**28, 2**28 + 63),))(pixels)[..., 0]
    assert len(np.unique(shown)) == 64


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from([2, 3, 4, 8, 32]),
    st.sampled_from([(), (3,)]),
    st.booleans(),
)
def test_area_average_is_the_mean_of_the_pixels_that_each_block_has(rows, cols, factor, channels, real):
    pixels = noise(rows, cols, *channels, seed=rows * cols)
    pixels = pixels / np.float32(3) if real else pixels
    averaged = area_average(pixels, factor)
    assert averaged.shape[:2] == (-(-rows // factor), -(-cols // factor))
    assert averaged.dtype == np.float32
    for row in range(averaged.shape[0]):
        for col in range(averaged.shape[1]):
            block = pixels[row * factor : (row + 1) * factor, col * factor : (col + 1) * factor]
            np.testing.assert_allclose(averaged[row, col], block.mean(axis=(0, 1), dtype=float), rtol=1e-5, atol=1e-5)


def test_a_tile_at_level_zero_is_the_image_itself():
    pixels = noise(100, 130, 3)
    tile = TileGrid((100, 130), 64).tile(0, 1, 2)
    np.testing.assert_array_equal(rendered(pixels, tile), pixels[tile.read.slices])


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_coarse_tile_is_the_mean_of_its_pixels(level):
    pixels = noise(600, 520)
    tile = TileGrid((600, 520), 32).tile(level, 1, 1)
    factor = 2**level
    blocks = pixels[tile.read.slices].reshape(32, factor, 32, factor).mean(axis=(1, 3))
    np.testing.assert_allclose(rendered(pixels, tile)[..., 0], blocks, atol=0.5 + 1e-4)


def test_contrast_is_stretched_after_averaging_so_that_no_noise_is_clipped():
    pixels = np.tile(np.array([[0, 400], [400, 0]], np.uint16), (16, 16))
    tile = TileGrid((32, 32), 16).tile(1, 0, 0)
    assert (rendered(pixels, tile, Rendering(((150.0, 250.0),)))[..., 0] == 128).all()


@pytest.mark.parametrize("level", [-1, -2, -3])
def test_a_magnified_tile_interpolates_linearly_between_pixel_centres(level):
    grid = TileGrid((200, 200), 64)
    pixels = noise(200, 200)
    tile = grid.tile(level, 2, 3)
    block = pixels[tile.read.slices].astype(float)
    at = (np.arange(64) + 0.5) * tile.downsample - 0.5
    along_rows = np.stack([np.interp(at, np.arange(len(block)), column) for column in block.T], axis=1)
    expected = np.stack([np.interp(at, np.arange(block.shape[1]), row) for row in along_rows])
    np.testing.assert_allclose(rendered(pixels, tile)[..., 0], expected, atol=0.5 + 1e-3)


@pytest.mark.parametrize(("level", "filled"), [(-2, (40, 28)), (0, (10, 7)), (1, (5, 4))])
def test_what_a_small_image_does_not_fill_is_black_at_the_bottom_and_right(level, filled):
    pixels = np.full((10, 7), 255, np.uint8)
    shown = rendered(pixels, TileGrid((10, 7), 64).tile(level, 0, 0))
    assert shown.shape == (64, 64, 3)
    assert (shown[: filled[0], : filled[1]] == 255).all()
    shown[: filled[0], : filled[1]] = 0
    assert not shown.any()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_equal_pixels_are_rendered_equally_in_whichever_tile_they_are(level):
    side = 32
    span = side * 2**level
    patch = noise(span, span)
    elsewhere = noise(6 * span, 5 * span, seed=1)
    grid = TileGrid(elsewhere.shape, side)
    shown = []
    for row, col in [(0, 0), (3, 2), (6, 7)]:
        image = elsewhere.copy() // (row + 1)
        tile = grid.tile(level, row, col)
        image[tile.read.slices] = patch
        shown.append(rendered(image, tile))
    assert all(np.array_equal(one, shown[0]) for one in shown)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_neighbouring_tiles_show_their_common_pixels_alike(level):
    pixels = noise(512, 512)
    grid = TileGrid((512, 512), 32)
    left, right = rendered(pixels, grid.tile(level, 1, 1)), rendered(pixels, grid.tile(level, 1, 2))
    np.testing.assert_array_equal(left[:, 16:], right[:, :16])


@given(st.integers(0, 299), st.integers(0, 219), st.integers(-2, 3))
def test_a_pixel_appears_where_its_coordinates_say(row, col, level):
    pixels = np.zeros((300, 220), np.float32)
    pixels[row, col] = 1
    tile = TileGrid((300, 220), 32).tile_at(level, row + 0.5, col + 0.5)
    shown = rendered(pixels, tile, Rendering(((0.0, 4.0**-level if level > 0 else 1.0),)))[..., 0].astype(float)
    centre = [float(np.average(np.arange(32), weights=shown.sum(axis=axis))) for axis in (1, 0)]
    expected = tile.point_to_tile(row, col)
    tolerance = 0.5 if level >= 0 else 0.5 / tile.downsample
    assert np.abs(np.subtract(centre, expected)).max() <= tolerance


def waves(rows, cols, row_period, col_period):
    row, col = np.indices((rows, cols)) + 0.5
    return 128 + 60 * np.sin(2 * np.pi * row / row_period) + 60 * np.sin(2 * np.pi * col / col_period)


@pytest.mark.parametrize("thick", [2.0, 3.7, 8.0])
def test_pixels_that_are_not_square_are_shown_as_the_square_world_they_lie_in(thick):
    square = waves(2000, 900, 160, 120)
    shape = (int(2000 / thick), 900)
    flat = waves(*shape, 160 / thick, 120)
    for level in (0, 1):
        tile = TileGrid(shape, 64, (thick, 1.0)).tile(level, 2, 3)
        world = TileGrid(square.shape, 64).tile(level, 0, 3)
        top = tile.read.top * thick
        moved = replace(world, read=Box(top, tile.read.left, top + 64 * 2**level, tile.read.right))
        expected = square[int(top) : int(top) + 64 * 2**level, moved.read.slices[1]]
        rows = expected.reshape(64, 2**level, 64, 2**level).mean((1, 3))
        shown = render_tile(flat[tile.read.slices], tile, AS_IT_IS)
        assert np.abs(shown[..., 0].astype(float) - rows).mean() < 4


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("at", [(0, 0), (3, 2), (4, 5)])
def test_a_coarser_level_of_the_data_gives_the_same_tile_as_the_finest(level, at):
    pixels = waves(601, 523, 37, 23)
    grid = TileGrid(pixels.shape, 64)
    tile = grid.tile(level, *(min(i, n - 1) for i, n in zip(at, grid.count(level), strict=True)))
    fine = render_tile(pixels[tile.read.slices], tile, AS_IT_IS)
    half = area_average(pixels, 2)
    top, left = int(tile.read.top // 2), int(tile.read.left // 2)
    bottom, right = -int(-tile.read.bottom // 2), -int(-tile.read.right // 2)
    coarse = render_tile(half[top:bottom, left:right], tile, AS_IT_IS, (top * 2.0, left * 2.0), (2.0, 2.0))
    on_grid = tile.read.top % 2 == 0 and tile.read.left % 2 == 0
    assert np.abs(fine.astype(int) - coarse.astype(int)).max() <= (1 if on_grid else 12)


def test_a_level_that_was_cut_instead_of_rounded_up_still_fills_the_tile():
    pixels = np.full((601, 601), 200.0)
    tile = TileGrid(pixels.shape, 64).tile(2, 3, 3)
    cut = np.full((150, 150), 200.0)  # 601 / 4, rounded down
    top = int(tile.read.top // 4)
    shown = render_tile(cut[top:, top:], tile, AS_IT_IS, (top * 4.0, top * 4.0), (4.0, 4.0))
    assert (shown == 200).all()


def test_pixels_without_a_value_do_not_darken_their_neighbours():
    pixels = np.full((64, 64), 100.0)
    pixels[::2, ::2] = np.nan
    pixels[:8, :8] = np.nan
    tile = TileGrid((64, 64), 32).tile(1, 0, 0)
    shown = render_tile(pixels, tile, AS_IT_IS)[..., 0]
    assert (shown[:4, :4] == 0).all()
    shown[:4, :4] = 100
    assert (shown == 100).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_none_is_black_at_every_level(value):
    pixels = np.full((64, 64), 200.0, np.float32)
    pixels[5, 7] = value
    for level in (-1, 0):
        tile = TileGrid((64, 64), 32).tile(level, 0, 0)
        row, col = (round(at) for at in tile.point_to_tile(5, 7))
        assert render_tile(pixels[tile.read.slices], tile, AS_IT_IS)[row, col, 0] < 150
    assert Rendering(((0.0, 1.0),))(pixels)[5, 7].tolist() == [0, 0, 0]


def test_channels_are_added_in_their_colours_each_with_its_own_contrast():
    pixels = np.zeros((2, 2, 3))
    pixels[0, 0] = 10, 0, 0
    pixels[0, 1] = 0, 1000, 0
    pixels[1, 0] = 5, 500, 4
    colors = ((1.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0))
    shown = Rendering(((0.0, 10.0), (0.0, 1000.0), (0.0, 4.0)), (1.0, 1.0, 2.0), colors)(pixels)
    assert shown[0, 0].tolist() == [255, 0, 255]
    assert shown[0, 1].tolist() == [0, 255, 0]
    assert shown[1, 0].tolist() == [255, 255, 255]
    assert shown[1, 1].tolist() == [0, 0, 0]
