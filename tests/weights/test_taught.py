"""What is said of a model that was taught."""

from __future__ import annotations

import pytest

from napari_sam.weights.taught import gain

BEFORE = {"click_1": 0.916, "click_3": 0.90, "box": 0.94}


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"click_1": 0.97}, "first click 0.92 -> 0.97"),
        ({"click_1": 0.919, "click_3": 0.95}, "3 clicks 0.90 -> 0.95"),
        # 0.92 and 0.91 as text, and yet the same.
        ({"click_1": 0.914, "click_3": 0.95}, "3 clicks 0.90 -> 0.95"),
        ({"box": 0.96}, "box 0.94 -> 0.96"),
        ({}, "first click 0.92 -> 0.92"),
    ],
)
def test_the_gain_names_the_first_prompt_that_changed(after, said):
    assert gain({"before": BEFORE, "after": BEFORE | after}) == said


def test_a_gain_that_was_not_measured_is_said():
    assert gain({}) == "first click not measured"
