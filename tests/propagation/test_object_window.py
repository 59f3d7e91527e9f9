"""ObjectWindow and Appearance: what is known of an object lies where the object is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import disk

from napari_sam.core.following.mask_fuser import FEATURE_CELLS, WINDOW_CELLS
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, innermost, iou
from napari_sam.core.rendering import Rendering
from napari_sam.core.tiles import TileGrid
from napari_sam.images.volume import Volume
from napari_sam.propagation.appearance import Appearance
from napari_sam.propagation.object_window import SPAN, ObjectWindow

SHAPE = (90, 120)


def disc(row: float, col: float, radius: float, shape: tuple[int, int] = SHAPE) -> Mask:
    pixels = np.zeros(shape, bool)
    pixels[disk((row, col), radius, shape=shape)] = True
    return Mask(Box.of_shape(shape), pixels).tightened()


@settings(max_examples=40, deadline=None)
@given(st.floats(2, 87), st.floats(2, 117), st.floats(2, 60), st.sampled_from([(1.0, 1.0), (1.0, 3.0), (2.5, 1.0)]))
def test_a_mask_comes_back_from_the_window_around_it(row, col, radius, pixel_size):
    mask = disc(row, col, radius)
    window = ObjectWindow.around(TileGrid(SHAPE, 256, pixel_size), mask.box)
    assert window.tile.read.contains(mask.box)
    covered = window.coverage(mask)
    assert covered.shape == (WINDOW_CELLS, WINDOW_CELLS)
    assert covered.sum() * np.prod(window.tile.step) == pytest.approx(mask.area, rel=1e-3)
    back = window.mask((covered - 0.5).astype(np.float32), 0.7)
    assert iou(back.to_array(SHAPE), mask.to_array(SHAPE)) > 0.85
    assert back.iou_prediction == pytest.approx(0.7)


def test_a_window_is_moved_inside_the_plane_and_is_square_in_units():
    grid = TileGrid(SHAPE, 256, (1.0, 2.0))
    window = ObjectWindow.around(grid, Box(80, 100, 90, 110))
    assert window.span == pytest.approx(20 * SPAN)
    assert window.tile.read.bottom == 90
    assert window.tile.read.height == pytest.approx(window.span)
    assert window.tile.read.width == pytest.approx(window.span / 2)
    large = ObjectWindow.around(grid, Box(0, 0, 90, 120))
    assert large.tile.read.as_tuple() == (0, 0, 90, 120)


def test_pixels_and_values_of_a_tile_lie_at_the_same_cells_as_the_mask():
    mask = disc(30, 80, 9)
    image = np.where(mask.to_array(SHAPE), 255, 0).astype(np.uint8)
    volume, grid = Volume.of(image, False), TileGrid(SHAPE, 256)
    window = ObjectWindow.around(grid, mask.box)
    pixels = window.pixels(volume, Plane.of(SHAPE), Rendering(((0.0, 255.0),)))
    covered = window.coverage(mask)
    assert np.abs(pixels - covered).mean() < 0.03
    tile = grid.tile_at(-1, 30, 80)
    at = np.arange(64) + 0.5
    rows, cols = (start + at * 4 * step for start, step in zip((tile.read.top, tile.read.left), tile.step, strict=True))
    inside = (((rows - 30.5) ** 2)[:, None] + (cols - 80.5) ** 2 < 81).astype(np.float32)
    sampled = window.sampled(tile, inside[None], -1.0)[0]
    assert iou(sampled > 0.5, covered > 0.5) > 0.9
    beside = ObjectWindow.around(grid, Box(60, 2, 80, 22))
    assert (beside.sampled(grid.tile_at(-3, 30, 80), inside[None], -1.0) == -1).all()


def test_cells_like_the_object_are_known_by_its_features():
    grid = TileGrid((256, 256), 256)
    tile = grid.tile_at(0, 128, 128)
    rng = np.random.default_rng(0)
    features = rng.normal(0, 0.3, (8, FEATURE_CELLS, FEATURE_CELLS)).astype(np.float32)
    for row, col in ((16, 16), (44, 40)):
        features[:4, row - 6 : row + 6, col - 6 : col + 6] += 2
    mask = disc(64, 64, 22, (256, 256))
    likeness = Appearance.of(features, tile, mask).likeness(features)
    assert likeness[14:18, 14:18].mean() > 0.7
    assert likeness[40:48, 36:44].mean() > 0.7
    assert likeness[:, 52:].mean() < -0.7
    assert np.abs(likeness).max() <= 3


@pytest.mark.parametrize("box", [Box(0, 0, 256, 256), Box(100, 100, 101, 101)])
def test_an_object_as_large_as_the_tile_and_one_of_a_pixel_have_an_appearance(box):
    tile = TileGrid((256, 256), 256).tile_at(0, 128, 128)
    features = np.random.default_rng(0).normal(size=(8, FEATURE_CELLS, FEATURE_CELLS)).astype(np.float32)
    likeness = Appearance.of(features, tile, Mask(box, np.ones(box.pixel_shape, bool))).likeness(features)
    assert np.isfinite(likeness).all()


def test_the_innermost_pixel_is_inside_a_ring():
    pixels = np.zeros((41, 41), bool)
    pixels[disk((20, 20), 20, shape=pixels.shape)] = True
    pixels[disk((20, 20), 8, shape=pixels.shape)] = False
    (row, col), mask = innermost(Mask(Box(5, 7, 46, 48), pixels))[0], pixels
    assert mask[int(row) - 5, int(col) - 7]
