"""Actions on several objects are undone and redone in one step, also after the journal was opened again."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.journal.journal import Journal
from napari_sam.labels.array import LabelArray

PLANE = Plane((0, 1), (0, 0))


@pytest.fixture
def labels():
    return np.zeros((20, 40), np.uint16)


@pytest.fixture(params=[False, True], ids=["at once", "opened again"])
def begin(request, tmp_path, labels):
    """Return what goes on with the journal: the same one, or one that is opened anew."""
    opened = []

    def go_on():
        if not opened or request.param:
            for each in opened:
                each.close()
            opened.append(Journal(tmp_path / "labels.journal", LabelArray(labels)))
        return opened[-1]

    yield go_on
    opened[-1].close()


def accept(journal, number):
    left = 5 * number
    return journal.accept(PLANE, Mask(Box(2, left, 6, left + 4), np.ones((4, 4), bool)))


def test_what_was_done_together_is_taken_back_and_done_again_together(begin, labels):
    for number in range(5):
        accept(begin(), number)
    all_there = labels.copy()
    journal = begin()
    with journal.together():
        for label in (2, 3, 5):
            journal.delete(label)
    some_there = labels.copy()
    assert [entry.group for entry in journal.entries][-3:] == [None, 6, 6]
    assert [entry.label for entry in begin().undo_together()] == [5, 3, 2]
    np.testing.assert_array_equal(labels, all_there)
    assert [entry.label for entry in begin().redo_together()] == [2, 3, 5]
    np.testing.assert_array_equal(labels, some_there)
    begin().undo_together()
    assert [entry.label for entry in begin().undo_together()] == [5]
    np.testing.assert_array_equal(labels, np.where(all_there == 5, 0, all_there))


def test_two_actions_in_a_row_are_two_steps(begin):
    for number in range(4):
        accept(begin(), number)
    for labels in ((1, 2), (3, 4)):
        journal = begin()
        with journal.together():
            for label in labels:
                journal.classify(label, "cell")
    assert [entry.label for entry in begin().undo_together()] == [4, 3]
    assert [entry.label for entry in begin().undo_together()] == [2, 1]
    assert [entry.label for entry in begin().undo_together()] == [4]


def test_an_action_that_goes_on_later_is_one_step(begin):
    journal = begin()
    with journal.together():
        first = accept(journal, 0)
    with journal.together(first.number):
        accept(journal, 1)
    accept(journal, 2)
    assert [entry.label for entry in begin().undo_together()] == [3]
    assert [entry.label for entry in begin().undo_together()] == [2, 1]
    assert begin().undo_together() == []
    assert [entry.label for entry in begin().redo_together()] == [1, 2]


def test_one_step_of_undo_alone_takes_one_operation_back(begin):
    journal = begin()
    with journal.together():
        accept(journal, 0)
        accept(journal, 1)
    assert begin().undo().label == 2
    assert [entry.label for entry in begin().undo_together()] == [1]
