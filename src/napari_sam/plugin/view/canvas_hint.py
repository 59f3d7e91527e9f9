"""CanvasHint: show on the canvas what the next click means; the user's own text comes back afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel

HINT = "Click an object"
HINT_OF_TOOL = {
    "box": "□  drag a box around the object",
    "lasso": "◌  drag around the object",
    "polygon": "⬠  outline the object",
    "ellipse": "○  drag an ellipse over the object",
}
HINT_OF_POINT = {1: "+  on the object", 0: "−  off the object"}  # noqa: RUF001  A true minus, as wide as the plus.


def hint_for(tool: str | None, sign: int, is_first: bool, replaced: int | None = None) -> str:
    """Return the hint for a tool; empty without one.

    Parameters
    ----------
    tool
        One of `MODE_OF_TOOL`, or None.
    sign
        Sign of the next point, 1 or 0.
    is_first
        Whether no prompt was ever made.
    replaced
        Label of the object that is corrected, or None.
    """
    if tool is None:
        return ""
    if tool == "points" and is_first and sign == 1:
        return HINT
    text = HINT_OF_TOOL.get(tool) or HINT_OF_POINT[sign] + (" (drag a line)" if tool == "scribble" else "")
    return text if replaced is None else f"{text}   correcting label {replaced}"


class CanvasHint:
    """Borrows the text overlay of the canvas.

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
        """Show a text; an empty one restores the user's own."""
        overlay = self._overlay
        if self._before is not None and overlay.text != self._mine:
            self._before, self._mine = None, ""  # The user or another plugin wrote there since.
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
        """Restore the user's text."""
        if self._before is not None and self._overlay.text == self._mine:
            self._overlay.visible, self._overlay.text = self._before
        self._before, self._mine = None, ""
