"""UndoStack: undo and redo prompts, commits and actions on objects, in the order in which they were done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

from napari_sam.plugin.objects.step_labels import StepLabel

if TYPE_CHECKING:
    from napari_sam.plugin.annotation.commits import CommitQueue
    from napari_sam.plugin.annotation.editing import DraftEditor
    from napari_sam.plugin.annotation.prompt_history import PromptHistory, Snapshot
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.session import Session

Kind = Literal["prompt", "object", "accepted", "decision"]

AFTER_WRITE = "This will be undone as soon as the object is written."
PROMPT_STEP = "The last step of the prompts."
DECISION_STEP = "The last decision about a proposal."


class Steps(Protocol):
    """A history of steps of one kind."""

    @property
    def last_at(self) -> int | None:
        """Time of the step that `undo` takes back, or None where there is none."""
        ...

    @property
    def undone_at(self) -> int | None:
        """Time of the undo that `redo` reverses, or None where there is none."""
        ...

    def undo(self) -> None:
        """Take the last step back."""
        ...

    def redo(self) -> None:
        """Do the step again that was taken back last."""
        ...


class UndoStack:
    """Undoes the last step of any kind, and redoes it.

    Prompts and each output have histories of their own. The session's clock, which advances at every step, tells
    which of them holds the last one; an output that is not chosen keeps its history for when it is chosen again.

    Parameters
    ----------
    session
        The drafts.
    history
        The steps of the prompts.
    editing
        Restores prompts.
    commits
        Reopens drafts that are not written yet.
    objects
        Undoes what was written.
    decisions
        Decisions about proposals.
    """

    def __init__(
        self,
        session: Session,
        history: PromptHistory,
        editing: DraftEditor,
        commits: CommitQueue,
        objects: Objects,
        decisions: Steps,
    ) -> None:
        self.history, self._decisions = history, decisions
        self._session, self._editing = session, editing
        self._commits, self._objects = commits, objects
        self._due: list[Callable[[], None]] = []

    def forget_due(self) -> None:
        """Drop the steps that wait until what was accepted is written."""
        self._due = []

    def undo(self) -> None:
        """Undo the last step, of any kind."""
        kind = self._last
        if kind == "accepted":
            self._undo_accept()
        elif kind == "prompt" and self._session.must_wait:
            self._undo_later()
        elif kind == "prompt":
            snapshot = self.history.undo()
            if snapshot is not None:
                self._restore(snapshot, "Prompts: one step back.")
        elif kind == "decision":
            self._decisions.undo()
        elif kind != "object" or not self._objects.undo():
            self._session.notify("There is nothing to undo: no mask was accepted, or its Labels layer is gone.")

    def redo(self) -> None:
        """Redo the step that was undone last."""
        if self._is_decision_next:
            self._decisions.redo()
            return
        if self._is_prompt_next and self._session.must_wait:
            self._due.append(self.redo)
            return
        snapshot = self.history.redo() if self._is_prompt_next else None
        if snapshot is not None:
            self._restore(snapshot, "Prompts: one step forth.")
        elif not self._objects.redo():
            self._session.notify("There is nothing to redo: nothing was undone, or something else was done since.")

    def catch_up(self) -> None:
        """Take the steps that had to wait until what was accepted is written."""
        while self._due and not self._session.must_wait:
            self._due.pop(0)()

    @property
    def next_undo(self) -> StepLabel:
        """What the button for undo says."""
        kind = self._last
        if kind == "prompt":
            return StepLabel(PROMPT_STEP, "")
        if kind == "decision":
            return StepLabel(DECISION_STEP, "")
        return StepLabel("Accepting the last object.", "") if kind == "accepted" else self._objects.next_undo

    @property
    def next_redo(self) -> StepLabel:
        """What the button for redo says."""
        if self._is_decision_next:
            return StepLabel(DECISION_STEP, "")
        return StepLabel(PROMPT_STEP, "") if self._is_prompt_next else self._objects.next_redo

    @property
    def _last(self) -> Kind | None:
        """Kind of the last step that can be undone."""
        journal, times = self._objects.journal, self._objects.times
        last: dict[Kind, int] = {}
        if self.history.last_at is not None:
            last["prompt"] = self.history.last_at
        if self._decisions.last_at is not None:
            last["decision"] = self._decisions.last_at
        accepted = self._session.drafts.accepted
        if accepted:
            last["accepted"] = max(draft.accepted_at for draft in accepted)
        if journal is not None and self._objects.can_undo:
            last["object"] = times.last_done(journal)
        return max(last, key=lambda kind: last[kind], default=None)

    @property
    def _is_prompt_next(self) -> bool:
        """Whether the step that was undone last is one of the prompts."""
        journal, prompt = self._objects.journal, self.history.undone_at
        if prompt is None:
            return False
        if journal is None or not self._objects.can_redo:
            return True
        return prompt > self._objects.times.last_undone(journal)

    @property
    def _is_decision_next(self) -> bool:
        """Whether the step that was undone last is a decision about a proposal."""
        undone, objects = self._decisions.undone_at, self._objects
        others = [self.history.undone_at]
        if objects.journal is not None and objects.can_redo:
            others.append(objects.times.last_undone(objects.journal))
        return undone is not None and all(other is None or other < undone for other in others)

    def _undo_accept(self) -> None:
        """Reopen the drafts that were accepted last and are not written; one that is being written is undone then."""
        drafts = self._session.drafts
        last = max(draft.accepted_at for draft in drafts.accepted)
        if drafts.writing is not None and drafts.writing.accepted_at == last:
            self._undo_later()
            return
        self._commits.reopen(*[draft for draft in drafts.queued if draft.accepted_at == last])
        self._session.set_status("Objects that were not written yet are open again.")
        self._commits.advance()

    def _undo_later(self) -> None:
        self._due.append(self.undo)
        self._session.set_status(AFTER_WRITE)

    def _restore(self, snapshot: Snapshot, status: str) -> None:
        self._editing.restore(snapshot)
        self._session.set_status(status)
