from __future__ import annotations

import numpy as np
from tests.evaluation.labelled import FLAT, disk, nothing

from napari_sam.evaluation.clicks import most_interior, next_click, off_center
from napari_sam.evaluation.datasets import (
    TargetObject,
)


def test_the_most_interior_pixel_is_the_one_farthest_from_the_border() -> None:
    assert most_interior(disk(40, 60, 11)) == (40, 60)
    lopsided = disk(30, 30, 12) | disk(30, 55, 5)
    lopsided[29:32, 30:55] = True
    assert most_interior(lopsided) == (30, 30)


def test_the_border_of_the_image_is_a_border_of_the_object() -> None:
    region = np.zeros((50, 50), bool)
    region[:21, :] = True
    row, col = most_interior(region)
    assert row == 10
    assert 10 <= col < 40


def test_a_hole_keeps_the_click_off_it() -> None:
    ring = disk(50, 50, 30) & ~disk(50, 50, 10)
    assert ring[most_interior(ring)]


def test_the_next_click_goes_into_the_larger_error_with_its_sign() -> None:
    truth = disk(30, 30, 12)
    small_surplus = truth & (np.arange(100) < 30)[None] | disk(80, 80, 2)
    point, sign = next_click(small_surplus, TargetObject(FLAT, truth, None))
    assert sign == 1
    assert truth[point]
    assert not small_surplus[point]
    large_surplus = truth & (np.arange(100) < 40)[None] | disk(75, 75, 10)
    assert next_click(large_surplus, TargetObject(FLAT, truth, None)) == ((75, 75), 0)


def test_an_empty_answer_is_clicked_in_the_middle_of_the_object() -> None:
    assert next_click(nothing((100, 100)), TargetObject(FLAT, disk(30, 44, 12), None)) == ((30, 44), 1)


def test_without_any_error_the_object_is_confirmed() -> None:
    truth = disk(30, 44, 12)
    assert next_click(truth, TargetObject(FLAT, truth, None)) == ((30, 44), 1)


def test_ignored_pixels_are_never_clicked() -> None:
    truth, ignored = disk(30, 30, 8), disk(70, 70, 20)
    answer = truth | ignored
    answer[30, 24:26] = False
    point, sign = next_click(answer, TargetObject(FLAT, truth, ignored))
    assert sign == 1
    assert point in ((30, 24), (30, 25))


def test_off_center_clicks_are_spread_over_the_object_and_keep_off_its_border() -> None:
    region = np.zeros((60, 80), bool)
    region[10:17, 30:39] = True  # 7 x 9 pixels: more than 2 pixels from the border are 3 x 5.
    drawn = off_center(region, 400, "seed")
    assert set(drawn) == {(row, col) for row in range(12, 15) for col in range(32, 37)}
    counts = np.array([drawn.count(point) for point in set(drawn)])
    assert counts.min() >= 10, "each of the 15 pixels is drawn 27 times on average"


def test_the_edge_of_the_image_is_a_border_for_off_center_clicks() -> None:
    region = np.zeros((50, 50), bool)
    region[:5, 10:15] = True
    assert set(off_center(region, 20, 1)) == {(2, 12)}


def test_off_center_clicks_use_every_pixel_of_an_object_that_is_thin_everywhere() -> None:
    region = np.zeros((50, 50), bool)
    region[20, 10:14] = True
    assert set(off_center(region, 60, 1)) == {(20, 10), (20, 11), (20, 12), (20, 13)}


def test_one_seed_always_draws_the_same_off_center_clicks() -> None:
    region = disk(50, 50, 30)
    assert off_center(region, 5, "3/cells/0") == off_center(region, 5, "3/cells/0")
    assert off_center(region, 5, "3/cells/0") != off_center(region, 5, "3/cells/1")
