"""Activity: a run over many tiles in napari's activity dock, where it can be cancelled, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.utils import cancelable_progress

if TYPE_CHECKING:
    from napari_sam.encoding import EncodeProgress


class Activity:
    """Shows how far a run is.

    Parameters
    ----------
    text
        What is done.
    cancel
        Called when the user cancels it there.
    """

    def __init__(self, text: str, cancel: Callable[[], None]) -> None:
        self._text, self._cancel = text, cancel
        self._bar: Any = None

    def follow(self, now: EncodeProgress | None) -> None:
        """Show how far it is by now; None: there is none under way."""
        if now is None:
            self.close()
            return
        if self._bar is None:
            self._bar = cancelable_progress(total=now.total, desc=self._text)
        if self._bar.is_canceled:
            self._cancel()
            return
        self._bar.total = now.total
        self._bar.update(now.done - self._bar.n)

    def close(self) -> None:
        """Show nothing any more."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
