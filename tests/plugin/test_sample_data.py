"""The samples: opened by the manifest, the same each time, and such that the embedded model finds what is in them."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from npe2 import PluginManager
from scipy import ndimage

from napari_sam import Segmenter
from napari_sam.samples import aerial as made_aerial
from napari_sam.samples import cells as made_images
from napari_sam.samples import ct as made_ct
from napari_sam.samples import slide as made_slide

SAMPLES = {
    "coins": [((303, 384), "uint8", (1, 1))],
    "tissue": [((512, 512, 3), "uint8", (1, 1))],
    "cells": [((768, 768), "uint16", (0.325, 0.325))] * 2,
    "abdomen": [((48, 288, 288), "int16", (5.0, 1.25, 1.25))],
    "village": [((1536, 1536, 3), "uint8", (0.25, 0.25))],
    "slide": [((36, 65536, 65536), "uint16", (1.0, 0.325, 0.325))],
}


@pytest.fixture(autouse=True, scope="module")
def plugins():
    PluginManager.instance().discover()


@pytest.fixture(scope="module")
def cells():
    return made_images.cells()


@pytest.fixture(scope="module")
def abdomen():
    return made_ct.ct()


@pytest.fixture(scope="module")
def village():
    return made_aerial.aerial()


def middle_of(truth):
    """Return the pixel of an object that lies farthest from its border."""
    depth = ndimage.distance_transform_edt(np.pad(truth, 1))[1:-1, 1:-1]
    return tuple(int(at) for at in np.unravel_index(depth.argmax(), depth.shape))


def box_of(truth):
    rows, cols = np.nonzero(truth)
    return int(rows.min()), int(cols.min()), int(rows.max()) + 1, int(cols.max()) + 1


def iou(mask, truth, corner=(0, 0)):
    """Return the IoU of a mask with a truth whose first pixel lies at `corner` of the image."""
    box = mask.box
    top, left = box.top - corner[0], box.left - corner[1]
    assert top >= 0
    assert left >= 0
    found = np.zeros(truth.shape, bool)
    found[top : top + mask.pixels.shape[0], left : left + mask.pixels.shape[1]] = mask.pixels
    return np.count_nonzero(found & truth) / np.count_nonzero(found | truth)


@pytest.mark.parametrize("key", SAMPLES)
def test_a_sample_opens_by_its_name_with_its_size_in_the_world(key):
    layers = ViewerModel().open_sample("napari-sam", key)
    assert len(layers) == len(SAMPLES[key])
    for layer, (shape, dtype, scale) in zip(layers, SAMPLES[key], strict=True):
        finest = layer.data[0] if layer.multiscale else layer.data
        assert (finest.shape, np.dtype(finest.dtype).name) == (shape, dtype)
        assert tuple(layer.scale) == scale
        unit = {"cells": "micrometer", "slide": "micrometer", "abdomen": "millimeter", "village": "meter"}.get(
            key, "pixel"
        )
        assert {str(one) for one in layer.units} == {unit}


def test_a_sample_is_the_same_each_time_and_another_seed_makes_another(cells):
    assert np.array_equal(made_images.cells().image, cells.image)
    assert not np.array_equal(made_images.cells(seed=12).image, cells.image)


def test_one_click_finds_a_nucleus(cells):
    segmenter = Segmenter(cells.image[0])
    sizes = np.bincount(cells.truth.ravel())
    found = [
        iou(segmenter.segment(points=[middle_of(cells.truth == label)]).best, cells.truth == label)
        for label in range(1, len(sizes), 12)
        if sizes[label] > 400
    ]
    assert len(found) > 8
    assert np.median(found) > 0.9


@pytest.mark.parametrize(("organ", "least"), [("left kidney", 0.9), ("right kidney", 0.9), ("vena cava", 0.8)])
def test_one_click_finds_an_organ_of_the_ct_in_its_window(abdomen, organ, least):
    volume = abdomen.truth == abdomen.label_of(organ)
    plane = int(volume.sum((1, 2)).argmax())
    segmenter = Segmenter(abdomen.image, contrast_limits=(-160, 240), spacing=made_ct.SPACING_MM)
    candidates = segmenter.segment(points=[middle_of(volume[plane])], plane=plane)
    assert iou(candidates.best, volume[plane]) > least


def test_organs_have_the_density_of_their_tissue_and_change_smoothly_over_the_slices(abdomen):
    image, truth = abdomen.image, abdomen.truth
    for organ, low, high in (
        ("liver", 95, 120),
        ("left kidney", 130, 180),
        ("aorta", 150, 180),
        ("spine", 150, 450),
        ("right lung", -880, -780),
        ("gallbladder", 0, 25),
    ):
        assert low < image[truth == abdomen.label_of(organ)].mean() < high, organ
    liver = truth == abdomen.label_of("liver")
    areas = liver.sum((1, 2))
    inner = areas[areas > 1500]
    assert len(inner) > 15
    assert np.abs(np.diff(inner)).max() < 0.25 * areas.max()


def test_a_box_finds_a_roof(village):
    segmenter = Segmenter(village.image)
    labels = [label for label, name in village.names.items() if name == "roof"]
    roofs = [village.truth == label for label in labels if np.count_nonzero(village.truth == label) > 1200][::3]
    found = [iou(segmenter.segment(box=box_of(roof)).best, roof) for roof in roofs]
    assert len(found) > 4
    assert np.median(found) > 0.75


def test_one_click_finds_a_nucleus_of_the_slide_larger_than_memory():
    layer = ViewerModel().open_sample("napari-sam", "slide")[0]
    segmenter = Segmenter(list(layer.data), contrast_limits=(100, 2600), spacing=made_slide.SPACING_UM)
    plane, top, left, side = 12, 30_000, 25_000, 500
    truth = made_slide.slide_truth(plane, top, left, side, side)
    inner = truth[120:380, 120:380]
    sizes = np.bincount(inner.ravel())
    found = []
    for label in np.flatnonzero(sizes > 500)[1:9]:
        row, col = middle_of(truth == label)
        mask = segmenter.segment(points=[(top + row, left + col)], plane=plane).best
        found.append(iou(mask, truth == label, (top, left)))
    assert len(found) > 5
    assert np.median(found) > 0.8


def test_a_pixel_of_the_slide_is_the_same_whichever_piece_it_is_read_with():
    level = made_slide.slide_levels()[0]
    whole = level[12, 30_000:30_600, 25_000:25_600]
    assert np.array_equal(level[12, 30_100:30_300, 25_250:25_260], whole[100:300, 250:260])
    assert np.array_equal(level[12:13, 30_599:30_499:-2, 25_007], whole[None, 599:499:-2, 7])
    assert level[12, 30_000, 25_000] == whole[0, 0]
    assert not np.array_equal(level[30, 30_000:30_600, 25_000:25_600], whole)


def test_the_coarse_levels_of_the_slide_show_what_the_fine_ones_hold():
    """The mean light of the same place, at every level from single nuclei to the whole lymph node."""
    for row, col in ((30_000, 25_000), (500, 500)):
        lights = []
        for level in made_slide.slide_levels():
            top, left, side = row >> level.level, col >> level.level, 2048 >> level.level
            lights.append(float(level[12, top : top + side, left : left + side].mean()))
        assert max(lights) < 1.2 * min(lights), (row, col, lights)


def test_nuclei_of_the_slide_reach_over_several_planes_and_end():
    windows = [made_slide.slide_truth(plane, 30_000, 25_000, 300, 300) > 0 for plane in (12, 13, 24)]
    together = [np.count_nonzero(windows[0] & other) / np.count_nonzero(windows[0] | other) for other in windows[1:]]
    assert together[0] > 0.7
    assert together[1] < 0.4
