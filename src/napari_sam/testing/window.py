"""Window: a napari window with the widget, driven by mouse and key events as Qt delivers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_sam.plugin.widgets.dock import SamWidget
from napari_sam.testing.waiting import TIMEOUT

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

Position = Sequence[float]

# Milliseconds, as Qt and pytest-qt count.
ANSWER_WITHIN = TIMEOUT * 1000


class Window:
    """A napari window with the widget, driven through its canvas.

    Every method waits until the plugin has answered, so a test can look at the result in the next line. Points are
    data positions of the image: (row, col), or (plane, row, col) of a stack.

    Parameters
    ----------
    qtbot
        pytest-qt's fixture.
    viewer
        Viewer whose window is shown.
    widget
        The plugin's dock widget in this viewer.

    Examples
    --------
    >>> def test_a_click_is_answered(make_napari_viewer, qtbot):
    ...     viewer = make_napari_viewer(show=True)
    ...     viewer.add_image(skimage.data.coins())
    ...     _, widget = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
    ...     window = Window(qtbot, viewer, widget)
    ...     window.click((51, 155))
    ...     assert window.controller.session.candidates.best.area > 500
    """

    def __init__(self, qtbot: QtBot, viewer: Viewer, widget: SamWidget) -> None:
        self.qtbot, self.viewer, self.widget = qtbot, viewer, widget
        self.controller = widget.controller

    @property
    def canvas(self) -> Any:
        """The Qt widget that napari draws the image on."""
        return self.viewer.window._qt_viewer.canvas.native

    def pixel(self, point: Position) -> QPoint:
        """Return the position of a point on the canvas, in screen pixels."""
        image = self.controller.session.image
        assert image is not None
        camera = self.viewer.scene.camera
        world = np.asarray(image.data_to_world(point))[list(self.viewer.dims.displayed)]
        middle = np.array([self.canvas.height(), self.canvas.width()]) / 2
        row, col = (world - np.asarray(camera.center)[-2:]) * camera.zoom + middle
        return QPoint(round(col), round(row))

    def click(self, point: Position) -> None:
        """Add a point prompt with the mouse."""
        count = self._point_count()
        QTest.mouseMove(self.canvas, self.pixel(point))
        QTest.mouseClick(self.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(point))
        self.qtbot.waitUntil(lambda: self._point_count() == count + 1, timeout=ANSWER_WITHIN)
        self.wait()

    def hover(self, point: Position) -> None:
        """Move the mouse to a point and wait for the preview of the mask there."""
        QTest.mouseMove(self.canvas, self.pixel(point) - QPoint(3, 3))
        QTest.qWait(20)
        QTest.mouseMove(self.canvas, self.pixel(point))
        QTest.qWait(100)  # napari throttles moves of the mouse.
        self.qtbot.waitUntil(self.is_still, timeout=ANSWER_WITHIN)
        QTest.qWait(20)
        self.qtbot.waitUntil(self.is_still, timeout=ANSWER_WITHIN)

    def is_still(self) -> bool:
        """Whether no job runs and no tile or preview is waited for."""
        runner, controller = self.widget._runner, self.controller
        is_looking = controller.hover._wanted is not None
        return not (controller.prefetcher.is_encoding or runner.idling or runner.busy or is_looking)

    def press(
        self,
        point: Position,
        button: Qt.MouseButton = Qt.MouseButton.LeftButton,
        modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier,
    ) -> None:
        """Click with any button and modifier key; unlike `click` it need not add a point."""
        QTest.mouseMove(self.canvas, self.pixel(point))
        QTest.mouseClick(self.canvas, button, modifier, self.pixel(point))
        QTest.qWait(30)
        self.wait()

    def drag(self, start: Position, end: Position) -> None:
        """Press the left button at one point, move in three steps and release it at another."""
        QTest.mouseMove(self.canvas, self.pixel(start))
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(start))
        for share in (0.3, 0.6, 1.0):
            between = np.array(start) + share * (np.array(end) - np.array(start))
            QTest.mouseMove(self.canvas, self.pixel(between))
            QTest.qWait(20)
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(end))
        self.wait()

    def key(self, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        """Press and release a key on the canvas."""
        QTest.keyClick(self.canvas, key, modifier)
        QTest.qWait(20)
        self.wait()

    def wait(self) -> None:
        """Wait until every prompt is answered and everything accepted is written."""
        controller = self.controller
        self.qtbot.waitUntil(
            lambda: not controller.session.is_busy and not controller.session.is_writing, timeout=ANSWER_WITHIN
        )

    def _point_count(self) -> int:
        points = self.controller.prompts.points
        return 0 if points is None else len(points.data)
