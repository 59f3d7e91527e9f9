"""ConfidencePlot: the confidence of an object along an axis, plane by plane; a click goes to a plane."""

from __future__ import annotations

import math
from collections.abc import Callable

from qtpy.QtCore import QEvent, QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QHelpEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QToolTip, QWidget

from napari_sam.plugin.propagation.object_planes import LEAST_CONFIDENCE, ObjectPlanes, PlaneState

HEIGHT = 84
# Room above the bars for the locks, and below them for the numbers of the first and the last plane.
LOCK_ROOM, NUMBER_ROOM = 12, 14
# Readable on napari's dark and light themes.
SURE, DOUBTFUL, ACCEPTED, CURRENT, TRACK = "#5a9bd8", "#e8871e", "#3a9d5d", "#d03fbe", "#408a919c"
# Planes beside the object that the plot shows, at least, and as a share of the object's own.
MARGIN, MARGIN_SHARE = 2, 0.1
WIDEST_BAR = 18.0
# A narrower lock would be a dot.
LOCK_WIDTH = 7.0


class ConfidencePlot(QWidget):
    """A bar for each plane of an object.

    Its height is the confidence. A plane that was accepted has a bar of full height and a lock, a doubtful one has a
    color that stands out, and a plane without the object has none. Of planes that share a pixel of the screen, the
    least certain one is drawn.

    Parameters
    ----------
    chosen
        Called with the position of a plane that the user clicks.
    """

    def __init__(self, chosen: Callable[[int], None]) -> None:
        super().__init__()
        self._chosen = chosen
        self._planes: ObjectPlanes | None = None
        self._at: int | None = None
        self._limits = (0, 0)
        self.setFixedHeight(HEIGHT)
        self.setMinimumWidth(60)

    def show_planes(self, planes: ObjectPlanes | None, at: int | None) -> None:
        """Show an object, or nothing, and mark the plane in view."""
        if planes is self._planes and at == self._at:
            return
        self._planes, self._at = planes, at
        self._limits = (0, 0) if planes is None else shown_planes(planes)
        self.setCursor(Qt.CursorShape.ArrowCursor if planes is None else Qt.CursorShape.PointingHandCursor)
        self.update()

    # -- where planes are drawn ----------------------------------------------------------------------------------------

    @property
    def _step(self) -> float:
        """The width of a plane, in pixels of the screen."""
        first, last = self._limits
        return self.width() / (last - first + 1)

    def x_of(self, at: int) -> float:
        """Return the middle of a plane, in pixels of the screen."""
        return (at - self._limits[0] + 0.5) * self._step

    def plane_at(self, x: float) -> int:
        """Return the plane at a position, in pixels of the screen."""
        first, last = self._limits
        return min(max(first + math.floor(x / self._step), first), last)

    # -- events --------------------------------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802  Qt's name.
        """Go to the plane under the mouse."""
        if event is not None and self._planes is not None and event.button() == Qt.MouseButton.LeftButton:
            self._chosen(self.plane_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802  Qt's name.
        """Go along with the mouse while its button is pressed."""
        if event is not None and self._planes is not None and event.buttons() & Qt.MouseButton.LeftButton:
            at = self.plane_at(event.position().x())
            if at != self._at:
                self._chosen(at)

    def event(self, event: QEvent) -> bool:
        """Say in the tooltip what is known of the plane under the mouse."""
        if isinstance(event, QHelpEvent):
            QToolTip.showText(event.globalPos(), self.text_at(event.pos().x()), self)
            return True
        return bool(super().event(event))

    def text_at(self, x: float) -> str:
        """Return what is known of the plane at a position, in pixels of the screen."""
        if self._planes is None:
            return "The confidence in each plane; follow an object first."
        at = self.plane_at(x)
        state = self._planes.states.get(at)
        if state is None:
            return f"Plane {at}: not in this plane"
        if state.is_accepted:
            return f"Plane {at}: accepted, {state.area} pixels"
        doubtful = ", doubtful" if state.is_doubtful else ""
        return f"Plane {at}: confidence {state.confidence:.2f}{doubtful}, {state.area} pixels"

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802  Qt's name.
        """Draw the bars, in colors for any theme."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        bottom = self.height() - NUMBER_ROOM
        painter.fillRect(QRectF(0, LOCK_ROOM, self.width(), bottom - LOCK_ROOM), QColor(TRACK))
        if self._planes is not None:
            self._draw_bars(painter, self._planes, bottom)
            self._draw_threshold(painter, bottom)
            self._draw_numbers(painter)
        painter.end()

    def _draw_bars(self, painter: QPainter, planes: ObjectPlanes, bottom: float) -> None:
        width = min(max(self._step * 0.8, 1.0), WIDEST_BAR)
        if self._at is not None:
            x = self.x_of(min(max(self._at, self._limits[0]), self._limits[1]))
            painter.fillRect(QRectF(x - width / 2 - 2, 0, width + 4, self.height() - 2), QColor(CURRENT))
        for state in self._drawn(planes):
            share = 1.0 if state.is_accepted else min(max(0.04, state.confidence), 1.0)
            color = ACCEPTED if state.is_accepted else DOUBTFUL if state.is_doubtful else SURE
            height, x = share * (bottom - LOCK_ROOM), self.x_of(state.at)
            painter.fillRect(QRectF(x - width / 2, bottom - height, width, height), QColor(color))
            if state.is_accepted:
                _draw_lock(painter, QPointF(x, LOCK_ROOM - 1))

    def _drawn(self, planes: ObjectPlanes) -> list[PlaneState]:
        """Return the planes to draw, one for each pixel of the screen: the least certain one, and accepted ones."""
        if self._step >= 1:
            return list(planes.states.values())
        worst: dict[int, PlaneState] = {}
        for state in planes.states.values():
            key = int(self.x_of(state.at))
            other = worst.get(key)
            if other is None or other.is_accepted or (not state.is_accepted and state.confidence < other.confidence):
                worst[key] = state
        accepted = [state for state in planes.states.values() if state.is_accepted]
        return [*worst.values(), *accepted]

    def _draw_threshold(self, painter: QPainter, bottom: float) -> None:
        """Draw the confidence below which a plane is doubtful."""
        y = bottom - LEAST_CONFIDENCE * (bottom - LOCK_ROOM)
        painter.setPen(QPen(self.palette().windowText().color(), 1, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(0, y), QPointF(self.width(), y))

    def _draw_numbers(self, painter: QPainter) -> None:
        """Write the numbers of the first and of the last plane below them."""
        font = self.font()
        font.setPixelSize(NUMBER_ROOM - 3)
        painter.setFont(font)
        painter.setPen(self.palette().windowText().color())
        line = QRectF(1, self.height() - NUMBER_ROOM, self.width() - 2, NUMBER_ROOM)
        for number, side in zip(self._limits, (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight), strict=True):
            painter.drawText(line, int(side | Qt.AlignmentFlag.AlignVCenter), str(number))


def shown_planes(planes: ObjectPlanes) -> tuple[int, int]:
    """Return the first and the last plane that the plot shows: those of the object, and some beside them."""
    stack = planes.stack
    if planes.extent is None:
        return stack.first, stack.last
    first, last = planes.extent
    margin = max(MARGIN, round(MARGIN_SHARE * (last - first + 1)))
    return max(first - margin, stack.first), min(last + margin, stack.last)


def _draw_lock(painter: QPainter, bottom: QPointF) -> None:
    """Draw a lock that stands on a point."""
    x, y = bottom.x(), bottom.y()
    half = LOCK_WIDTH / 2
    painter.fillRect(QRectF(x - half, y - 6, LOCK_WIDTH, 6), QColor(ACCEPTED))
    painter.setPen(QPen(QColor(ACCEPTED), 1.4))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawArc(QRectF(x - half + 1.2, y - 10.5, LOCK_WIDTH - 2.4, 8), 0, 180 * 16)
