"""Clicks of every kind in a real window: signs, objects that are there, scribbles, candidates, keys and the canvas."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_sam.plugin.view.canvas_hint import HINT
from napari_sam.testing.window import flush

pytestmark = pytest.mark.usefixtures("screen")

COIN, NEIGHBOUR, BESIDE = (51, 155), (56, 99), (51, 185)
LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
SHIFT, CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.fixture
def window(open_window, coins, told):
    window = open_window(coins, name="coins")
    window.viewer.scene.camera.zoom /= 1.5
    flush()
    yield window
    assert told == []


def signs(window):
    return window.controller.prompts.points.features["label"].tolist()


@pytest.mark.parametrize(("button", "modifier"), [(RIGHT, Qt.KeyboardModifier.NoModifier), (LEFT, SHIFT)])
def test_the_right_button_and_shift_make_a_negative_point_and_the_next_left_click_a_positive_one(
    window, button, modifier
):
    window.click(COIN)
    window.press(BESIDE, button, modifier)
    assert signs(window) == [1, 0]
    assert window.controller.prompts.sign == 1
    window.press((45, 150))
    assert signs(window) == [1, 0, 1]
    assert window.controller.session.candidates[window.controller.session.current.selected].to_array((303, 384))[COIN]
    window.key(Qt.Key.Key_T)
    window.press((40, 150), button, modifier)
    assert signs(window) == [1, 0, 1, 1]
    assert window.controller.prompts.sign == 0


def test_a_drag_with_the_right_button_zooms_and_makes_no_point(window):
    window.click(COIN)
    zoom = window.viewer.scene.camera.zoom
    start = window.pixel(COIN)
    QTest.mousePress(window.canvas, RIGHT, pos=start)
    for step in range(1, 6):
        QTest.mouseMove(window.canvas, start + QPoint(0, 12 * step))
    window.wait_until(lambda: window.viewer.scene.camera.zoom != zoom)
    QTest.mouseRelease(window.canvas, RIGHT, pos=start + QPoint(0, 60))
    window.wait()
    assert signs(window) == [1]


def test_control_click_takes_up_an_object_of_the_output_and_accept_replaces_it(window, coin_labels):
    controller = window.controller
    truth = coin_labels == coin_labels[COIN]
    rough = np.zeros(coin_labels.shape, np.uint16)
    rough[truth] = 7
    rough[:, 150:] *= (np.arange(150, 384) > 165).astype(np.uint16)  # A strip of the coin is missing.
    rough[30:60, 165:172] = 7
    rough[52:60, 92:105] = 3
    target = window.viewer.add_labels(rough.copy(), name="mine")
    window.widget.output.value = target
    controller.editing.activate("points")
    window.press((51, 140), LEFT, CONTROL)
    window.qtbot.waitUntil(lambda: controller.session.current.replaces is not None)
    window.wait()
    assert controller.session.current.replaces.label == 7
    assert len(controller.prompts.points.data) == 0
    assert controller.session.candidates is not None
    assert "correcting label 7" in window.viewer.canvas.overlays.text.text
    window.press((51, 157))
    assert signs(window) == [1]
    window.key(Qt.Key.Key_C)
    assert controller.session.current.replaces is None
    component = target.data == 7
    assert component[51, 157]
    assert (target.data == 3).sum() == 8 * 13
    assert target.data.max() == 7
    window.key(Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(target.data, rough)
    window.click(NEIGHBOUR)
    window.key(Qt.Key.Key_C)
    assert target.data.max() == 8


def test_control_click_beside_all_objects_says_so(open_window, coins, told):
    window = open_window(coins, name="coins")
    window.press(COIN, LEFT, CONTROL)
    window.qtbot.waitUntil(lambda: told != [])
    assert "no object to correct" in told[-1]
    assert len(window.controller.prompts.points.data) == 0
    window.click(COIN)
    assert window.controller.session.candidates is not None


@pytest.mark.parametrize("tool", ["scribble", "lasso"])
def test_a_scribble_and_a_lasso_are_prompts(window, coin_labels, tool):
    window.widget.prompts.tools[tool].click()
    assert window.controller.prompts.tool == tool
    row, col = np.argwhere(coin_labels == coin_labels[COIN]).mean(0)
    angle = np.linspace(0, 6.1, 24)
    around = [(row + 22 * np.cos(a), col + 22 * np.sin(a)) for a in angle]
    along = [(row + np.sin(t) * 3, col + 14 * t) for t in np.linspace(-1, 1, 12)]
    track = around if tool == "lasso" else along
    QTest.mouseMove(window.canvas, window.pixel(track[0]))
    QTest.mousePress(window.canvas, LEFT, pos=window.pixel(track[0]))
    for point in track[1:]:
        QTest.mouseMove(window.canvas, window.pixel(point))
        QTest.qWait(15)
    QTest.mouseRelease(window.canvas, LEFT, pos=window.pixel(track[-1]))
    QTest.qWait(50)
    window.wait()
    assert len(window.controller.prompts.shapes.data) == 1
    mask = window.controller.session.candidates[window.controller.session.current.selected]
    assert iou(mask.to_array(coin_labels.shape), coin_labels == coin_labels[COIN]) > 0.85
    window.key(Qt.Key.Key_C)
    assert len(window.controller.prompts.shapes.data) == 0


def test_tab_cycles_while_the_canvas_has_the_focus_and_the_size_is_kept_for_the_object(window):
    controller = window.controller
    window.click(COIN)
    window.canvas.setFocus()
    first = controller.session.current.selected
    window.key(Qt.Key.Key_Tab)
    assert controller.session.current.selected == (first + 1) % 3
    while controller.session.current.selected != 2:
        window.key(Qt.Key.Key_Tab)
    window.press((45, 150))
    assert controller.session.current.selected == 2
    assert window.widget.prompts.candidates[2].isChecked()
    button, mask = window.widget.prompts.candidates[2], controller.session.candidates[2]
    assert button.text() == f"large\n{mask.iou_prediction:.2f}"
    assert f"IoU with the object that the model predicts); stability: {mask.stability_score:.2f}" in button.toolTip()
    window.key(Qt.Key.Key_C)
    window.click(NEIGHBOUR)
    assert controller.session.current.selected == controller.session.candidates.best_index


def test_the_canvas_hints_says_what_a_click_means_and_gives_the_users_text_back(open_window, coins):
    window = open_window(coins, name="coins")
    overlay = window.viewer.canvas.overlays.text
    assert overlay.text == HINT
    assert overlay.visible
    window.click(COIN)
    assert overlay.text.startswith("+")
    window.key(Qt.Key.Key_T)
    assert overlay.text.startswith("−")  # noqa: RUF001
    window.widget.prompts.tools["box"].click()
    assert "box" in overlay.text
    window.viewer.layers.selection.active = window.viewer.layers["coins"]
    assert (overlay.visible, overlay.text) == (False, "")
    overlay.text, overlay.visible = "mine", True
    window.widget.prompts.tools["points"].click()
    assert overlay.text != "mine"
    window.viewer.window.remove_dock_widget(window.widget)
    flush()
    assert (overlay.visible, overlay.text) == (True, "mine")


def test_keys_are_changed_in_the_preferences_and_shown_on_the_buttons(open_window, coins):
    from napari.settings import get_plugin_settings

    window = open_window(coins, name="coins")
    assert window.widget.prompts.accept.text() == "Accept (C)"
    page = get_plugin_settings("napari-sam").keys
    page.accept = "Shift-A"
    assert window.widget.prompts.accept.text() == "Accept (⇧A)"
    window.click(COIN)
    window.key(Qt.Key.Key_C)
    assert window.controller.session.target is None
    window.key(Qt.Key.Key_A, SHIFT)
    assert window.controller.session.target.data.any()
    page.accept = "no key at all"
    assert window.widget.prompts.accept.text() == "Accept (C)"
    page.accept = "C"
