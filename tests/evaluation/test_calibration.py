"""Calibration of the predicted IoU, against values computed by hand."""

from __future__ import annotations

import pytest

from napari_sam.evaluation.calibration import bias, calibration_error


def test_the_calibration_error_is_the_gap_of_each_bin_by_its_number_of_answers() -> None:
    # Bin 0.2 to 0.3: mean 0.25 against 0.5, two answers. Bin 0.9 to 1: mean 0.95 against 0.75, two answers.
    predicted, true = [0.22, 0.28, 0.9, 1.0], [0.4, 0.6, 0.5, 1.0]
    assert calibration_error(predicted, true) == pytest.approx((2 * 0.25 + 2 * 0.2) / 4)


def test_errors_cancel_in_a_bin_but_not_between_bins() -> None:
    assert calibration_error([0.55, 0.55], [0.25, 0.85]) == pytest.approx(0.0)
    assert calibration_error([0.45, 0.55], [0.15, 0.85]) == pytest.approx(0.3)


def test_the_bias_is_positive_where_the_model_is_too_sure() -> None:
    assert bias([0.9, 0.7], [0.5, 0.6]) == pytest.approx(0.25)
    assert bias([0.1, 0.7], [0.5, 0.7]) == pytest.approx(-0.2)


def test_without_answers_there_is_no_calibration() -> None:
    assert calibration_error([], []) is None
    assert bias([], []) is None
