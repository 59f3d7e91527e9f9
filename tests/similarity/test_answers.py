"""Answers correct the likeness of what is near them, and the others hardly."""

from __future__ import annotations

import numpy as np
import pytest
from tests.similarity.test_likeness import traits

from napari_sam.similarity.answers import learned_logits
from napari_sam.similarity.likeness import Traits

OBJECTS = traits([0, 0, 40, 80])
PRIOR = np.array([0.5, -0.5, 0.0, -3.0])


def after(numbers: list[int], is_accepted: list[bool], objects: Traits = OBJECTS) -> np.ndarray:
    """Return the change of each logit by answers about some of the objects."""
    told = objects.taken(np.array(numbers, np.intp))
    return learned_logits(PRIOR, objects, told, PRIOR[numbers], np.array(is_accepted, bool)) - PRIOR


def test_an_accepted_object_raises_equal_ones_and_a_rejected_one_lowers_them() -> None:
    accepted, rejected = after([0], [True]), after([0], [False])
    assert accepted[0] == accepted[1] > 0.5
    assert rejected[0] == rejected[1] < -0.5
    assert 0 < accepted[2] < 0.3 * accepted[0], "what is far off changes a little"
    assert 0 > rejected[2] > 0.3 * rejected[0]


def test_a_surprising_answer_changes_more_than_an_expected_one() -> None:
    assert after([3], [True])[3] > after([0], [True])[0] > 0
    assert abs(after([3], [False])[3]) < abs(after([0], [False])[0])


def test_more_answers_of_one_kind_change_more_and_opposite_ones_cancel_out() -> None:
    once, twice = after([0], [True]), after([0, 1], [True, True])
    assert twice[0] > once[0]
    both = after([0, 1], [True, False])
    assert abs(both[0]) < 0.5 * once[0]


def test_the_order_of_answers_does_not_matter() -> None:
    numbers, answers = [0, 1, 2, 3], [True, False, True, False]
    first, second = after(numbers, answers), after(numbers[::-1], answers[::-1])
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_no_answer_changes_nothing() -> None:
    np.testing.assert_array_equal(after([], []), 0)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_hundreds_of_answers_about_equal_objects_have_finite_results(share: float) -> None:
    count = 300
    told = traits([0] * count)
    is_accepted = np.arange(count) < share * count
    logits = learned_logits(np.zeros(1), traits([0]), told, np.zeros(count), is_accepted)
    assert np.isfinite(logits).all()
    assert np.sign(np.round(logits[0], 1)) == np.sign(share - 0.5)
