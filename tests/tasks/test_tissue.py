"""Where a plane shows something, on bright and on dark backgrounds."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam import Segmenter
from napari_sam.tasks.tissue import tissue_of
from napari_sam.testing import FakePredictor


def found(image):
    segmenter = Segmenter(image, model=FakePredictor())
    plane = segmenter.plane()
    return tissue_of(segmenter, plane), plane.shape_in(segmenter.shape)


@pytest.mark.parametrize("background", [20, 230])
def test_tissue_is_what_differs_from_the_edge_of_a_bright_or_a_dark_plane(background):
    image = np.full((300, 420), background, np.uint8)
    image += np.random.default_rng(0).integers(0, 8, image.shape).astype(np.uint8)
    image[100:200, 150:300] = 120
    image[140:160, 200:220] = background  # A hole counts.
    mask, shape = found(image)
    pixels = mask.to_array(shape)
    assert pixels[100:200, 150:300].all()
    assert not pixels[:80].any()
    assert not pixels[:, :130].any()
    assert pixels.sum() < 1.5 * 100 * 150


def test_a_large_plane_is_looked_at_coarsely_and_colors_count():
    image = np.full((1500, 2600, 3), 240, np.uint8)
    image[400:900, 1000:2000] = (200, 120, 240)  # As bright as the background in one channel.
    mask, shape = found(image)
    assert mask.box.pixel_shape[0] < 560
    assert mask.to_array(shape)[400:900, 1000:2000].all()


def test_a_uniform_plane_has_no_tissue():
    mask, _ = found(np.full((200, 200), 7, np.uint8))
    assert mask.area == 0
