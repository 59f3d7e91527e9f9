"""The task Teach in a real window: from accepted objects to a model in use, and what stands where."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QPushButton, QScrollArea
from tests.goldens import sessions
from tests.plugin.teaching.test_teacher import FakeProcess

from napari_sam.plugin.teaching import teacher as teaching
from napari_sam.testing.plugin import disc, propose
from napari_sam.testing.window import flush

pytestmark = pytest.mark.usefixtures("screen")

ALT = Qt.KeyboardModifier.AltModifier
SHAPE = (120, 200)
CENTERS = [(row, col) for row in (30, 80) for col in (20, 60, 100, 140, 180)]
CURVE = [[0, {"click_1": 0.52, "click_3": 0.7, "box": 0.72}], [20, {"click_1": 0.66, "click_3": 0.75, "box": 0.78}]]


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(teaching, "LessonProcess", FakeProcess)
    with sessions.a_fake_model():
        yield


@pytest.fixture
def window(open_window, told):
    window = open_window(np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8), name="cells")
    window.viewer.window._qt_window.resize(1366, 768)
    flush()
    window.wait_ready()
    for center in CENTERS:
        propose(window.controller, disc(*center, 12, shape=SHAPE), window.controller.session.plane)
        window.controller.commits.accept()
        window.wait()
    window.key(Qt.Key.Key_4, ALT)
    window.wait_until(lambda: window.controller.teacher.material.count.objects == len(CENTERS))
    flush()
    return window


def save_picture(window, name):
    """Save what the dock looks like, where a folder for it is named."""
    folder = os.environ.get("NAPARI_SAM_PICTURES")
    if folder:
        window.viewer.window._qt_window.grab().save(str(Path(folder) / f"{name}.png"))


def places_of(widget):
    panel = widget.teaching
    parts = (panel.teach, panel.curve, panel.use, panel.models, widget.object_section, widget.footer.undo)
    return np.array([(part.mapTo(widget, QPoint(0, 0)).x(), part.mapTo(widget, QPoint(0, 0)).y()) for part in parts])


def test_from_accepted_objects_to_a_model_in_use(window, told):
    widget, teacher = window.widget, window.controller.teacher
    panel, before = widget.teaching, places_of(widget)
    assert widget.tasks.buttons["teach"].isChecked()
    assert panel.images.text() == "10 objects, 0 corrected: cells"
    assert panel.teach.text() == "Teach, about 4 min"
    save_picture(window, "before")
    panel.teach.click()
    window.wait_until(lambda: teacher.phase != "beginning")
    assert not panel.teach.isEnabled()
    assert panel.stop.isEnabled()
    assert not panel.use.isEnabled()
    teacher.lesson.report(phase="training", step=10, steps=40, seconds=60.0, curve=CURVE[:1])
    window.wait_until(lambda: panel.step.text() == "Learning: step 10 of 40, about 3 min left")
    assert panel.bar.share == pytest.approx(0.25)
    save_picture(window, "training")
    FakeProcess.last.end("better", curve=CURVE)
    window.wait_until(lambda: panel.use.isEnabled())
    assert panel.result.text() == "Better: first click 0.50 -> 0.70 on 2 objects it has not seen."
    assert "first click 0.52 -> 0.66" in panel.curve.toolTip()
    save_picture(window, "result")
    np.testing.assert_allclose(places_of(widget), before, atol=1)
    panel.use.click()
    assert widget.model.value == "mine"
    assert window.controller.session.model == "mine"
    panel.fill()
    mine, bring = panel.menu.actions()
    assert (mine.text(), bring.text()) == ("mine", "Import ...")
    summary, use, _, remove = mine.menu().actions()
    assert "first click 0.50 -> 0.70" in summary.text()
    widget.model.value = "compact"
    use.trigger()
    assert widget.model.value == "mine"
    remove.trigger()
    assert "mine" not in widget.model.choices
    panel.fill()
    assert [action.text() for action in panel.menu.actions()] == ["Import ..."]
    window.wait()


def test_the_task_fits_a_small_screen_and_every_button_that_cannot_be_pressed_says_why(window):
    widget = window.widget
    scroll = widget.findChild(QScrollArea)
    assert scroll.verticalScrollBar().maximum() == 0
    assert scroll.widget().minimumSizeHint().width() <= scroll.viewport().width()
    assert widget.width() <= 350
    for button in widget.teaching.findChildren(QPushButton):
        assert button.isEnabled() or button.toolTip(), button.text()
        assert button.fontMetrics().horizontalAdvance(button.text()) <= button.width(), button.text()


def test_a_drawn_rectangle_is_marked_as_complete_by_the_menu(window):
    panel, regions = window.widget.teaching, window.controller.teacher.complete
    names = [action.text() for action in panel.regions.menu().actions()]
    assert names[1] == "The drawn rectangles are complete"
    window.viewer.add_shapes([[(0, 0), (0, 100), (60, 100), (60, 0)]], shape_type="rectangle")
    panel.regions.menu().actions()[1].trigger()
    window.wait_until(lambda: panel.regions.text() == "1 region")
    assert [area.box.as_tuple() for area in regions.areas] == [(0, 0, 61, 101)]
    panel.regions.menu().actions()[3].trigger()
    window.wait_until(lambda: panel.regions.text() == "Regions")
