"""The slide of 309 GB: one image, whichever region and level of it is read."""

from __future__ import annotations

import numpy as np

from napari_sam import Segmenter
from napari_sam.samples.slide import SPACING_UM, slide_levels, slide_truth
from tests.samples.reference import innermost_pixel, iou


def test_one_click_finds_a_nucleus_of_the_slide_larger_than_memory():
    segmenter = Segmenter(slide_levels(), contrast_limits=(100, 2600), spacing=SPACING_UM)
    plane, top, left, side = 12, 30_000, 25_000, 500
    truth = slide_truth(plane, top, left, side, side)
    inner = truth[120:380, 120:380]
    sizes = np.bincount(inner.ravel())
    found = []
    for label in np.flatnonzero(sizes > 500)[1:9]:
        row, col = innermost_pixel(truth == label)
        mask = segmenter.segment(points=[(top + row, left + col)], plane=plane).best
        found.append(iou(mask, truth == label, (top, left)))
    assert len(found) > 5
    assert np.median(found) > 0.8


def test_a_pixel_of_the_slide_is_the_same_whichever_region_it_is_read_with():
    level = slide_levels()[0]
    whole = level[12, 30_000:30_600, 25_000:25_600]
    assert np.array_equal(level[12, 30_100:30_300, 25_250:25_260], whole[100:300, 250:260])
    assert np.array_equal(level[12:13, 30_599:30_499:-2, 25_007], whole[None, 599:499:-2, 7])
    assert level[12, 30_000, 25_000] == whole[0, 0]
    assert not np.array_equal(level[30, 30_000:30_600, 25_000:25_600], whole)


def test_the_coarse_levels_of_the_slide_are_as_bright_as_the_fine_ones():
    for row, col in ((30_000, 25_000), (500, 500)):
        lights = []
        for level in slide_levels():
            top, left, side = row >> level.level, col >> level.level, 2048 >> level.level
            lights.append(float(level[12, top : top + side, left : left + side].mean()))
        assert max(lights) < 1.2 * min(lights), (row, col, lights)


def test_nuclei_of_the_slide_extend_over_several_planes_and_end():
    windows = [slide_truth(plane, 30_000, 25_000, 300, 300) > 0 for plane in (12, 13, 24)]
    together = [np.count_nonzero(windows[0] & other) / np.count_nonzero(windows[0] | other) for other in windows[1:]]
    assert together[0] > 0.7
    assert together[1] < 0.4
