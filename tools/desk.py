"""Drive a real napari window with mouse and keys, and take pictures of it with the cursor drawn in."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

PATIENCE = 120.0
# Outline of the cursor, which screenshots leave out, relative to its tip.
_ARROW = [(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)]
Place = tuple[float, float]


class Desk:
    """A napari window with a sample and the widget.

    Parameters
    ----------
    sample
        Key of the sample, or the path of an image.
    size
        Width and height of the window.
    """

    def __init__(self, sample: str | Path, size: tuple[int, int] = (1400, 900)) -> None:
        self.viewer = napari.Viewer()
        self.viewer.window.resize(*size)
        if isinstance(sample, Path):
            self.layers = self.viewer.open(str(sample), plugin="napari-sam")
        else:
            self.layers = self.viewer.open_sample("napari-sam", sample)
        _, self.widget = self.viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
        self.controller = self.widget.controller
        self.mouse: QPoint | None = None  # In pixels of the canvas.
        self.wait_until(lambda: not self.controller.session.is_warming and not self.widget._runner.busy)
        self.viewer.reset_view()
        self.rest()

    @property
    def canvas(self) -> QWidget:
        """The canvas of the window."""
        return self.viewer.window._qt_viewer.canvas.native

    def look_at(self, middle: Place, zoom: float) -> None:
        """Center the view on (row, col) of the image, with `zoom` screen pixels for each image pixel."""
        image = self.controller.session.image
        ndim = image.ndim - 2
        point = [self.viewer.dims.point[axis] for axis in range(ndim)]
        world = image.data_to_world([*image.world_to_data([*point, 0, 0])[:ndim], *middle])
        self.viewer.scene.camera.center = tuple(world[-2:])
        self.viewer.scene.camera.zoom = zoom / image.scale[-1]
        QTest.qWait(500)  # The view must rest before it is encoded.
        self.rest()

    def at(self, place: Place) -> QPoint:
        """Return the position on the canvas of (row, col) in the shown plane."""
        image, camera = self.controller.session.image, self.viewer.scene.camera
        position = np.zeros(image.ndim)
        position[-2:] = place
        world = np.asarray(image.data_to_world(position))[-2:]
        middle = np.array([self.canvas.height(), self.canvas.width()]) / 2
        row, col = (world - np.asarray(camera.center)[-2:]) * camera.zoom + middle
        return QPoint(round(col), round(row))

    def move(self, place: Place) -> None:
        """Move the mouse to (row, col); call `rest` to wait for the preview."""
        self.mouse = self.at(place)
        QTest.mouseMove(self.canvas, self.mouse - QPoint(2, 2))
        QTest.qWait(15)
        QTest.mouseMove(self.canvas, self.mouse)
        QTest.qWait(60)  # napari throttles moves.

    def click(self, place: Place, *, right: bool = False) -> None:
        """Click (row, col) and wait for the mask."""
        self.move(place)
        button = Qt.MouseButton.RightButton if right else Qt.MouseButton.LeftButton
        QTest.mouseClick(self.canvas, button, Qt.KeyboardModifier.NoModifier, self.mouse)
        self.rest()

    def key(self, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        """Press a key over the canvas and wait for its effect."""
        QTest.keyClick(self.canvas, key, modifier)
        self.rest()

    def press(self, button: QWidget) -> None:
        """Click a button of the widget and wait for its effect."""
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.rest()

    def type_class(self, name: str) -> None:
        """Type the name of a class into the widget."""
        line = self.widget.objects.classes.lineEdit()
        line.setFocus()
        line.selectAll()
        QTest.keyClicks(line, name)
        QTest.keyClick(line, Qt.Key.Key_Return)
        line.clearFocus()
        self.rest()

    def rest(self) -> None:
        """Wait until all requests, writes and encodings are finished and drawn."""
        for _ in range(2):
            QTest.qWait(60)
            self.wait_until(self._is_still)
        QTest.qWait(60)

    def _is_still(self) -> bool:
        runner, controller = self.widget._runner, self.controller
        return not (runner.busy or runner.idling or controller.prefetcher._plan or controller.hover._wanted)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Process Qt events until a condition holds.

        Raises
        ------
        TimeoutError
            The condition does not hold within two minutes.
        """
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > PATIENCE:
                raise TimeoutError("napari gave no answer: see the messages above.")
            QApplication.processEvents()
            time.sleep(0.005)

    def picture(self, note: str = "") -> Image.Image:
        """Return a picture of the window, with the cursor and a note beside it."""
        QApplication.processEvents()
        window = Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False)[..., :3])
        if self.mouse is not None:
            tip = self.canvas.mapTo(self.viewer.window._qt_window, self.mouse)
            _draw_mouse(window, (tip.x(), tip.y()), note)
        return window

    def part(self, widgets: list[QWidget], margin: int = 6) -> tuple[int, int, int, int]:
        """Return the box (left, top, right, bottom) around some widgets in a picture."""
        corners = [widget.mapTo(self.viewer.window._qt_window, QPoint(0, 0)) for widget in widgets]
        sizes = [(widget.width(), widget.height()) for widget in widgets]
        left, top = min(c.x() for c in corners), min(c.y() for c in corners)
        right = max(c.x() + s[0] for c, s in zip(corners, sizes, strict=True))
        bottom = max(c.y() + s[1] for c, s in zip(corners, sizes, strict=True))
        return max(0, left - margin), max(0, top - margin), right + margin, bottom + margin

    def show(self, widget: QWidget) -> None:
        """Scroll the widget of the plugin to one of its parts."""
        parent: Any = widget.parentWidget()
        while parent is not None and not hasattr(parent, "ensureWidgetVisible"):
            parent = parent.parentWidget()
        parent.ensureWidgetVisible(widget)
        self.rest()

    def close(self) -> None:
        """Close the window."""
        self.viewer.close()


def _draw_mouse(picture: Image.Image, tip: tuple[int, int], note: str) -> None:
    """Draw the cursor with its tip at a pixel, and a note beside it."""
    draw = ImageDraw.Draw(picture)
    draw.polygon([(tip[0] + x, tip[1] + y) for x, y in _ARROW], fill="white", outline="black")
    if not note:
        return
    font = ImageFont.load_default(size=15)
    left, top = tip[0] + 18, tip[1] + 14
    box = draw.textbbox((left, top), note, font=font)
    draw.rounded_rectangle((box[0] - 6, box[1] - 4, box[2] + 6, box[3] + 4), 5, fill="#222a35", outline="#9fb4cc")
    draw.text((left, top), note, font=font, fill="white")


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG of 256 colors, a third of the size without a visible difference."""
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
