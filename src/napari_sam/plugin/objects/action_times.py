"""ActionTimes: when the actions on each output were done and undone."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.plugin.objects.open_journal import OpenJournal
    from napari_sam.plugin.session import Session


@dataclass(slots=True)
class Times:
    """Times of the actions on one output in this window, the last one at the end."""

    done: list[int] = field(default_factory=list)
    undone: list[int] = field(default_factory=list)


class ActionTimes:
    """Keeps the times of actions, on the clock of the session, so that undo finds the last step of any kind.

    Parameters
    ----------
    session
        Has the clock.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._times: dict[int, tuple[OpenJournal, Times]] = {}

    def keep_only(self, journals: Iterable[OpenJournal]) -> None:
        """Drop the times of other outputs, whose pixels would stay in memory with them."""
        known = {id(journal) for journal in journals}
        self._times = {key: entry for key, entry in self._times.items() if key in known}

    def last_done(self, journal: OpenJournal) -> int:
        """Return the time of the last action that can be undone; 0 for one of an earlier window."""
        return max(self._of(journal).done, default=0)

    def last_undone(self, journal: OpenJournal) -> int:
        """Return the time of the last undo; 0 for one of an earlier window."""
        return max(self._of(journal).undone, default=0)

    def begin(self, journal: OpenJournal) -> Callable[[bool], None]:
        """Note the beginning of an action; call the result with whether it changed anything."""
        times, at = self._of(journal), self._session.tick()
        times.done.append(at)

        def end(has_changed: bool) -> None:
            if has_changed:
                times.undone.clear()
            elif at in times.done:
                times.done.remove(at)

        return end

    def note_commit(self, journal: OpenJournal, at: int) -> None:
        """Note that a draft was written that was accepted at a time."""
        times = self._of(journal)
        if at not in times.done:  # One of several that were accepted together.
            bisect.insort(times.done, at)
        times.undone.clear()

    def begin_undo(self, journal: OpenJournal) -> Callable[[], None]:
        """Note the undo of the last action; call the result if it fails."""
        times = self._of(journal)
        at, undone = times.done.pop() if times.done else 0, self._session.tick()
        times.undone.append(undone)

        def fail() -> None:
            times.undone.remove(undone)
            if at:
                bisect.insort(times.done, at)

        return fail

    def begin_redo(self, journal: OpenJournal) -> Callable[[], None]:
        """Note the redo of the action that was undone last; call the result if it fails."""
        times = self._of(journal)
        undone, at = times.undone.pop() if times.undone else 0, self._session.tick()
        times.done.append(at)

        def fail() -> None:
            if at in times.done:
                times.done.remove(at)
            if undone:
                times.undone.append(undone)

        return fail

    def _of(self, journal: OpenJournal) -> Times:
        return self._times.setdefault(id(journal), (journal, Times()))[1]
