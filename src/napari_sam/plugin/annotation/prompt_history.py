"""PromptHistory: the prompts and open drafts before each step, for undo and redo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_sam.plugin.drafts import Draft
from napari_sam.plugin.prompts.state import PromptState

if TYPE_CHECKING:
    from napari_sam.plugin.session import Session


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The prompts and the open drafts at one time.

    Parameters
    ----------
    drawn
        The prompts.
    pending, current
        The open drafts, as in `Drafts`.
    at
        When the step was taken that led to it, on the clock of `Session`.
    """

    drawn: PromptState
    pending: tuple[Draft, ...]
    current: Draft
    at: int = 0

    def is_like(self, other: Snapshot) -> bool:
        """Say whether nothing changed between two snapshots, except which draft is the current one."""
        same = self._is_begun == other._is_begun and self._begun == other._begun
        return same and self.drawn.is_like(other.drawn)

    @property
    def _is_begun(self) -> bool:
        """Whether the current draft has prompts."""
        return self.current.replaces is not None or self.drawn.has_any_of(self.current.number)

    @property
    def _begun(self) -> set[Draft]:
        return {*self.pending, *([self.current] if self._is_begun else [])}

    def without(self, gone: Draft, instead: Draft) -> Snapshot:
        """Return the snapshot as if a draft had never been open, with another one as the current draft."""
        current = instead if self.current is gone else self.current
        pending = tuple(draft for draft in self.pending if draft not in (gone, current))
        return replace(self, drawn=self.drawn.without(gone.number), pending=pending, current=current)


class PromptHistory:
    """Keeps the snapshots since the last time that cannot be undone.

    Parameters
    ----------
    session
        The prompts and drafts.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._past: list[Snapshot] = []
        self._future: list[Snapshot] = []
        self._present = self._snapshot()

    @property
    def drawn(self) -> PromptState:
        """The prompts when they were recorded last."""
        return self._present.drawn

    @property
    def last_at(self) -> int | None:
        """Time of the step that `undo` takes back, or None where there is none."""
        return self._present.at if self._past else None

    @property
    def undone_at(self) -> int | None:
        """Time of the undo that `redo` reverses, or None where there is none."""
        return self._future[-1].at if self._future else None

    def begin(self) -> None:
        """Forget all steps."""
        self._past, self._present, self._future = [], self._snapshot(), []

    def record(self) -> None:
        """Record the prompts as they are, if anything changed."""
        snapshot = self._snapshot()
        if snapshot.is_like(self._present):
            self._present = replace(snapshot, at=self._present.at)
        else:
            self._past.append(self._present)
            self._present, self._future = snapshot, []

    def undo(self) -> Snapshot | None:
        """Return the snapshot before the last step, or None where there is none."""
        if not self._past:
            return None
        self._future.append(replace(self._present, at=self._session.tick()))
        self._present = self._past.pop()
        return self._present

    def redo(self) -> Snapshot | None:
        """Return the snapshot that was undone last, or None where there is none."""
        if not self._future:
            return None
        self._past.append(self._present)
        self._present = replace(self._future.pop(), at=self._session.tick())
        return self._present

    def forget(self, gone: Draft) -> None:
        """Remove a draft from every snapshot: it was written, or the object that it replaces is gone.

        Where it was the current draft, the present one takes its place.
        """
        instead = self._session.current
        *past, self._present = _merged(snapshot.without(gone, instead) for snapshot in (*self._past, self._present))
        self._past = past
        self._future = _thinned([snapshot.without(gone, instead) for snapshot in self._future], self._present)

    def _snapshot(self) -> Snapshot:
        drafts = self._session.drafts
        return Snapshot(self._session.prompts.drawn, tuple(drafts.pending), drafts.current, self._session.tick())


def _merged(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """Leave out snapshots that equal the one before; the merged step keeps the time of the first."""
    merged: list[Snapshot] = []
    for snapshot in snapshots:
        if merged and snapshot.is_like(merged[-1]):
            merged[-1] = replace(snapshot, at=merged[-1].at)
        else:
            merged.append(snapshot)
    return merged


def _thinned(snapshots: Iterable[Snapshot], present: Snapshot) -> list[Snapshot]:
    """Leave out snapshots of the future, the next one last, that change nothing any more."""
    thinned: list[Snapshot] = []
    after = present
    for snapshot in reversed(list(snapshots)):
        if not snapshot.is_like(after):
            thinned.append(snapshot)
            after = snapshot
    return thinned[::-1]
