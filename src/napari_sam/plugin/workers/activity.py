"""Activity: the progress of a run over many tiles in napari's activity dock, where it can be cancelled."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from napari.utils import cancelable_progress


class Progress(Protocol):
    """How far a run is."""

    @property
    def total(self) -> int:
        """Number of tiles."""
        ...

    @property
    def done(self) -> float:
        """Number of finished tiles, with the share of the next one where that is known."""
        ...


class Activity:
    """Shows how far a run is.

    napari lets Qt deliver events while it draws a bar, so the next progress of the run may arrive in the middle of
    showing this one: it is shown afterwards, in the same bar.

    Parameters
    ----------
    text
        Description of the run.
    cancel
        Called when the user cancels it there.
    """

    def __init__(self, text: str, cancel: Callable[[], None]) -> None:
        self._text, self._cancel = text, cancel
        self._bar: Any = None
        self._newest: Progress | None = None
        self._is_drawing = False

    def follow(self, now: Progress | None) -> None:
        """Show how far it is by now; None: there is none under way."""
        self._newest = now
        if self._is_drawing:
            return
        self._is_drawing = True
        try:
            self._draw(now)
            while self._newest is not now:
                now = self._newest
                self._draw(now)
        finally:
            self._is_drawing = False

    def close(self) -> None:
        """Show nothing any more."""
        self.follow(None)

    def _draw(self, now: Progress | None) -> None:
        if now is None:
            bar, self._bar = self._bar, None
            if bar is not None:
                bar.close()
            return
        if self._bar is None:
            self._bar = cancelable_progress(total=now.total, desc=self._text)
        if self._bar.is_canceled:
            self._cancel()
            return
        self._bar.total = now.total
        self._bar.update(math.floor(now.done) - self._bar.n)
