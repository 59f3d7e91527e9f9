"""The computed cells: the same at every call, and such that one click finds a nucleus."""

from __future__ import annotations

import numpy as np

from napari_sam import Segmenter
from napari_sam.samples.cells import cells
from tests.samples.reference import innermost_pixel, iou


def test_the_cells_are_the_same_at_every_call():
    first, second = cells(), cells()
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.truth, second.truth)


def test_one_click_finds_a_nucleus():
    sample = cells()
    segmenter = Segmenter(sample.image[0])
    sizes = np.bincount(sample.truth.ravel())
    found = [
        iou(segmenter.segment(points=[innermost_pixel(sample.truth == label)]).best, sample.truth == label)
        for label in range(1, len(sizes), 12)
        if sizes[label] > 400
    ]
    assert len(found) > 8
    assert np.median(found) > 0.9
