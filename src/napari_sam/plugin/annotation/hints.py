"""DraftHints: tell on the canvas what the next click means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_sam.plugin.view.canvas_hint import CanvasHint, hint_for

if TYPE_CHECKING:
    from napari_sam.plugin.session import Session


class DraftHints:
    """Shows a hint for the active tool.

    Parameters
    ----------
    session
        The viewer, the task and the current draft.
    hint_of_task
        Returns the hint of the task All or Through planes; an empty one of the latter stands for that of the tool.
    """

    def __init__(self, session: Session, hint_of_task: Callable[[], str]) -> None:
        self._session, self._hint_of_task = session, hint_of_task
        self._hint, self._is_first = CanvasHint(session.viewer), True
        session.changed.connect(self.show)

    def show(self) -> None:
        """Show what the next click means."""
        session, current = self._session, self._session.current
        self._is_first = self._is_first and not session.is_begun
        replaced = None if current.replaces is None else current.replaces.label
        hint = hint_for(session.prompts.tool, session.prompts.sign, self._is_first, replaced)
        of_task = "" if session.task in ("one", "teach") else self._hint_of_task()
        self._hint.show(of_task if of_task or session.task == "all" else hint)

    def close(self) -> None:
        """Restore the user's own text."""
        self._session.changed.disconnect(self.show)
        self._hint.restore()
