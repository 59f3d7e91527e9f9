"""The rounds of prompts of one object: what a correction changes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam import Segmenter
from napari_sam.core.predictor import Decoded
from napari_sam.testing import FakePredictor

SHAPE = (64, 64)
# On a tile of 64 pixels a logit covers 4 x 4 of them.
LEFT, RIGHT = (slice(4, 12), slice(1, 7)), (slice(4, 12), slice(10, 13))


class Forgetful(FakePredictor):
    """Adds a part on the right for two points, and forgets half of the left part for three."""

    probe_levels = 0
    object_range = (0.0, 2.0)

    def decode(self, embedding, prompts):
        logits = np.full((3, 16, 16), -8, np.float32)
        logits[(slice(None), *LEFT)] = 8
        if len(prompts.points) >= 2:
            logits[(slice(None), *RIGHT)] = 8
        if len(prompts.points) >= 3:
            logits[:, 4:8, 1:7] = -8
            logits[:, 8:12, 13:15] = 8
        return Decoded(logits, np.array([0.9, 0.8, 0.7], np.float32))


@pytest.fixture
def segmenter():
    return Segmenter(np.zeros(SHAPE, np.uint8), model=Forgetful())


def cells(mask):
    return mask.to_array(SHAPE)[2::4, 2::4]


def test_the_second_prompt_may_change_all_of_the_mask(segmenter):
    found = cells(segmenter.segment(points=[(30, 10), (30, 50)], downsample=1).best)
    assert found[LEFT].all()
    assert found[RIGHT].all()


def test_from_the_third_prompt_on_only_what_is_connected_to_the_new_point_changes(segmenter):
    found = cells(segmenter.segment(points=[(30, 10), (30, 50), (40, 56)], downsample=1).best)
    assert found[LEFT].all()  # The decoder forgot the upper half, far from the click.
    assert found[8:12, 13:15].all()


def test_a_correction_on_a_part_that_the_decoder_removes_removes_it(segmenter):
    found = cells(segmenter.segment(points=[(30, 10), (30, 50), (20, 10)], labels=[1, 1, 0], downsample=1).best)
    assert not found[4:8, 1:7].any()
    assert found[8:12, 1:7].all()
    assert not found[8:12, 13:15].any()
