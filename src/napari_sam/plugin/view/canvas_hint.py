"""Signs: on the canvas, what the next click will mean; the user's own text comes back afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel

HINT = "Click an object"
SIGN_OF_TOOL = {
    "box": "□  drag a box around the object",
    "lasso": "◌  drag around the object",
    "polygon": "⬠  outline the object",
    "ellipse": "○  drag an ellipse over the object",
}
SIGN_OF_POINT = {1: "+  on the object", 0: "−  off the object"}  # noqa: RUF001  A true minus, as wide as the plus.


def sign_for(tool: str | None, sign: int, is_first: bool, refined: int | None = None) -> str:
    """Return what to show for a tool; nothing where none is in hand.

    Parameters
    ----------
    tool
        See `controller.MODE_OF_TOOL`.
    sign
        Of the next point.
    is_first
        Whether no prompt was ever made.
    refined
        The label that is corrected, or None.
    """
    if tool is None:
        return ""
    if tool == "points" and is_first and sign == 1:
        return HINT
    text = SIGN_OF_TOOL.get(tool) or SIGN_OF_POINT[sign] + (" (drag a line)" if tool == "scribble" else "")
    return text if refined is None else f"{text}   correcting label {refined}"


class CanvasSign:
    """Borrows the canvas's text.

    Parameters
    ----------
    viewer
        The viewer's model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._overlay: Any = viewer.canvas.overlays.text
        self._before: tuple[bool, str] | None = None
        self._mine = ""

    def show(self, text: str) -> None:
        """Show a text, or with an empty one the user's own again."""
        overlay = self._overlay
        if self._before is not None and overlay.text != self._mine:
            self._before, self._mine = None, ""  # Somebody wrote there since: it is theirs again.
            return
        if text == self._mine:
            return
        if not text:
            self.restore()
            return
        if self._before is None:
            self._before = bool(overlay.visible), str(overlay.text)
        self._mine = text
        overlay.text = text
        overlay.visible = True

    def restore(self) -> None:
        """Give the text back."""
        if self._before is not None and self._overlay.text == self._mine:
            self._overlay.visible, self._overlay.text = self._before
        self._before, self._mine = None, ""
