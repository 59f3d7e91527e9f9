"""A napari window with the widget, driven by real mouse and key events."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

# A bound for what never comes: whatever is waited for tells of itself, however slow the machine.
ANSWER_WITHIN = 180_000


class Window:
    """A napari window with the widget, driven by its canvas."""

    def __init__(self, qtbot, viewer, widget):
        self.qtbot, self.viewer, self.widget = qtbot, viewer, widget
        self.controller = widget.controller

    @property
    def canvas(self):
        return self.viewer.window._qt_viewer.canvas.native

    def pixel(self, point):
        """Where a data position of the image lies on the canvas."""
        image = self.controller.session.image
        camera = self.viewer.scene.camera
        world = np.asarray(image.data_to_world(point))[list(self.viewer.dims.displayed)]
        middle = np.array([self.canvas.height(), self.canvas.width()]) / 2
        row, col = (world - np.asarray(camera.center)[-2:]) * camera.zoom + middle
        return QPoint(round(col), round(row))

    def click(self, point):
        count = len(self.controller.prompts.points.data)
        QTest.mouseMove(self.canvas, self.pixel(point))
        QTest.mouseClick(self.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(point))
        self.qtbot.waitUntil(lambda: len(self.controller.prompts.points.data) == count + 1, timeout=ANSWER_WITHIN)
        self.wait()

    def hover(self, point):
        """Move the mouse there and wait for what it shows."""
        QTest.mouseMove(self.canvas, self.pixel(point) - QPoint(3, 3))
        QTest.qWait(20)
        QTest.mouseMove(self.canvas, self.pixel(point))
        QTest.qWait(100)  # napari throttles moves.
        self.qtbot.waitUntil(self.is_still, timeout=ANSWER_WITHIN)
        QTest.qWait(20)
        self.qtbot.waitUntil(self.is_still, timeout=ANSWER_WITHIN)

    def is_still(self):
        """Whether everything is encoded and looked at."""
        runner, controller = self.widget._runner, self.controller
        return not (controller.prefetcher._plan or runner.idling or runner.busy or controller.hover._wanted)

    def press(self, point, button=Qt.MouseButton.LeftButton, modifier=Qt.KeyboardModifier.NoModifier):
        """Click there with any button and modifier."""
        QTest.mouseMove(self.canvas, self.pixel(point))
        QTest.mouseClick(self.canvas, button, modifier, self.pixel(point))
        QTest.qWait(30)
        self.wait()

    def drag(self, start, end):
        QTest.mouseMove(self.canvas, self.pixel(start))
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(start))
        for share in (0.3, 0.6, 1.0):
            between = tuple(np.array(start) + share * (np.array(end) - np.array(start)))
            QTest.mouseMove(self.canvas, self.pixel(between))
            QTest.qWait(20)
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(end))
        self.wait()

    def key(self, key, modifier=Qt.KeyboardModifier.NoModifier):
        QTest.keyClick(self.canvas, key, modifier)
        QTest.qWait(20)
        self.wait()

    def wait(self):
        controller = self.controller
        self.qtbot.waitUntil(
            lambda: not controller.session.is_busy and not controller.session.is_writing, timeout=ANSWER_WITHIN
        )
