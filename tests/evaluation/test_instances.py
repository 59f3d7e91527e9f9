"""Metrics of instance segmentation: by hand on small label images, and against a matching without shortcuts."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from skimage.metrics import contingency_table

from napari_sam.evaluation.instances import (
    THRESHOLDS,
    InstanceMatch,
    average_precision,
    f1_score,
    match_instances,
    mean_accuracy,
    panoptic_quality,
)


def row(*pixels: int) -> np.ndarray:
    """Return a label image of one row."""
    return np.array([pixels])


def bars(*bars: tuple[int, int, int], length: int = 60) -> np.ndarray:
    """Return a row of bars, each (label, start, stop)."""
    labels = np.zeros((1, length), np.int64)
    for label, start, stop in bars:
        labels[0, start:stop] = label
    return labels


# Three objects of 10 pixels: found exactly, found with 8 of 10 pixels (IoU 0.8), found with 6 of 12 (IoU 0.5), and a
# fourth that is missed; one prediction lies on nothing.
TRUTH = bars((7, 0, 10), (3, 12, 22), (900, 24, 34), (2, 48, 52))
FOUND = bars((1, 0, 10), (2, 12, 20), (3, 28, 36), (4, 40, 46))
SCORES = np.array([0.9, 0.6, 0.7, 0.8])


def test_the_matching_of_a_hand_made_row() -> None:
    match = match_instances(FOUND, TRUTH, SCORES)
    assert match.objects == 4
    np.testing.assert_allclose(match.ious, [1, 0.8, 0.5, 0])
    assert match.counts() == (3, 1, 1)
    assert match.counts(0.55) == match.counts(0.8) == (2, 2, 2)
    assert match.counts(0.85) == (1, 3, 3)


def test_msa_is_the_mean_over_thresholds_of_true_positives_among_all() -> None:
    by_hand = (3 / 5 + 6 * (2 / 6) + 3 * (1 / 7)) / 10
    assert mean_accuracy([match_instances(FOUND, TRUTH)]) == pytest.approx(by_hand)


def test_f1_and_panoptic_quality_count_the_matches_at_one_half() -> None:
    match = match_instances(FOUND, TRUTH)
    assert f1_score([match]) == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert panoptic_quality([match]) == pytest.approx((1 + 0.8 + 0.5) / (3 + 0.5 + 0.5))


def test_average_precision_of_ranked_predictions() -> None:
    """Ranked: right, wrong, right, right; so the precision is 1 up to recall 1/4, and 3/4 up to recall 3/4."""
    by_hand = (26 * 1 + 50 * 0.75 + 25 * 0) / 101
    assert average_precision([match_instances(FOUND, TRUTH, SCORES)]) == pytest.approx(by_hand)


def test_predictions_of_all_images_are_ranked_together_and_msa_is_the_mean_of_the_images() -> None:
    good = match_instances(row(1, 1, 0, 0), row(1, 1, 0, 0), np.array([0.5]))
    bad = match_instances(row(1, 1, 0, 0), row(0, 0, 1, 1), np.array([0.6]))
    assert mean_accuracy([good, bad]) == 0.5
    assert f1_score([good, bad]) == 2 / 4
    assert average_precision([good, bad]) == pytest.approx(51 * 0.5 / 101), "the wrong one ranks first"


def test_a_threshold_that_the_iou_equals_is_reached() -> None:
    for covered, threshold in ((11, 0.55), (12, 0.6), (13, 0.65), (14, 0.7), (17, 0.85), (18, 0.9), (19, 0.95)):
        match = match_instances(bars((1, 0, covered)), bars((1, 0, 20)))
        assert threshold in THRESHOLDS
        assert match.counts(threshold) == (1, 0, 0)


def test_of_two_exact_halves_one_is_a_match() -> None:
    halves, whole = row(1, 1, 2, 2), row(5, 5, 5, 5)
    assert match_instances(halves, whole).ious.tolist() == [0.5, 0]
    assert match_instances(whole, halves).counts() == (1, 0, 1)


def test_a_label_without_a_pixel_is_no_prediction() -> None:
    match = match_instances(row(0, 3, 3, 0), row(0, 1, 1, 0), np.array([0.1, 0.2, 0.3, 0.4]))
    assert match.ious.tolist() == [1.0]
    assert match.scores.tolist() == [0.3]


def test_ignored_pixels_are_removed_before_predictions_are_compared() -> None:
    ignored = np.arange(60)[None] < 4
    truth = np.where(ignored, 0, bars((1, 0, 10)))
    match = match_instances(bars((1, 0, 10)), truth, ignored=ignored)
    assert match.ious.tolist() == [1.0]


def test_predictions_mostly_in_ignored_pixels_are_no_errors() -> None:
    """Of 10 pixels, 6 are ignored, or 5; the latter is an error. What matches an object counts all the same."""
    ignored = np.arange(60)[None] >= 30
    mostly, half = bars((1, 26, 36)), bars((1, 25, 35))
    assert match_instances(mostly, bars(), ignored=ignored).counts() == (0, 0, 0)
    assert match_instances(half, bars(), ignored=ignored).counts() == (0, 1, 0)
    assert match_instances(mostly, bars((1, 26, 30)), ignored=ignored).counts() == (1, 0, 0)
    assert match_instances(mostly, bars((1, 27, 30)), ignored=ignored).counts(0.8) == (0, 0, 1)


def test_ignored_and_unlabeled_predictions_do_not_change_the_average_precision() -> None:
    ignored = np.arange(60)[None] >= 30
    found, scores = bars((1, 0, 10), (2, 40, 50), (3, 20, 25)), np.array([0.1, 0.9, 0.8])
    assert average_precision([match_instances(found, bars((1, 0, 10)), scores, ignored=ignored)]) == pytest.approx(0.5)
    partial = match_instances(found, bars((1, 0, 10)), scores, ignored=ignored, is_partial=True)
    assert average_precision([partial]) == 1


def test_where_labels_are_partial_only_what_meets_a_labeled_object_is_an_error() -> None:
    truth = bars((1, 0, 10), (2, 50, 60))
    found = bars((1, 0, 10), (2, 20, 30), (3, 49, 51))
    assert match_instances(found, truth).counts() == (1, 2, 1)
    assert match_instances(found, truth, is_partial=True).counts() == (1, 1, 1)


def test_images_without_objects() -> None:
    empty = bars()
    nothing, wrong = match_instances(empty, empty), match_instances(bars((1, 0, 10)), empty)
    assert [mean_accuracy([nothing]), f1_score([nothing]), panoptic_quality([nothing])] == [None] * 3
    assert average_precision([nothing, wrong]) is None
    assert mean_accuracy([wrong]) == f1_score([wrong]) == panoptic_quality([wrong]) == 0
    missed = match_instances(empty, bars((1, 0, 10)))
    assert mean_accuracy([missed]) == f1_score([missed]) == average_precision([missed]) == 0
    perfect = match_instances(bars((1, 0, 10)), bars((1, 0, 10)))
    assert mean_accuracy([nothing, perfect]) == 1, "an image without anything says nothing"
    assert mean_accuracy([wrong, perfect]) == 0.5


# Against the definitions, without shortcuts


def dense_ious(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the IoU of every object with every prediction, shape (objects, predictions)."""
    table = contingency_table(truth, predicted).toarray()
    ious = table / (table.sum(1, keepdims=True) + table.sum(0) - table + 1e-300)
    return ious[1:][table[1:].any(1)][:, 1:][:, table[:, 1:].any(0)]


def best_assignment(ious: np.ndarray, threshold: float) -> int:
    """Return the largest number of pairs, as StarDist and micro-sam (elf) find it."""
    if not ious.size:
        return 0
    costs = -(ious >= threshold).astype(float) - ious / (2 * min(ious.shape))
    pairs = linear_sum_assignment(costs)
    return int(np.count_nonzero(ious[pairs] >= threshold))


def coco_precision(matches: list[InstanceMatch]) -> float:
    """Return the average precision as a loop over predictions and recalls."""
    ranked = sorted((-s, not iou >= 0.5) for match in matches for s, iou in zip(match.scores, match.ious, strict=True))
    objects, points, found = sum(match.objects for match in matches), [], 0
    for count, (_, is_wrong) in enumerate(ranked, 1):
        found += not is_wrong
        points.append((found / objects, found / count))
    recalls = [percent / 100 for percent in range(101)]
    return sum(max([p for r, p in points if r >= recall], default=0) for recall in recalls) / 101


@st.composite
def label_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two small label images that have much in common."""
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    truth = np.kron(random.integers(0, draw(st.integers(1, 6)), (3, 4)), np.ones((2, 2), int))
    predicted = random.permutation(7)[truth]
    changed = random.random(truth.shape) < draw(st.sampled_from([0, 0.2, 0.5]))
    return np.where(changed, random.integers(0, 7, truth.shape), predicted), truth


@given(label_pairs())
def test_the_counts_are_those_of_the_best_assignment(pair: tuple[np.ndarray, np.ndarray]) -> None:
    match, ious = match_instances(*pair), dense_ious(*pair)
    assert (match.objects, len(match.ious)) == ious.shape
    for threshold in THRESHOLDS:
        found, wrong, missed = match.counts(threshold)
        assert found == best_assignment(ious, threshold)
        assert (found + missed, found + wrong) == ious.shape


@given(st.lists(label_pairs(), min_size=1, max_size=4))
def test_the_average_precision_is_that_of_a_loop_over_ranked_predictions(
    pairs: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    scores = np.random.default_rng(len(pairs)).permutation(28).reshape(4, 7) / 28
    matches = [match_instances(*pair, ranks) for pair, ranks in zip(pairs, scores, strict=False)]
    if any(match.objects for match in matches):
        assert average_precision(matches) == pytest.approx(coco_precision(matches))


def test_a_hundred_thousand_objects_take_seconds() -> None:
    side, cell = 317, 12
    labels = np.kron(np.arange(1, side**2 + 1, dtype=np.int32).reshape(side, side), np.ones((cell, cell), np.int32))
    rows, cols = np.ogrid[: side * cell, : side * cell]
    truth = np.where((rows % cell < 10) & (cols % cell < 10), labels, 0)
    found = np.where((rows % cell < 10) & (cols % cell < 8), labels, 0)
    start = perf_counter()
    match = match_instances(found, truth)
    assert perf_counter() - start < 20  # Measured: 1 s.
    assert match.counts(0.8) == (side**2, 0, 0)
    assert mean_accuracy([match]) == pytest.approx(0.7)
