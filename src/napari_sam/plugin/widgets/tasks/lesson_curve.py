"""LessonCurve: the figures of a model on objects that it has not seen, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QWidget

from napari_sam.weights.taught import PROMPTS

HEIGHT = 66
# Readable on napari's dark and light themes.
COLORS = ("#5a9bd8", "#3a9d5d", "#e8871e")
LINES = {name: (text, color) for (name, text), color in zip(PROMPTS.items(), COLORS, strict=True)}
TRACK = "#408a919c"
TOP, BOTTOM, SIDE, TEXT = 16, 4, 34, 13


class LessonCurve(QWidget):
    """Draws a line for one click, for three clicks and for a box, with the first and the last value."""

    def __init__(self) -> None:
        super().__init__()
        self._points: list[tuple[int, dict[str, float]]] = []
        self._steps = 0
        self.setFixedHeight(HEIGHT)
        self.setMinimumWidth(60)

    def show_curve(self, points: Sequence[Any], steps: int) -> None:
        """Show (step, figures) out of so many steps."""
        found = [(int(step), dict(figures)) for step, figures in points]
        if (found, steps) == (self._points, self._steps):
            return
        self._points, self._steps = found, steps
        self.setToolTip(self._text())
        self.update()

    def _text(self) -> str:
        if not self._points:
            return "The share of the object that is right (IoU), on objects that the model does not learn from."
        before, after = self._points[0][1], self._points[-1][1]
        said = [f"{text} {before[name]:.2f} -> {after[name]:.2f}" for name, (text, _) in LINES.items()]
        return f"On objects it has not seen: {', '.join(said)}"

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802  Qt's name.
        """Draw the lines, in colors for any theme."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(SIDE, TOP, max(self.width() - 2 * SIDE, 1), self.height() - TOP - BOTTOM)
        painter.fillRect(area, QColor(TRACK))
        self._draw_names(painter)
        if self._points:
            values = [value for _, figures in self._points for value in figures.values()]
            low, high = max(min(values) - 0.05, 0.0), min(max(values) + 0.05, 1.0)
            for name, (_, color) in LINES.items():
                self._draw_line(painter, area, (low, high), name, QColor(color))
            self._draw_values(painter, area, (low, high))
        painter.end()

    def _draw_names(self, painter: QPainter) -> None:
        font = self.font()
        font.setPixelSize(TOP - 5)
        painter.setFont(font)
        width = self.width() / len(LINES)
        for at, (text, color) in enumerate(LINES.values()):
            painter.setPen(QColor(color))
            painter.drawText(QRectF(at * width, 0, width, TOP), int(Qt.AlignmentFlag.AlignCenter), text)

    def _draw_line(
        self, painter: QPainter, area: QRectF, limits: tuple[float, float], name: str, color: QColor
    ) -> None:
        last = max(self._steps, self._points[-1][0], 1)
        spots = [
            QPointF(area.left() + area.width() * step / last, _height(area, limits, figures[name]))
            for step, figures in self._points
        ]
        painter.setPen(QPen(color, 2))
        for one, other in pairwise(spots):
            painter.drawLine(one, other)
        for spot in spots:
            painter.drawEllipse(spot, 2.0, 2.0)

    def _draw_values(self, painter: QPainter, area: QRectF, limits: tuple[float, float]) -> None:
        """Write the first and the last values beside the lines, apart from each other."""
        for at, x, side in ((0, 0.0, Qt.AlignmentFlag.AlignRight), (-1, area.right() + 4, Qt.AlignmentFlag.AlignLeft)):
            figures = self._points[at][1]
            names = sorted(LINES, key=lambda name: -figures[name])
            heights = [_height(area, limits, figures[name]) for name in names]
            for number in range(1, len(heights)):
                heights[number] = max(heights[number], heights[number - 1] + TEXT)
            excess = max(heights[-1] - area.bottom(), 0.0)
            for number, name in enumerate(names):
                painter.setPen(QColor(LINES[name][1]))
                top = max(heights[number] - excess - TEXT / 2, TOP - 4 + number * TEXT)
                box = QRectF(x, top, SIDE - 4, TEXT)
                painter.drawText(box, int(side | Qt.AlignmentFlag.AlignVCenter), f"{figures[name]:.2f}")


def _height(area: QRectF, limits: tuple[float, float], value: float) -> float:
    low, high = limits
    return area.bottom() - area.height() * (value - low) / max(high - low, 1e-6)
