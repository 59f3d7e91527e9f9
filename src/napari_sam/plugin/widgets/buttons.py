"""Buttons, lines, bars, rows and collapsible sections of the panels."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence

from magicgui.widgets import ComboBox
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPaintEvent, QPixmap, QPolygon
from qtpy.QtWidgets import QBoxLayout, QComboBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget
from superqt import QCollapsible, QElidingLabel

MIN_LETTERS = 8
# A button that can be pressed is 2 pixels lower in napari's themes, which would move what is below it.
BUTTON_HEIGHT = 26
TRIANGLE_COLOR, BAR_COLOR, TRACK_COLOR = "#8a919c", "#5a9bd8", "#508a919c"
# Qt's own limit, QWIDGETSIZE_MAX, which its bindings do not export.
NO_LIMIT = 2**24 - 1


def push_button(text: str, tip: str) -> QPushButton:
    """Return a button that never takes the keyboard focus from the canvas."""
    button = QPushButton(text)
    button.setMinimumHeight(BUTTON_HEIGHT)
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button


class Line(QElidingLabel):
    """Text in a fixed number of lines, so that nothing below it moves; what does not fit is in the tooltip.

    Parameters
    ----------
    lines
        Number of lines.
    """

    def __init__(self, lines: int = 1) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)  # Or the name of a class could be taken for HTML.
        self.setWordWrap(lines > 1)
        # With room for the font of napari's theme, which Qt knows only once it is shown.
        self.setFixedHeight(lines * (self.fontMetrics().lineSpacing() + 2) + 2)
        self.setMinimumWidth(1)  # Or a long text would push the buttons out of the dock.

    def setText(self, text: str) -> None:  # noqa: N802  Qt's name.
        """Show a text."""
        super().setText(text)
        self.setToolTip(plain_tip(text))


def plain_tip(text: str) -> str:
    """Return a tooltip that shows a text as it is, also where Qt would take it for HTML."""
    return f"<span>{html.escape(text)}</span>" if "<" in text else text


class Bar(QWidget):
    """A thin bar for a share between 0 and 1, or none.

    Not a QProgressBar: that repaints the whole window at once, also while napari removes a layer, and Mesa crashes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.share: float | None = None
        self.setFixedHeight(5)

    def show_share(self, share: float | None) -> None:
        """Show a share, or an empty bar; not a number counts as none."""
        wanted = None if share is None or math.isnan(share) else min(max(share, 0.0), 1.0)
        if wanted != self.share:
            self.share = wanted
            self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802  Qt's name.
        """Draw the bar in the colors of the theme."""
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(TRACK_COLOR))
        painter.drawRoundedRect(self.rect(), 2, 2)
        if self.share is not None:  # At 0 a little, too: it shows that something runs.
            painter.setBrush(QColor(BAR_COLOR))
            painter.drawRoundedRect(0, 0, max(round(self.share * self.width()), 4), self.height(), 2, 2)
        painter.end()


def section(title: str, tip: str, content: QWidget, beside: QWidget | None = None) -> QCollapsible:
    """Return a collapsed section; `expand` shows the content, in its full height at any time.

    Parameters
    ----------
    title, tip
        Text and tooltip of the button that unfolds it.
    content
        What is folded.
    beside
        What stands beside the title and is never folded.
    """
    collapsible = QCollapsible(title)
    collapsible.setExpandedIcon(_triangle((2, 5), (14, 5), (8, 12)))
    collapsible.setCollapsedIcon(_triangle((5, 2), (12, 8), (5, 14)))
    # Qt's animation would leave the content a height that no longer fits when a row is added to it.
    collapsible.setDuration(0)
    collapsible.setContent(content)
    column = collapsible.layout()
    assert isinstance(column, QVBoxLayout)
    column.setContentsMargins(0, 0, 0, 0)
    if beside is not None:
        column.removeWidget(collapsible.toggleButton())
        row = QHBoxLayout()
        row.addWidget(collapsible.toggleButton())
        row.addWidget(beside, 1)
        column.insertLayout(0, row)

    def follow(is_expanded: bool) -> None:
        content.setMaximumHeight(NO_LIMIT)
        content.setVisible(is_expanded)

    collapsible.toggled.connect(follow)
    follow(False)
    button = collapsible.toggleButton()
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    # Without a background, which would be that of a pressed button while the section is open.
    button.setStyleSheet("text-align: left; border: none; background: transparent; font-weight: bold; padding: 4px 0")
    return collapsible


def dot(color: str) -> QIcon:
    """Return a round icon."""
    return _icon(color, Qt.GlobalColor.white, lambda painter: painter.drawEllipse(2, 2, 12, 12))


def _triangle(*corners: tuple[int, int]) -> QIcon:
    """Return an icon in a gray that is visible in napari's dark and light themes."""
    polygon = QPolygon([QPoint(*corner) for corner in corners])
    return _icon(TRIANGLE_COLOR, Qt.PenStyle.NoPen, lambda painter: painter.drawPolygon(polygon))


def _icon(color: str, pen: Qt.GlobalColor | Qt.PenStyle, draw: Callable[[QPainter], None]) -> QIcon:
    pixmap = QPixmap(16, 16)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(QColor(color))
    painter.setPen(pen)
    draw(painter)
    painter.end()
    return QIcon(pixmap)


def narrow(choice: ComboBox) -> None:
    """Allow a combo box to be narrower than its longest entry."""
    native: QComboBox = choice.native
    native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    native.setMinimumContentsLength(MIN_LETTERS)


def rows_into(column: QBoxLayout, rows: Sequence[Sequence[QWidget]]) -> None:
    """Add rows of equally wide widgets to a column."""
    for row in rows:
        line = QHBoxLayout()
        for widget in row:
            line.addWidget(widget, 1)
        column.addLayout(line)


def beside(first: QWidget, *others: QWidget) -> QWidget:
    """Return a widget of a wide widget and narrow ones after it."""
    whole = QWidget()
    row = QHBoxLayout(whole)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(first, 1)
    for other in others:
        row.addWidget(other)
    return whole


def rows_of(*rows: Sequence[QWidget]) -> QWidget:
    """Return a widget of rows of equally wide widgets."""
    whole = QWidget()
    column = QVBoxLayout(whole)
    column.setContentsMargins(4, 0, 4, 4)
    rows_into(column, rows)
    return whole
