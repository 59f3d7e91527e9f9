"""ClassLegend: the colors of several classes, in one line."""

from __future__ import annotations

import html
from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_sam.plugin.widgets.buttons import plain_tip

# Classes that have room in the line; the tooltip names all.
MOST = 3


class ClassLegend(QLabel):
    """Shows the color, the name and the number of each class; hidden where there are not several."""

    def __init__(self) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setMinimumWidth(1)  # Or long names would push the buttons out of the dock.
        self.setFixedHeight(self.fontMetrics().lineSpacing() + 4)
        self.setVisible(False)

    def show_classes(self, classes: Sequence[tuple[str, str, int]]) -> None:
        """Show (name, color, number of objects) of each class."""
        self.setVisible(bool(classes))
        if not classes:
            return
        shown = sorted(classes, key=lambda each: -each[2])[:MOST]
        metrics, more = self.fontMetrics(), f" +{len(classes) - MOST}" if len(classes) > MOST else ""
        numbers = sum(metrics.horizontalAdvance(f"\u25a0 {count}   ") for _, _, count in shown)
        room = (max(self.width(), 200) - numbers - metrics.horizontalAdvance(more)) // len(shown)
        parts = []
        for name, color, count in shown:
            short = metrics.elidedText(name or "no class", Qt.TextElideMode.ElideRight, max(room, 20))
            parts.append(f'<span style="color: {color}">\u25a0</span> {html.escape(short)} {count}')
        self.setText("&nbsp; ".join(parts) + more)
        self.setToolTip(plain_tip("\n".join(f"{name or 'no class'}: {count}" for name, _, count in classes)))
