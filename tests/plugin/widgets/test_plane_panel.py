"""The task Through planes in a real window: keys, clicks on the plot, corrections, 3-D, and what stands where."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QPushButton, QScrollArea
from tests.goldens import sessions
from tests.plugin.propagation.playback import play

from napari_sam.plugin.widgets.tasks import confidence_plot
from napari_sam.testing.window import flush

pytestmark = pytest.mark.usefixtures("screen")

ALT, CTRL = Qt.KeyboardModifier.AltModifier, Qt.KeyboardModifier.ControlModifier
LEFT = Qt.MouseButton.LeftButton
SHAPE = (9, 40, 48)
MIDDLE = (20, 24)
CONFIDENCES = (0.9, 0.3, 0.8, 1, 0.85, 0.5, 0.9)
BALL = {at: (*MIDDLE, 7, confidence) for at, confidence in enumerate(CONFIDENCES, start=1)}


@pytest.fixture(autouse=True)
def _fake_model():
    with sessions.a_fake_model():
        yield


def ball(shape=SHAPE):
    """A bright column through all planes, which the fake model finds by a click."""
    rows, cols = np.ogrid[: shape[-2], : shape[-1]]
    disc = (rows - MIDDLE[0]) ** 2 + (cols - MIDDLE[1]) ** 2 <= 49
    return np.broadcast_to(np.where(disc, 200, 20), shape).astype(np.uint8).copy()


@pytest.fixture
def window(open_window, told):
    window = open_window(ball(), name="ball", contrast_limits=(0, 255))
    window.viewer.window._qt_window.resize(1366, 768)
    flush()
    window.viewer.dims.set_current_step(0, 4)
    window.viewer.reset_view()
    flush()
    window.wait_ready()
    window.click((4, *MIDDLE))
    window.key(Qt.Key.Key_C)
    window.key(Qt.Key.Key_3, ALT)
    return window


def follow(window, monkeypatch, discs):
    play(window.controller, monkeypatch, discs, ball())
    window.key(Qt.Key.Key_F)
    wait(window)


def wait(window):
    window.wait_until(lambda: not window.controller.through_planes.following.is_running)
    window.wait()


def labels_of(window):
    return np.asarray(window.controller.session.target.data)


def test_the_whole_way_by_keys_follow_jump_correct_follow_again_and_undo(window, monkeypatch, told):
    widget, planes = window.widget, window.controller.through_planes
    assert widget.tasks.buttons["planes"].isChecked()
    assert widget.planes.step.text() == "F follows the object through the planes."
    follow(window, monkeypatch, {1: BALL})
    assert np.flatnonzero(labels_of(window).any((1, 2))).tolist() == list(range(1, 8))
    assert widget.planes.measures.text().startswith("Label 1: 7 planes, ")
    assert widget.planes.step.text() == "2 of 7 doubtful. N: next. F: follow again."
    assert window.viewer.canvas.overlays.text.text == "2 of 7 planes are doubtful: N jumps to the next"
    followed = labels_of(window).copy()

    window.key(Qt.Key.Key_N)
    assert window.viewer.dims.current_step[0] == 2
    window.press((2, 20, 26))
    assert window.controller.session.current.replaces.label == 1
    window.key(Qt.Key.Key_C)
    assert planes.state.is_accepted
    window.key(Qt.Key.Key_N)
    assert window.viewer.dims.current_step[0] == 6
    window.key(Qt.Key.Key_C)  # It is right as it is.
    assert planes.state.is_accepted
    assert widget.planes.lock.text() == "Unlock plane"
    assert labels_of(window).max() == 1
    before = labels_of(window).copy()

    follow(window, monkeypatch, {1: dict.fromkeys(range(9), (*MIDDLE, 5, 0.9))})
    for at in (2, 4, 6):
        np.testing.assert_array_equal(labels_of(window)[at], before[at])
    assert np.count_nonzero(labels_of(window)[3]) < np.count_nonzero(before[3])
    window.key(Qt.Key.Key_Z, CTRL)
    window.wait()
    np.testing.assert_array_equal(labels_of(window), before)
    for _ in range(3):  # Two accepted planes, and the first propagation.
        window.key(Qt.Key.Key_Z, CTRL)
        window.wait()
    # On a busy machine the last undo may still be in the worker's queue.
    window.wait_until(lambda: np.flatnonzero(labels_of(window).any((1, 2))).tolist() == [4])
    assert followed[3].any()
    assert told == []


def test_a_click_on_the_plot_goes_to_that_plane_and_its_tooltip_tells_what_is_known(window, monkeypatch):
    follow(window, monkeypatch, {1: BALL})
    plot = window.widget.planes.plot
    for at in (6, 3):
        QTest.mouseClick(plot, LEFT, pos=QPoint(round(plot.x_of(at)), 40))
        flush()
        assert window.viewer.dims.current_step[0] == at
    area = window.controller.through_planes.choice.object.states[6].area
    assert plot.text_at(plot.x_of(6)) == f"Plane 6: confidence 0.50, doubtful, {area} pixels"
    assert plot.text_at(plot.x_of(4)).startswith("Plane 4: accepted, ")
    assert plot.text_at(plot.x_of(8)) == "Plane 8: not in this plane"


def test_the_plot_tells_accepted_doubtful_and_missing_planes_and_the_one_in_view_apart(window, monkeypatch):
    follow(window, monkeypatch, {1: {at: found for at, found in BALL.items() if at != 5}})
    window.viewer.dims.set_current_step(0, 3)
    flush()
    plot = window.widget.planes.plot
    picture = plot.grab().toImage()
    ratio, bottom = picture.width() / plot.width(), plot.height() - confidence_plot.NUMBER_ROOM - 3

    def color_at(at, y=bottom):
        return picture.pixelColor(round(plot.x_of(at) * ratio), round(y * ratio)).name()

    assert color_at(4) == confidence_plot.ACCEPTED
    assert color_at(6) == confidence_plot.DOUBTFUL
    assert color_at(7) == confidence_plot.SURE
    assert color_at(5) not in (confidence_plot.ACCEPTED, confidence_plot.DOUBTFUL, confidence_plot.SURE)
    assert color_at(4, confidence_plot.LOCK_ROOM - 4) == confidence_plot.ACCEPTED
    assert color_at(3, 3) == confidence_plot.CURRENT


def test_cancel_keeps_what_is_done(window, monkeypatch):
    play(window.controller, monkeypatch, {1: BALL}, ball())
    following, counts = window.controller.through_planes.following, []

    def cancel_soon():
        if following.progress is not None and following.progress.done == 2:
            counts.append(len(window.controller.through_planes.choice.object.states))
            QTest.mouseClick(window.widget.planes.cancel, LEFT)

    following.changed.connect(cancel_soon)
    QTest.mouseClick(window.widget.planes.follow, LEFT)
    wait(window)
    following.changed.disconnect(cancel_soon)
    count = len(window.controller.through_planes.choice.object.states)
    assert counts
    assert 2 <= count < 7
    assert window.controller.session.status.startswith("Stopped. ")
    window.key(Qt.Key.Key_Z, CTRL)
    window.wait()
    assert len(window.controller.through_planes.choice.object.states) == 1


def test_the_result_in_3d_and_back(window, monkeypatch):
    follow(window, monkeypatch, {1: BALL})
    viewer, volume = window.viewer, window.widget.planes.volume
    image, zoom, center = window.controller.session.image, viewer.scene.camera.zoom, viewer.scene.camera.center
    QTest.mouseClick(volume, LEFT)
    flush()
    assert viewer.dims.ndisplay == 3
    assert volume.isChecked()
    assert not image.visible
    assert window.controller.session.target.visible
    assert viewer.scene.camera.center == pytest.approx((4, *MIDDLE), abs=0.6)
    QTest.mouseClick(volume, LEFT)
    flush()
    assert viewer.dims.ndisplay == 2
    assert image.visible
    assert viewer.scene.camera.zoom == pytest.approx(zoom)
    assert viewer.scene.camera.center == pytest.approx(center)
    QTest.mouseClick(volume, LEFT)
    viewer.dims.ndisplay = 2  # By napari's own button.
    flush()
    assert image.visible
    assert not volume.isChecked()


def test_it_fits_a_small_screen_nothing_moves_and_no_text_is_cut(window, monkeypatch):
    widget = window.widget
    scroll = widget.findChild(QScrollArea)
    assert scroll.verticalScrollBar().maximum() == 0
    assert scroll.widget().minimumSizeHint().width() <= scroll.viewport().width()
    assert widget.width() <= 350
    parts = widget.planes.plot, widget.planes.lock, widget.planes.divide, widget.objects.table, widget.footer.undo

    def places():
        return [(part.mapTo(widget, QPoint(0, 0)).y(), part.height()) for part in parts]

    before = places()
    follow(window, monkeypatch, {1: BALL})
    window.key(Qt.Key.Key_N)
    np.testing.assert_allclose(places(), before, atol=1)
    for box in (widget.planes.first, widget.planes.last):
        assert box.lineEdit().width() >= box.fontMetrics().horizontalAdvance("8888")
    for button in widget.findChildren(QPushButton):
        if button.isVisibleTo(widget):
            assert button.isEnabled() or button.toolTip(), button.text()
            needed = max(button.fontMetrics().horizontalAdvance(line) for line in button.text().split("\n"))
            assert needed <= button.width(), button.text()


@pytest.mark.parametrize("shape", [(40, 48), (1, 40, 48)])
def test_every_control_of_an_image_of_one_plane_says_why_it_is_off(open_window, shape, told):
    window = open_window(ball(shape), name="flat", contrast_limits=(0, 255))
    panel = window.widget.planes
    window.widget.tasks.buttons["planes"].click()
    flush()
    for control in (panel.follow, panel.axis, panel.first, panel.last):
        assert not control.isEnabled()
        assert control.toolTip() == "This image has one plane."
    assert panel.step.text() == "This image has one plane."
    for control in (panel.next, panel.lock, panel.remove, panel.volume, panel.tracks, panel.divide):
        assert not control.isEnabled()
        assert control.toolTip()
    assert told == []
