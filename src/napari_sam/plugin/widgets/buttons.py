"""Buttons, rows and collapsible sections of the panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from magicgui.widgets import ComboBox
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap, QPolygon
from qtpy.QtWidgets import QBoxLayout, QComboBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget
from superqt import QCollapsible

MIN_LETTERS = 8
TRIANGLE_COLOR = "#8a919c"
# Qt's own limit, QWIDGETSIZE_MAX, which its bindings do not export.
NO_LIMIT = 2**24 - 1


def push_button(text: str, tip: str) -> QPushButton:
    """Return a button that never takes the keyboard focus from the canvas."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button


def section(title: str, tip: str, content: QWidget) -> QCollapsible:
    """Return a collapsed section with a title; `expand` shows the content, in its full height at any time."""
    collapsible = QCollapsible(title)
    collapsible.setExpandedIcon(_triangle((2, 5), (14, 5), (8, 12)))
    collapsible.setCollapsedIcon(_triangle((5, 2), (12, 8), (5, 14)))
    # Qt's animation would leave the content a height that no longer fits when a row is added to it.
    collapsible.setDuration(0)
    collapsible.setContent(content)
    column = collapsible.layout()
    assert column is not None
    column.setContentsMargins(0, 0, 0, 0)

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


def rows_of(*rows: Sequence[QWidget]) -> QWidget:
    """Return a widget of rows of equally wide widgets."""
    whole = QWidget()
    column = QVBoxLayout(whole)
    column.setContentsMargins(4, 0, 4, 4)
    rows_into(column, rows)
    return whole
