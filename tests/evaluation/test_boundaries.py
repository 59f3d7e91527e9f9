"""Boundary F: which pixels are a boundary, which of them match, and what becomes of ignored ones."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluation.labelled import FLAT, nothing

from napari_sam.evaluation.boundaries import boundary_f, boundary_of, f_score
from napari_sam.evaluation.datasets import TargetObject


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = nothing((100, 100))
    mask[top : top + side, left : left + side] = True
    return mask


def target(truth: np.ndarray, ignored: np.ndarray | None = None) -> TargetObject:
    return TargetObject(FLAT, truth, ignored)


def test_the_boundary_of_a_square_is_its_outermost_ring() -> None:
    ring = square(20, 30, 6) & ~square(21, 31, 4)
    np.testing.assert_array_equal(boundary_of(square(20, 30, 6)), ring)


def test_the_edge_of_the_image_is_no_boundary() -> None:
    boundary = boundary_of(square(0, 0, 6))
    assert np.argwhere(boundary).tolist() == [*([row, 5] for row in range(5)), *([5, col] for col in range(6))]
    assert not boundary_of(np.ones((5, 5), bool)).any()


def test_a_shift_within_the_tolerance_is_no_error_and_one_beyond_it_is() -> None:
    truth = square(40, 40, 20)
    assert boundary_f(square(42, 40, 20), target(truth)) == 1.0
    assert boundary_f(square(43, 40, 20), target(truth)) < 1.0


def test_the_score_is_the_harmonic_mean_of_precision_and_recall() -> None:
    guess, truth = nothing((1, 40)), nothing((1, 40))
    guess[0, [0, 1, 2, 30]] = True  # Of 4 pixels, 3 lie within 2 pixels of the truth.
    truth[0, [2, 20]] = True  # Of 2 pixels, 1 lies within 2 pixels of the guess.
    assert f_score(guess, truth, 2.0) == pytest.approx(2 * 0.75 * 0.5 / (0.75 + 0.5))
    assert f_score(guess, truth, 1.0) == pytest.approx(2 * 0.5 * 0.5 / (0.5 + 0.5))


def test_boundaries_that_never_meet_score_0() -> None:
    assert boundary_f(square(70, 70, 10), target(square(10, 10, 10))) == 0.0


def test_an_empty_answer_scores_0_and_two_empty_boundaries_score_1() -> None:
    assert boundary_f(nothing((100, 100)), target(square(40, 40, 20))) == 0.0
    assert f_score(nothing((5, 5)), nothing((5, 5)), 2.0) == 1.0


def test_what_an_answer_covers_of_ignored_pixels_has_no_boundary() -> None:
    truth, ignored = square(20, 20, 20), square(60, 60, 20)
    assert boundary_f(truth | ignored, target(truth, ignored)) == 1.0
    assert boundary_f(truth | ignored, target(truth)) == pytest.approx(2 * 0.5 / 1.5)
