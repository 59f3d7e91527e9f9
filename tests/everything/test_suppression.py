"""Suppression: as slow and obvious references do it, whatever the order of the proposals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.everything.scenes import proposals_of

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, shared_pixels
from napari_sam.everything import suppression
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import FilterOptions
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.suppression import Overlaps, meeting_boxes, suppressed
from napari_sam.testing.strategies import boxes as some_boxes

SHAPE = (60, 80)


def random_masks(count: int, seed: int, levels_of_score: int = 10**6) -> list[Mask]:
    """Masks of a few sizes that overlap; few levels of scores mean that many are equal."""
    rng = np.random.default_rng(seed)
    masks = []
    while len(masks) < count:
        top, left = int(rng.integers(0, SHAPE[0] - 2)), int(rng.integers(0, SHAPE[1] - 2))
        side = int(rng.choice([3, 8, 20, 40]))
        box = Box(top, left, min(top + int(rng.integers(2, side + 2)), SHAPE[0]), min(left + side, SHAPE[1]))
        pixels = rng.random(box.pixel_shape) < rng.choice([0.4, 0.8, 1.0])
        if pixels.any():
            score, stability = int(rng.integers(levels_of_score)) / levels_of_score, float(rng.random())
            masks.append(Mask(box, pixels, score, stability).tightened())
    return masks


def on_the_plane(mask: Mask) -> np.ndarray:
    pixels = np.zeros(SHAPE, bool)
    pixels[mask.box.slices] = mask.pixels
    return pixels


def chosen_one_by_one(masks: list[Mask], options: FilterOptions) -> list[int]:
    """Choose as in a textbook: the best one that passes the filters, unless it overlaps one that was chosen before."""
    low, high = options.sizes
    chosen: list[int] = []
    for i in sorted(range(len(masks)), key=lambda i: (-np.float32(masks[i].iou_prediction), masks[i].box.as_tuple())):
        mask, ellipse = masks[i], masks[i].box.height * masks[i].box.width * np.pi / 4
        passes = (
            np.float32(mask.iou_prediction) >= options.confidence
            and np.float32(mask.stability_score) >= options.stability_score_thresh
            and low <= 2 * np.sqrt(mask.area / np.pi) <= high
            and min(mask.area / max(ellipse, 1), 1) >= options.min_solidity
        )
        shares = [(on_the_plane(mask) & on_the_plane(masks[j])).sum() / min(mask.area, masks[j].area) for j in chosen]
        if passes and all(share <= options.max_overlap for share in shares):
            chosen.append(i)
    return chosen


@st.composite
def filters(draw):
    low = draw(st.floats(0, 12))
    return FilterOptions(
        confidence=draw(st.floats(0, 1)),
        stability_score_thresh=draw(st.floats(0, 0.8)),
        sizes=(low, low + draw(st.floats(0.5, 60))),
        min_solidity=draw(st.floats(0, 1)),
        max_overlap=draw(st.sampled_from([0.0, 0.2, 0.35, 0.7, 1.0])),
    )


def found_of(masks: list[Mask]) -> FoundObjects:
    return FoundObjects(Plane.of(SHAPE), proposals_of(masks))


@settings(max_examples=60)
@given(st.integers(0, 30), st.integers(0, 2**31), st.one_of(st.just(FilterOptions(confidence=0)), filters()))
def test_what_counts_is_what_greedy_suppression_one_by_one_chooses(count, seed, options):
    masks = random_masks(count, seed)
    assert found_of(masks).select(options).tolist() == chosen_one_by_one(masks, options)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(0, 2**31), st.randoms(use_true_random=False), st.sampled_from([2, 5, 10**6]))
def test_the_order_in_which_tiles_were_done_does_not_change_what_counts(count, seed, random, levels_of_score):
    masks = random_masks(count, seed, levels_of_score)
    # Of equal scores the place decides, so two with one box and one score have no order.
    places = {(np.float32(mask.iou_prediction), mask.box.as_tuple()) for mask in masks}
    assume(len(places) == len(masks))
    order = list(range(count))
    random.shuffle(order)
    here, there = found_of(masks), found_of([masks[i] for i in order])
    options = FilterOptions(confidence=0.1)
    assert here.select(options).tolist() == [order[i] for i in there.select(options)]
    np.testing.assert_array_equal(here.labels(SHAPE, here.select(options)), there.labels(SHAPE, there.select(options)))


@settings(max_examples=60)
@given(st.integers(0, 40), st.integers(0, 2**31), st.floats(0, 1))
def test_suppression_of_pairs_keeps_who_has_no_better_rival_that_stays(count, seed, density):
    rng = np.random.default_rng(seed)
    ranks = rng.permutation(count)
    pairs = np.array([pair for pair in itertools.combinations(range(count), 2) if rng.random() < density], np.int64)
    first, second = pairs.reshape(-1, 2).T
    rivals = {frozenset(map(int, pair)) for pair in pairs}
    kept: list[int] = []
    for i in map(int, np.argsort(ranks)):
        if all(frozenset((i, j)) not in rivals for j in kept):
            kept.append(i)
    assert np.flatnonzero(~suppressed(ranks, first, second)).tolist() == sorted(kept)


def test_a_chain_in_which_each_hides_the_next_one_keeps_every_second_one():
    count = 2001
    ranks = np.arange(count)
    out = suppressed(ranks, np.arange(count - 1), np.arange(1, count))
    np.testing.assert_array_equal(out, ranks % 2 == 1)


@settings(max_examples=80)
@given(st.lists(some_boxes((3000, 3000)), max_size=12), st.lists(some_boxes((90, 90)), max_size=25))
def test_the_pairs_of_boxes_that_meet_are_those_with_a_common_pixel(large, small):
    boxes = np.array([box.as_tuple() for box in (*small, *large)], np.int64).reshape(-1, 4)
    order = np.random.default_rng(len(boxes)).permutation(len(boxes))
    first, second = meeting_boxes(boxes[order])
    expected = [
        (i, j)
        for i, j in itertools.combinations(range(len(boxes)), 2)
        if not Box(*map(int, boxes[order][i])).intersection(Box(*map(int, boxes[order][j]))).is_empty
    ]
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected


@settings(max_examples=40)
@given(st.integers(0, 25), st.integers(0, 2**31))
def test_the_common_pixels_of_a_pair_are_counted(count, seed):
    masks = random_masks(count, seed)
    overlaps = Overlaps.of(proposals_of(masks))
    expected = {
        (i, j): (on_the_plane(masks[i]) & on_the_plane(masks[j])).sum()
        for i, j in itertools.combinations(range(count), 2)
        if (on_the_plane(masks[i]) & on_the_plane(masks[j])).any()
    }
    found = zip(overlaps.first.tolist(), overlaps.second.tolist(), strict=True)
    assert dict(zip(found, overlaps.shared, strict=True)) == expected
    areas = np.array([mask.area for mask in masks], np.int64)
    shares = [shared / min(masks[i].area, masks[j].area) for (i, j), shared in expected.items()]
    np.testing.assert_allclose(overlaps.share_of_smaller(areas), shares)


@pytest.mark.parametrize("most", [1, 7, 2**20])
def test_common_pixels_are_the_same_however_many_are_compared_at_once(most, monkeypatch):
    monkeypatch.setattr(suppression, "MOST_WORDS", most)
    rng, masks = np.random.default_rng(3), []
    for _ in range(30):  # Of up to five words in a row, which begin anywhere in one.
        top, left, height, width = (int(rng.integers(*part)) for part in ((0, 30), (0, 300), (1, 20), (1, 260)))
        pixels = rng.random((height, width)) < 0.5
        pixels[0, 0] = True
        masks.append(Mask(Box(top, left, top + height, left + width), pixels, 0.5, 0.5))
    overlaps = Overlaps.of(proposals_of(masks))
    expected = [shared_pixels(one, other) for one, other in itertools.combinations(masks, 2)]
    counted = dict.fromkeys(itertools.combinations(range(30), 2), 0)
    found = zip(overlaps.first.tolist(), overlaps.second.tolist(), strict=True)
    counted.update(zip(found, overlaps.shared.tolist(), strict=True))
    assert list(counted.values()) == expected


def test_what_a_proposal_hid_comes_back_when_the_proposal_is_filtered_out():
    large = Mask(Box(10, 10, 40, 40), np.ones((30, 30), bool), 0.9, 0.5)
    inside = Mask(Box(20, 20, 30, 30), np.ones((10, 10), bool), 0.7, 0.9)
    found = found_of([inside, large])
    assert found.select().tolist() == [1]
    assert found.select(FilterOptions(sizes=(0, 20))).tolist() == [0]
    assert found.select(FilterOptions(stability_score_thresh=0.8)).tolist() == [0]
    assert found.select(FilterOptions(max_overlap=1.0)).tolist() == [1, 0]
    assert found.select().tolist() == [1], "a filter changes nothing that is found"


def test_a_filter_at_its_limit_keeps_what_equals_it():
    found = found_of([Mask(Box(0, 0, 10, 10), np.ones((10, 10), bool), 0.5, 0.25)])
    diameter = 2 * np.sqrt(100 / np.pi)
    assert len(found.select(FilterOptions(confidence=0.5, stability_score_thresh=0.25, sizes=(diameter, 99)))) == 1
    assert len(found.select(FilterOptions(confidence=0.5001))) == 0
    assert len(found.select(FilterOptions(stability_score_thresh=0.2501))) == 0


def test_of_overlapping_objects_the_better_one_keeps_the_pixels_in_a_label_image():
    better = Mask(Box(0, 0, 10, 10), np.ones((10, 10), bool), 0.9, 1.0)
    other = Mask(Box(8, 0, 20, 10), np.ones((12, 10), bool), 0.8, 1.0)
    labels = found_of([other, better]).labels(SHAPE)
    assert (labels == 1).sum() == 100
    assert (labels == 2).sum() == 100, "12 rows without the two that it shares"
    np.testing.assert_array_equal(found_of([other, better]).labels(SHAPE, np.array([0])) > 0, on_the_plane(other))


def test_nothing_found_is_nothing_selected():
    found = FoundObjects(Plane.of(SHAPE), Proposals.joined([]))
    assert len(found) == 0
    assert found.select().tolist() == []
    assert not found.labels(SHAPE).any()
    assert found.boxes.shape == (0, 4)
