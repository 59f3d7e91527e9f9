from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_sam.core.cleaning import Cleaning, drop_small, fill_holes, keep_largest, smooth
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask, iou
from napari_sam.errors import PromptError
from napari_sam.testing.strategies import masks

SHAPE = (40, 50)


def parts(pixels: np.ndarray) -> list[int]:
    numbers, _ = ndimage.label(pixels, np.ones((3, 3)))
    return sorted(np.bincount(numbers.ravel())[1:].tolist())


@given(masks(SHAPE))
def test_nothing_asked_nothing_changed(mask):
    assert Cleaning()(mask, SHAPE) is mask


@given(
    masks(SHAPE), st.booleans(), st.sampled_from([0, 3, None]), st.sampled_from([0, 0.8, 2]), st.sampled_from([0, 5])
)
def test_it_stays_in_the_plane_keeps_its_scores_and_is_tight(mask, largest, holes, sigma, least):
    clean = Cleaning(largest, holes, sigma, least)(mask, SHAPE)
    assert Box.of_shape(SHAPE).contains(clean.box)
    assert clean.pixels.shape == clean.box.pixel_shape
    assert (clean.iou_prediction, clean.stability_score) == (0.5, 0.25)
    if not Cleaning(largest, holes, sigma, least).changes_nothing and clean.area:
        assert clean.tightened().box == clean.box
    if least:
        assert all(size >= least for size in parts(clean.pixels))


@given(masks(SHAPE))
def test_one_part_is_left_and_it_is_the_largest(mask):
    sizes = parts(mask.pixels)
    assert parts(keep_largest(mask).pixels) == sizes[-1:]


@given(masks(SHAPE), st.integers(1, 30))
def test_small_parts_go_and_no_others(mask, least):
    assert parts(drop_small(mask, least).pixels) == [size for size in parts(mask.pixels) if size >= least]


@given(masks(SHAPE), st.sampled_from([None, 0, 1, 4]))
def test_holes_are_filled_up_to_a_size(mask, most):
    filled = fill_holes(mask, most).pixels
    assert not (mask.pixels & ~filled).any()
    numbers, count = ndimage.label(~np.pad(mask.pixels, 1))
    outside = numbers[0, 0]
    for number in set(range(1, count + 1)) - {outside}:
        hole = (numbers == number)[1:-1, 1:-1]
        assert filled[hole].all() == (most is None or hole.sum() <= most)
        assert filled[hole].any() == filled[hole].all()
    assert not filled[(numbers == outside)[1:-1, 1:-1]].any()


def test_a_rough_disc_comes_out_round():
    rows, cols = np.indices(SHAPE)
    disc = (rows - 20) ** 2 + (cols - 25) ** 2 <= 12**2
    near = ndimage.binary_dilation(disc) ^ ndimage.binary_erosion(disc)
    rough = disc ^ (near & (np.random.default_rng(0).random(SHAPE) < 0.4))
    mask = Mask(Box.of_shape(SHAPE), rough)
    assert iou(smooth(mask, 1.5, SHAPE).to_array(SHAPE), disc) > iou(rough, disc)
    lonely = rough.copy()
    lonely[2, 2] = True
    assert not smooth(Mask(Box.of_shape(SHAPE), lonely), 1.5, SHAPE).to_array(SHAPE)[2, 2]


def test_an_object_at_the_images_border_keeps_its_border_there():
    mask = Mask(Box(0, 0, 20, 20), np.ones((20, 20), bool))
    smoothed = smooth(mask, 2, SHAPE).to_array(SHAPE)
    assert smoothed[0, :15].all()
    assert smoothed[:15, 0].all()
    assert not smoothed[19, 19]


def test_a_mask_too_thin_to_be_smoothed_stays():
    line = Mask(Box(10, 10, 11, 30), np.ones((1, 20), bool))
    assert smooth(line, 3, SHAPE) is line


@pytest.mark.parametrize("options", [{"smooth": -1}, {"minimum_size": float("nan")}, {"fill_holes": "all"}])
def test_what_is_no_number_is_told(options):
    with pytest.raises(PromptError, match="Cleaning by"):
        Cleaning(**options)
