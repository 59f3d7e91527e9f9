"""The canvas as a Qt widget, which napari does not give away; all that is done with it works without, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from napari.viewer import Viewer


def canvas_of(viewer: Viewer) -> QWidget | None:
    """Return the widget that shows a viewer's image, or None where napari keeps it elsewhere by now."""
    qt_viewer: Any = getattr(viewer.window, "_qt_viewer", None)
    native = getattr(getattr(qt_viewer, "canvas", None), "native", None)
    return native if isinstance(native, QWidget) else None


class TabKey(QObject):
    """The Tab key over the canvas: Qt keeps it for moving the focus, so that napari never sees it.

    Parameters
    ----------
    viewer
        Whose canvas.
    act
        What the key does.
    """

    def __init__(self, viewer: Viewer, act: Callable[[], None]) -> None:
        super().__init__()
        self._canvas, self._act, self._enabled = canvas_of(viewer), act, False
        if self._canvas is not None:
            self._canvas.installEventFilter(self)

    def set_enabled(self, enabled: bool) -> None:
        """Take the key, or leave it to Qt."""
        self._enabled = enabled

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802  Qt's name.
        """Act on the key before Qt moves the focus."""
        if not self._enabled or not isinstance(event, QKeyEvent) or event.type() != QEvent.Type.KeyPress:
            return False
        if event.key() != Qt.Key.Key_Tab or event.modifiers() != Qt.KeyboardModifier.NoModifier:
            return False
        self._act()
        return True

    def close(self) -> None:
        """Give the key back."""
        self._enabled = False
        if self._canvas is not None:
            self._canvas.removeEventFilter(self)
            self._canvas = None
