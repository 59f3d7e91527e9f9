"""What is shown while an answer is under way, and what does not have to wait for a model."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sam.plugin.inference.contrast_presets import FULL, PERCENTILES, set_limits
from napari_sam.plugin.layers.factory import HOVER_OPACITY, PREVIEW_OPACITY
from napari_sam.plugin.workers.runner import LatestRunner, Work
from napari_sam.testing import TIMEOUT, HeldRunner, ImmediateRunner

COIN, NEIGHBOUR = (51, 155), (56, 99)


class StepRunner(ImmediateRunner):
    """Runs what can wait when it is told to, and keeps requests until `release`."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def submit(self, job, done, failed, report):
        self.requests.append((job, done, failed, report))

    def release(self):
        while self.requests:
            ImmediateRunner.submit(self, *self.requests.pop(0))


@pytest.fixture
def working(coins, make_controller):
    """A controller whose model is loaded and whose view is not encoded yet."""
    viewer, runner = ViewerModel(), StepRunner()
    image = viewer.add_image(coins, contrast_limits=(0, 255))
    viewer.scene.camera.zoom = 2
    controller = make_controller(viewer, runner)
    controller.session.set_image(image)
    runner.release()
    return controller, runner


def expected(controller, point):
    """Return the mask that a click gives where everything is encoded."""
    segmenter = controller.jobs.segmenter
    return segmenter.segment(points=[point], downsample=0.5).best


def same(a, b):
    return a.box == b.box and np.array_equal(a.pixels, b.pixels)


def test_a_click_while_tiles_are_encoding_keeps_no_mask_of_the_mouse(working):
    controller, runner = working
    controller.prefetcher.rested()
    while controller.hover.shown is None:  # One tile more at a time, until the mouse has a preview.
        controller.hover.move_to(COIN)
        assert runner.run_idle(limit=1)
    assert controller.prefetcher.is_encoding
    controller.prompts.points.add([COIN])
    assert controller.session.is_busy
    assert controller.session.candidates is None
    assert not controller.preview.layers.current.visible
    runner.release()
    assert controller.preview.layers.current.visible
    assert same(controller.session.candidates.best, expected(controller, COIN))


def test_a_click_before_the_look_is_at_its_end_is_answered_anew(working, monkeypatch):
    controller, runner = working
    controller.prefetcher.rested()
    runner.run_idle()
    controller.hover.move_to(COIN)
    runner.run_idle(limit=1)
    assert controller.hover.shown is not None
    controller.prompts.points.add([COIN])
    assert controller.session.is_busy
    assert not controller.preview.layers.current.visible
    runner.release()
    assert same(controller.session.candidates.best, expected(controller, COIN))


def test_a_click_elsewhere_takes_the_mask_under_the_mouse_away_at_once(working):
    controller, runner = working
    controller.prefetcher.rested()
    runner.run_idle()
    controller.hover.move_to(COIN)
    runner.run_idle()
    assert controller.preview.layers.current.visible
    controller.prompts.points.add([NEIGHBOUR])
    assert controller.session.is_busy
    assert not controller.preview.layers.current.visible


def test_the_last_answer_fades_while_a_newer_one_is_under_way(working):
    controller, runner = working
    controller.prompts.points.add([COIN])
    runner.release()
    assert controller.preview.layers.current.opacity == PREVIEW_OPACITY
    controller.prompts.points.add([(60, 160)])
    assert controller.session.is_busy
    assert controller.preview.layers.current.opacity == HOVER_OPACITY
    assert controller.session.status.startswith("Segmenting")
    runner.release()
    assert controller.preview.layers.current.opacity == PREVIEW_OPACITY


@pytest.fixture
def without_model(coins, make_controller):
    """A controller whose model never comes: jobs that need one are never run."""
    viewer, runner = ViewerModel(), HeldRunner()
    image = viewer.add_image(coins, contrast_limits=(0, 100))
    controller = make_controller(viewer, runner)
    controller.session.set_image(image)
    assert controller.session.is_warming
    return controller


@pytest.mark.parametrize(("preset", "limits"), [("CT lung", (-1350, 150)), (FULL, (0, 255)), (PERCENTILES, (10, 216))])
def test_a_contrast_preset_needs_no_model(without_model, preset, limits):
    set_limits(without_model.session, without_model.runner, preset)
    np.testing.assert_allclose(without_model.session.image.contrast_limits, limits, atol=12)


def test_work_that_was_left_is_continued_without_a_model(coins, make_controller, notes):
    viewer = ViewerModel()
    first = make_controller(viewer)
    first.session.set_image(viewer.add_image(coins, contrast_limits=(0, 255)))
    first.prompts.points.add([COIN])
    first.commits.accept()
    labels = first.session.target.data.copy()
    first.close()
    viewer = ViewerModel()
    controller = make_controller(viewer, HeldRunner())
    controller.session.set_model("no such model", "cpu")
    controller.session.set_image(viewer.add_image(coins, contrast_limits=(0, 255)))
    assert controller.objects.offer.count == 1
    controller.objects.resume()
    np.testing.assert_array_equal(controller.session.target.data, labels)
    controller.editing.reopen(1)
    assert controller.session.candidates is not None
    assert notes == []


def test_jobs_without_a_model_run_beside_one_that_waits_for_it(qtbot):
    runner, gate, order = LatestRunner(), threading.Event(), []
    runner.submit(lambda _: gate.wait(TIMEOUT), lambda _: order.append("model"), order.append, order.append)
    runner.submit_apart(Work(lambda _: "first", order.append, order.append))
    runner.submit_apart(Work(lambda _: "second", order.append, order.append))
    qtbot.waitUntil(lambda: order == ["first", "second"])
    gate.set()
    qtbot.waitUntil(lambda: order[-1] == "model")
    runner.close()


def test_a_runner_that_knows_no_jobs_apart_runs_them_as_it_runs_writes():
    from tests.plugin.annotating import WritesOnly

    from napari_sam.plugin.workers.runner import apart

    done = []
    apart(WritesOnly())(Work(lambda _: 7, done.append, done.append))
    assert done == [7]
