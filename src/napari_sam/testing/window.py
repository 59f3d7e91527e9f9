"""Window: a napari window with the widget, driven by mouse and key events as Qt delivers them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
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


def flush() -> None:
    """Deliver all events that wait, and destroy what is to be deleted later."""
    for _ in range(3):  # What is delivered may post more.
        QTest.qWait(1)


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
        self.move(point)
        QTest.mouseClick(self.canvas, Qt.MouseButton.LeftButton, pos=self.pixel(point))
        self.wait_until(lambda: self._point_count() == count + 1)
        self.wait()

    def hover(self, point: Position) -> None:
        """Move the mouse to a point and wait for the preview of the mask there."""
        self.move(point)
        flush()  # A repeated move may still be on its way.
        self.wait_until(self.is_still)

    def move(self, point: Position) -> None:
        """Move the mouse to a point and wait until napari knows.

        The move is repeated, by way of the next pixel, because Qt or napari now and then drops one.
        """
        top = self.canvas.window()
        top.raise_()  # Qt delivers no moves to a window that another one covers.
        top.activateWindow()
        spot = self.pixel(point)
        offsets = itertools.cycle([QPoint(1, 0), QPoint(0, 0)])

        def is_there() -> bool:
            if self._is_cursor_at(point):
                return True
            QTest.mouseMove(self.canvas, spot + next(offsets))
            return False

        self.wait_until(is_there)

    def wait_ready(self) -> None:
        """Wait until the model is loaded and the tiles in view are encoded."""

        def is_ready() -> bool:
            has_rested = not self.widget._rest.isActive() and self.controller.jobs.segmenter is not None
            return has_rested and not self.controller.session.is_warming and self.is_still()

        self.wait_until(is_ready)

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
        self.move(point)
        QTest.mouseClick(self.canvas, button, modifier, self.pixel(point))
        self.wait()

    def drag(self, start: Position, end: Position) -> None:
        """Press the left button at one point, move in three steps and release it at another."""
        self.drag_along([tuple(start + share * np.subtract(end, start)) for share in (0, 0.3, 0.6, 1)])

    def drag_along(self, points: Sequence[Position], button: Qt.MouseButton = Qt.MouseButton.LeftButton) -> None:
        """Press a button at the first point, move through all others and release it at the last one."""
        self.move(points[0])
        QTest.mousePress(self.canvas, button, pos=self.pixel(points[0]))
        for point in points[1:]:
            self.move(point)
        QTest.mouseRelease(self.canvas, button, pos=self.pixel(points[-1]))
        self.wait()

    def key(self, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        """Press and release a key on the canvas."""
        QTest.keyClick(self.canvas, key, modifier)
        self.wait()

    def wait(self) -> None:
        """Wait until every prompt is answered and everything accepted is written."""
        flush()
        controller = self.controller
        self.wait_until(lambda: not controller.session.is_busy and not controller.session.is_writing)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Let Qt work until a condition holds.

        Parameters
        ----------
        condition
            Called again and again, in the GUI thread.

        Raises
        ------
        pytestqt.exceptions.TimeoutError
            It does not hold within `TIMEOUT`.
        """
        self.qtbot.waitUntil(condition, timeout=ANSWER_WITHIN)

    def _is_cursor_at(self, point: Position) -> bool:
        image, displayed = self.controller.session.image, list(self.viewer.dims.displayed)
        if image is None:
            return True
        away = np.subtract(self.viewer.cursor.position, image.data_to_world(point))[displayed]
        return bool((np.abs(away) * self.viewer.scene.camera.zoom).max() < 0.75)  # A pixel is rounded by up to 0.5.

    def _point_count(self) -> int:
        points = self.controller.prompts.points
        return 0 if points is None else len(points.data)
