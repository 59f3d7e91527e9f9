"""Undo takes back what was done last, whatever it was, and one action at a time; redo goes forth in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from tests.plugin.annotating import disc, image_of, labels_of, propose
from tests.plugin.annotating import make_controller as make_writer

from napari_sam.core.geometry import Plane
from napari_sam.journal.journal import open_journal
from napari_sam.testing import HeldRunner

PLANE = Plane((1, 2), (0, 0, 0))


@pytest.fixture
def controller(notes):
    """Five accepted objects, and no model that answers."""
    made = make_writer(image_of(), notes)
    for number in range(5):
        propose(made, disc(8 + 6 * number, 8 + 7 * number, 3), PLANE)
        made.commits.accept()
    yield made
    made.close()


def state(controller):
    """Return all that a step may change: prompts, labels, objects with their classes, and the names of the classes."""
    objects = controller.objects
    points = [] if controller.prompts.points is None else controller.prompts.points.data.tolist()
    rows = sorted((row.label, row.label_class and row.label_class.name) for row in objects.rows)
    return points, labels_of(controller).tobytes(), rows, [kind.name for kind in objects.classes]


def click(controller, row, col):
    controller.prompts.points.add(np.array([[0, row, col]], float))


STEPS = {
    "click": lambda c: click(c, 5, 5),
    "accept": lambda c: (propose(c, disc(30, 8, 3), PLANE), c.commits.accept()),
    "delete one": lambda c: c.objects.delete([2]),
    "delete several": lambda c: c.objects.delete([3, 4]),
    "give a class": lambda c: c.objects.classify([1, 5], "cell"),
    "rename the class": lambda c: c.objects.define_class("cell", renamed="nucleus"),
    "another click": lambda c: click(c, 20, 6),
    "leave it open": lambda c: c.editing.new_object(),
    "a click of another object": lambda c: click(c, 25, 30),
}


@pytest.mark.parametrize("seed", range(6))
def test_any_steps_are_taken_back_in_the_order_in_which_they_were_done(controller, seed):
    order = np.random.default_rng(seed).permutation(list(STEPS)).tolist()
    for first, then in (("give a class", "rename the class"), ("click", "leave it open")):
        a, b = sorted((order.index(first), order.index(then)))
        order[a], order[b] = first, then
    states = [state(controller)]
    for name in order:
        if name == "accept" and controller.session.is_begun:
            controller.editing.new_object()  # What is accepted has no prompts of its own here.
            states.append(state(controller))
        STEPS[name](controller)
        states.append(state(controller))
    for expected in states[-2::-1]:
        controller.undo.undo()
        assert state(controller) == expected
    for expected in states[1:]:
        controller.undo.redo()
        assert state(controller) == expected


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.objects.delete([1, 2, 3, 4, 5]),
        lambda c: c.objects.classify([1, 2, 3, 4, 5], "cell"),
        lambda c: c.objects.delete([2, 4]),
        lambda c: c.objects.classify([1, 3], "vessel"),
    ],
)
def test_one_action_on_many_objects_is_one_undo_and_one_redo(controller, act):
    before = state(controller)
    act(controller)
    after = state(controller)
    controller.undo.undo()
    assert state(controller)[:3] == before[:3]
    controller.undo.redo()
    assert state(controller) == after
    controller.undo.undo()
    controller.undo.undo()
    assert len(controller.objects.rows) == 4


def test_one_undo_takes_back_all_that_were_accepted_together(coins, make_controller):
    viewer = ViewerModel()
    viewer.add_image(coins, contrast_limits=(0, 255))
    controller = make_controller(viewer)
    controller.session.set_image(viewer.layers[0])
    for row, col in ((51, 155), (56, 99), (124, 205)):
        controller.prompts.points.add([[row, col]])
        controller.editing.new_object()
    controller.commits.accept_all()
    assert len(controller.objects.rows) == 3
    controller.undo.undo()
    assert controller.objects.rows == []
    assert len(controller.prompts.points.data) == 0
    controller.undo.redo()
    assert len(controller.objects.rows) == 3


def test_an_action_on_many_objects_is_one_undo_after_a_restart_too(controller, notes):
    controller.objects.delete([1, 2, 3, 4])
    folder = controller.objects.journal.journal.folder
    controller.close()
    assert len(open_journal(folder).entries) == 9
    again = make_writer(image_of(), notes)
    again.objects.resume()
    assert [row.label for row in again.objects.rows] == [5]
    again.undo.undo()
    assert sorted(row.label for row in again.objects.rows) == [1, 2, 3, 4, 5]
    again.close()


def test_undo_takes_an_accept_back_that_waits_for_its_answer(coins, make_controller):
    viewer, runner = ViewerModel(), HeldRunner()
    viewer.add_image(coins, contrast_limits=(0, 255))
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.layers[0])
    controller.prompts.points.add([[51, 155]])
    controller.commits.accept()
    assert controller.session.drafts.queued
    controller.undo.undo()
    assert not controller.session.drafts.queued
    assert controller.session.is_begun
    while runner.jobs:
        runner.release()
    assert controller.session.candidates is not None
    assert controller.session.target is None


def test_a_click_after_an_accept_that_is_being_written_is_taken_back_before_it(coins, make_controller, monkeypatch):
    monkeypatch.setattr("napari_sam.plugin.objects.journals.MAX_SYNC_PIXELS", 0)
    viewer, runner = ViewerModel(), HeldRunner()
    viewer.add_image(coins, contrast_limits=(0, 255))
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.layers[0])
    controller.prompts.points.add([[51, 155]])
    while runner.jobs:
        runner.release()
    controller.commits.accept()
    controller.prompts.points.add([[56, 99]])
    assert controller.session.is_writing
    controller.undo.undo()
    while runner.jobs:
        runner.release()
    assert len(controller.prompts.points.data) == 0
    assert [row.label for row in controller.objects.rows] == [1]
    controller.undo.undo()
    while runner.jobs:
        runner.release()
    assert controller.objects.rows == []


def test_undo_and_redo_of_one_object_wait_for_nothing_else_that_runs(notes):
    runner = HeldRunner()
    made = make_writer(image_of(), notes)
    for number in range(2):
        propose(made, disc(8 + 6 * number, 8 + 7 * number, 3), PLANE)
        made.commits.accept()
    made.journals._runner = runner
    for act in (lambda: made.objects.delete([1]), lambda: made.objects.classify([1], "cell")):
        before = state(made)
        act()
        after = state(made)
        made.undo.undo()
        assert state(made) == before
        made.undo.redo()
        assert state(made) == after
        made.undo.undo()
    assert runner.jobs == []
    made.objects.delete([1, 2])
    made.undo.undo()
    assert len(runner.jobs) == 1  # Of several, which may be many.
    runner.release()
    made.undo.redo()
    assert len(runner.jobs) == 1
    runner.release()
    assert not made.objects.rows
    made.close()
