"""Parts that the panels of the widget are built of."""

from __future__ import annotations

from collections.abc import Sequence

from magicgui.widgets import ComboBox
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import QBoxLayout, QComboBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

MIN_LETTERS = 8


def push_button(text: str, tip: str) -> QPushButton:
    """Return a button that leaves the keys to the canvas."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button


def dot(color: str) -> QIcon:
    """Return a round icon."""
    pixmap = QPixmap(16, 16)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(QColor(color))
    painter.setPen(Qt.GlobalColor.white)
    painter.drawEllipse(2, 2, 12, 12)
    painter.end()
    return QIcon(pixmap)


def narrow(choice: ComboBox) -> None:
    """Let a choice be narrower than its longest name."""
    native: QComboBox = choice.native
    native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    native.setMinimumContentsLength(MIN_LETTERS)


def rows_into(column: QBoxLayout, rows: Sequence[Sequence[QWidget]]) -> None:
    """Put rows of equally wide widgets under each other."""
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
