"""TabKey: use the Tab key on the canvas, where Qt would move the focus. Does nothing if the canvas is not found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeyEvent

from napari_sam.plugin.view.napari_private import canvas_of

if TYPE_CHECKING:
    from napari.viewer import Viewer


class TabKey(QObject):
    """The Tab key on the canvas: Qt uses it to move the focus, so that napari never receives it.

    Parameters
    ----------
    viewer
        The viewer with the canvas.
    action
        Called when the key is pressed.
    """

    def __init__(self, viewer: Viewer, action: Callable[[], None]) -> None:
        super().__init__()
        self._canvas, self._action, self._enabled = canvas_of(viewer), action, False
        if self._canvas is not None:
            self._canvas.installEventFilter(self)

    def set_enabled(self, enabled: bool) -> None:
        """Use the key, or leave it to Qt."""
        self._enabled = enabled

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802  Qt's name.
        """Handle the key before Qt moves the focus."""
        if not self._enabled or not isinstance(event, QKeyEvent) or event.type() != QEvent.Type.KeyPress:
            return False
        if event.key() != Qt.Key.Key_Tab or event.modifiers() != Qt.KeyboardModifier.NoModifier:
            return False
        self._action()
        return True

    def close(self) -> None:
        """Stop using the key."""
        self._enabled = False
        if self._canvas is not None:
            self._canvas.removeEventFilter(self)
            self._canvas = None
