"""The mask under the cursor before any click."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sam.testing import HeldRunner, ImmediateRunner

COIN, NEIGHBOUR, DARK = (51, 155), (56, 99), (10, 10)


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def shown(preview, shape):
    """What the preview shows, on the whole image."""
    picture = np.zeros(shape, bool)
    top, left = np.rint(preview.data_to_world((0, 0))).astype(int)
    height, width = preview.data.shape
    picture[top : top + height, left : left + width] = preview.data > 0
    return picture & preview.visible


class Counting:
    """Counts what a segmenter encodes and decodes."""

    def __init__(self, segmenter, monkeypatch):
        self.encoded = self.decoded = 0
        predictor = segmenter.predictor
        encode, decode = predictor.encode, predictor.decode

        def counted_encode(tiles):
            self.encoded += len(tiles)
            return encode(tiles)

        def counted_decode(embedding, prompts):
            self.decoded += 1
            return decode(embedding, prompts)

        monkeypatch.setattr(predictor, "encode", counted_encode)
        monkeypatch.setattr(predictor, "decode", counted_decode)


@pytest.fixture
def working(coins, make_controller):
    """A controller whose view is encoded, and its runner."""
    viewer = ViewerModel()
    viewer.add_image(coins, name="coins")
    viewer.scene.camera.zoom = 2
    runner = ImmediateRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.layers["coins"])
    controller.prefetcher.rested()
    runner.run_idle()
    return controller, runner


def hover(controller, runner, point):
    controller.hover.move_to(point)
    runner.run_idle()


def test_the_mask_under_the_cursor_is_shown_and_nothing_is_encoded_for_it(working, coin_labels, monkeypatch):
    controller, runner = working
    count = Counting(controller.jobs.segmenter, monkeypatch)
    for point in (COIN, NEIGHBOUR):
        hover(controller, runner, point)
        assert (
            iou(shown(controller.preview.layers.current, coin_labels.shape), coin_labels == coin_labels[point]) > 0.85
        )
    assert count.encoded == 0
    assert count.decoded > 0
    assert controller.session.candidates is None
    hover(controller, runner, (-5, 10))
    assert not controller.preview.layers.current.visible


def test_the_click_takes_the_mask_that_is_shown_and_decodes_nothing(working, coin_labels, monkeypatch):
    controller, runner = working
    hover(controller, runner, COIN)
    before = controller.hover.shown
    count = Counting(controller.jobs.segmenter, monkeypatch)
    controller.prompts.points.add(np.array([COIN], float))
    assert controller.session.candidates is before
    assert (count.encoded, count.decoded) == (0, 0)
    assert iou(shown(controller.preview.layers.current, coin_labels.shape), coin_labels == coin_labels[COIN]) > 0.85
    controller.commits.accept()
    assert iou(controller.session.target.data == 1, coin_labels == coin_labels[COIN]) > 0.85


def test_the_preview_is_the_mask_of_a_click_once_all_tiles_of_the_click_are_encoded(working, coin_labels):
    controller, runner = working
    segmenter = controller.jobs.segmenter
    for point in (COIN, NEIGHBOUR, DARK):
        clicked = segmenter.segment(points=[point], downsample=0.5)
        hover(controller, runner, point)
        shown_now = controller.hover.shown
        assert shown_now.best.tile == clicked.best.tile
        np.testing.assert_array_equal(
            shown_now.best.to_array(coin_labels.shape), clicked.best.to_array(coin_labels.shape)
        )
        # The last tile often leaves the best mask as it is and changes its score.
        np.testing.assert_allclose(
            [mask.iou_prediction for mask in shown_now], [mask.iou_prediction for mask in clicked], atol=1e-5
        )


def test_a_click_takes_the_mask_that_is_shown_although_the_hand_moved_a_pixel_while_it_pressed(working, monkeypatch):
    controller, runner = working
    hover(controller, runner, COIN)
    before = controller.hover.shown
    controller.hover.move_to((COIN[0], COIN[1] + 1))
    assert controller.hover.next_work() is not None  # A search at the newer position has begun.
    count = Counting(controller.jobs.segmenter, monkeypatch)
    controller.prompts.points.add(np.array([(COIN[0], COIN[1] + 1)], float))
    assert controller.session.candidates is before
    assert (count.encoded, count.decoded) == (0, 0)


def test_a_click_elsewhere_is_answered_anew(working, monkeypatch):
    controller, runner = working
    hover(controller, runner, COIN)
    before = controller.hover.shown
    controller.prompts.points.add(np.array([NEIGHBOUR], float))
    assert controller.session.candidates is not before
    assert controller.session.candidates.best.box.contains_point(*NEIGHBOUR)


def test_where_nothing_is_encoded_nothing_is_shown(coins, make_controller, monkeypatch):
    viewer = ViewerModel()
    runner = ImmediateRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.add_image(coins))
    count = Counting(controller.jobs.segmenter, monkeypatch)
    controller.prefetcher.enabled = False
    controller.prefetcher.rested()
    hover(controller, runner, COIN)
    assert (count.encoded, count.decoded) == (0, 0)
    assert not controller.preview.layers.current.visible


def test_a_mouse_that_rests_has_its_preview_as_soon_as_its_place_is_encoded(coins, coin_labels, make_controller):
    viewer = ViewerModel()
    runner = ImmediateRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.add_image(coins))
    controller.prefetcher.enabled = False
    controller.prefetcher.rested()
    hover(controller, runner, COIN)
    assert controller.hover.shown is None
    controller.prefetcher.enabled = True
    controller.prefetcher.rested()
    runner.run_idle()
    assert iou(shown(controller.preview.layers.current, coin_labels.shape), coin_labels == coin_labels[COIN]) > 0.85


def test_only_the_newest_place_is_looked_at(working, monkeypatch):
    controller, runner = working
    for point in (DARK, (20, 20), (30, 140), COIN):
        controller.hover.move_to(point)
    runner.run_idle(limit=1)
    assert controller.hover.shown.best.box.contains_point(*COIN)


@pytest.mark.parametrize("why", ["prompts", "negative", "tool", "off", "plane", "contrast"])
def test_the_preview_has_its_place_only_before_the_first_prompt_of_an_object(working, why):
    controller, runner = working
    hover(controller, runner, COIN)
    assert controller.preview.layers.current.visible
    if why == "prompts":
        controller.prompts.points.add(np.array([NEIGHBOUR], float))
        before = controller.session.candidates
        hover(controller, runner, COIN)
        assert controller.session.candidates is before
        assert controller.hover.shown is None
        return
    if why == "negative":
        controller.prompts.toggle_sign()
    elif why == "tool":
        controller.editing.activate("box")
    elif why == "off":
        controller.hover.set_enabled(False)
    elif why == "plane":
        controller.viewer.dims.ndisplay = 3
    else:
        controller.session.image.contrast_limits = (0, 77)
    assert not controller.preview.layers.current.visible
    if why != "contrast":
        hover(controller, runner, NEIGHBOUR)
        assert not controller.preview.layers.current.visible


def test_an_answer_that_comes_after_the_mouse_has_left_is_dropped(coins, make_controller):
    viewer = ViewerModel()
    runner = ImmediateRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.add_image(coins))
    controller.prefetcher.rested()
    runner.run_idle()
    controller.hover.move_to(COIN)
    work = runner.idle()
    controller.hover.leave()
    HeldRunner.submit(HeldRunner(), work.job, work.done, work.failed, work.report)
    work.done(work.job(lambda _: None))
    assert not controller.preview.layers.current.visible


def test_before_the_click_n_chooses_the_size_that_the_click_takes(working):
    controller, runner = working
    hover(controller, runner, COIN)
    controller.editing.cycle(2 - controller.hover._host.index_in(controller.hover.shown))
    hover(controller, runner, (COIN[0] + 1, COIN[1]))
    large = controller.hover.shown[2]
    controller.prompts.points.add(np.array([[COIN[0] + 1, COIN[1]]], float))
    assert controller.session.candidates[controller.session.current.selected] is large
    controller.commits.accept()
    hover(controller, runner, NEIGHBOUR)
    controller.prompts.points.add(np.array([NEIGHBOUR], float))
    assert controller.session.current.selected == controller.session.candidates.best_index


def test_masks_larger_than_the_window_that_is_kept_move_it(working, monkeypatch):
    from napari_sam.plugin.layers import factory as own_layers

    monkeypatch.setattr(own_layers, "WINDOW_SIDE", 20)
    controller, runner = working
    shape = controller.session.image.data.shape
    for point in (COIN, (48, 150), NEIGHBOUR, (124, 205)):
        hover(controller, runner, point)
        found = controller.hover.shown.best.to_array(shape)
        np.testing.assert_array_equal(shown(controller.preview.layers.current, shape), found)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_it_lies_in_its_place_on_any_plane(make_controller, coins, order):
    volume = np.zeros((3, *coins.shape), np.uint8)
    volume[1] = coins
    viewer = ViewerModel()
    image = viewer.add_image(np.moveaxis(volume, (0, 1, 2), order), contrast_limits=(0, 255), rgb=False)
    viewer.dims.order = order
    viewer.dims.set_point(order[0], 1)
    runner = ImmediateRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(image)
    controller.prefetcher.rested()
    runner.run_idle()
    for at in (COIN, NEIGHBOUR):
        point = np.empty(3)
        point[list(order)] = (1, *at)
        hover(controller, runner, point)
        mask = controller.hover.shown.best
        corner = np.asarray(controller.preview.layers.current.data_to_world((0, 0, 0)))[list(order)]
        assert corner[0] == 1
        section = np.moveaxis(controller.preview.layers.current.data, order, (0, 1, 2))[0]
        rows, cols = np.nonzero(section)
        assert (rows.min() + corner[1], cols.min() + corner[2]) == (mask.box.top, mask.box.left)
        assert len(rows) == mask.area


def test_twenty_coins_by_hover_click_and_c_in_a_real_window(screen, open_window, coins, coin_labels, told):
    window = open_window(coins, name="coins")
    window.viewer.scene.camera.zoom /= 1.5  # All of it is to be in view.
    window.wait_ready()
    places = [np.argwhere(coin_labels == label).mean(0) for label in range(1, coin_labels.max() + 1)]
    taken = 0
    for place in places[:20]:
        window.hover(place)
        before = window.controller.hover.shown
        window.click(place)
        taken += before is not None and window.controller.session.candidates is before
        window.key(Qt.Key.Key_C)
    labels = window.controller.session.target.data
    scores = [iou(labels == i + 1, coin_labels == i + 1) for i in range(20)]
    assert np.mean(scores) > 0.9
    assert taken >= 19
    assert told == []


def test_leaving_the_canvas_takes_the_preview_away(screen, open_window, coins):
    window = open_window(coins, name="coins")
    window.wait_ready()
    window.hover(COIN)
    assert window.controller.preview.layers.current.visible
    QApplication.sendEvent(window.canvas, QEvent(QEvent.Type.Leave))
    assert not window.controller.preview.layers.current.visible
    window.hover(COIN)
    window.widget.prompts.hover.setChecked(False)
    assert not window.controller.preview.layers.current.visible
    window.hover(NEIGHBOUR)
    assert not window.controller.preview.layers.current.visible
    window.widget.prompts.hover.setChecked(True)
    window.hover(COIN)
    assert window.controller.preview.layers.current.visible
    QTest.mousePress(window.canvas, Qt.MouseButton.LeftButton, pos=window.pixel(COIN))
    for step in range(1, 4):
        QTest.mouseMove(window.canvas, window.pixel(COIN) + QPoint(10 * step, 0))
        QTest.qWait(20)
    assert not window.controller.preview.layers.current.visible
    QTest.mouseRelease(window.canvas, Qt.MouseButton.LeftButton, pos=window.pixel(COIN) + QPoint(30, 0))
