"""UndoStack: steps back and forth over prompts, accepted objects and classes, in the order in which they were done."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from napari_sam.plugin.prompts.history import PromptHistory, Snapshot
from napari_sam.plugin.widgets.step_texts import StepLabel

if TYPE_CHECKING:
    from napari_sam.plugin.controller import Controller
    from napari_sam.plugin.objects.journals import OpenJournal
    from napari_sam.plugin.objects.object_list import Objects

Kind = Literal["prompt", "object", "accepted"]


@dataclass(slots=True)
class Times:
    """When the actions on one output were done and undone in this window, the last one at the end."""

    done: list[int] = field(default_factory=list)
    undone: list[int] = field(default_factory=list)


class UndoStack:
    """Takes back what was done last, and does it again.

    Prompts and each output have histories of their own. A clock that ticks at every step tells which of them holds
    the last one: an output that was not chosen keeps its history for when it is chosen again.

    Parameters
    ----------
    controller
        Whose prompts and open objects these are.
    objects
        Takes back what was written.

    Attributes
    ----------
    history
        The prompts as they were.
    """

    def __init__(self, controller: Controller, objects: Objects) -> None:
        self.history = PromptHistory()
        self._controller, self._objects = controller, objects
        self._clock = itertools.count(1)
        self._times: dict[int, tuple[OpenJournal, Times]] = {}
        self._due: list[Callable[[], None]] = []
        self.begin()

    def begin(self) -> None:
        """Let nothing that was prompted so far be taken back."""
        self.history.begin(self._moment)
        self._due = []

    def forget_gone(self) -> None:
        """Keep no times of outputs whose layer was deleted: they would keep its pixels in memory."""
        there = {id(kept) for kept in self._controller.journals.all_kept()}
        self._times = {key: known for key, known in self._times.items() if key in there}

    def now(self) -> int:
        """Return the time by the clock, which is another one at each call."""
        return next(self._clock)

    def record(self) -> None:
        """Keep the prompts as they are, if anything happened to them."""
        self.history.record(self._moment)

    def acts_on(self, kept: OpenJournal) -> Callable[[bool], None]:
        """Note that an action on an output begins; call what is returned with whether it changed anything."""
        times, at = self._times_of(kept), self.now()
        times.done.append(at)

        def ended(has_changed: bool) -> None:
            if has_changed:
                times.undone.clear()
            elif at in times.done:
                times.done.remove(at)

        return ended

    def accepted(self, kept: OpenJournal | None, at: int) -> None:
        """Note that an object was written that was accepted at a time; `kept` None: its layer was deleted since."""
        if kept is None:
            return
        times = self._times_of(kept)
        if at not in times.done:  # One of several that were accepted together.
            bisect.insort(times.done, at)
        times.undone.clear()

    def undo(self) -> None:
        """Take back the step that was taken last, whatever it was."""
        kind = self._last
        if kind == "accepted":
            self._take_back_accepted()
        elif kind == "prompt" and self._controller.must_wait:
            self._due.append(self.undo)
            self._controller.set_status("This will be undone as soon as the object is written.")
        elif kind == "prompt":
            moment = self.history.undo(self.now())
            if moment is not None:
                self._return_to(moment, "Prompts: one step back.")
        elif kind != "object" or not self._undo_object():
            self._controller.notify("There is nothing to undo: no mask was accepted, or its Labels layer is gone.")

    def redo(self) -> None:
        """Do the step again that was taken back last."""
        if self._is_prompt_next and self._controller.must_wait:
            self._due.append(self.redo)
            return
        moment = self.history.redo(self.now()) if self._is_prompt_next else None
        if moment is not None:
            self._return_to(moment, "Prompts: one step forth.")
        elif not self._redo_object():
            self._controller.notify("There is nothing to redo: nothing was undone, or something else was done since.")

    def catch_up(self) -> None:
        """Take the steps that had to wait until what was accepted is written."""
        while self._due and not self._controller.must_wait:
            self._due.pop(0)()

    @property
    def next_undo(self) -> StepLabel:
        """What the button for a step back is to say."""
        kind = self._last
        if kind == "prompt":
            return StepLabel("The last step of the prompts.", "")
        return StepLabel("Accepting the last object.", "") if kind == "accepted" else self._objects.next_undo

    @property
    def next_redo(self) -> StepLabel:
        """What the button for a step forth is to say."""
        return StepLabel("The last step of the prompts.", "") if self._is_prompt_next else self._objects.next_redo

    @property
    def _last(self) -> Kind | None:
        """What was done last and can be taken back."""
        kept = self._objects.kept
        times: dict[Kind, int] = {}
        if self.history.last_at is not None:
            times["prompt"] = self.history.last_at
        waiting = self._controller.open.accepted
        if waiting:
            times["accepted"] = max(each.accepted_at for each in waiting)
        if kept is not None and self._objects.can_undo:
            times["object"] = max(self._times_of(kept).done, default=0)  # Older ones are of an earlier window.
        return max(times, key=lambda kind: times[kind], default=None)

    @property
    def _is_prompt_next(self) -> bool:
        """Whether the step that was taken back last is one of the prompts."""
        kept, prompt = self._objects.kept, self.history.undone_at
        if prompt is None:
            return False
        if kept is None or not self._objects.can_redo:
            return True
        return prompt > max(self._times_of(kept).undone, default=0)

    def _take_back_accepted(self) -> None:
        """Open objects again that were accepted last and are not written; one that is being written is undone then."""
        opened = self._controller.open
        last = max(each.accepted_at for each in opened.accepted)
        if opened.writing is not None and opened.writing.accepted_at == last:
            self._due.append(self.undo)
            self._controller.set_status("This will be undone as soon as the object is written.")
            return
        given = [each for each in opened.waiting if each.accepted_at == last]
        self._controller.accepting.reopen(*given)
        self._controller.set_status("Objects that were not written yet are open again.")
        self._controller.accepting.advance()

    def _undo_object(self) -> bool:
        kept = self._objects.kept
        assert kept is not None
        times = self._times_of(kept)
        at, undone = times.done.pop() if times.done else 0, self.now()
        times.undone.append(undone)

        def failed() -> None:
            times.undone.remove(undone)
            if at:
                bisect.insort(times.done, at)

        return self._objects.undo(failed)

    def _redo_object(self) -> bool:
        kept = self._objects.kept
        if kept is None or not self._objects.can_redo:
            return False
        times = self._times_of(kept)
        undone, at = times.undone.pop() if times.undone else 0, self.now()
        times.done.append(at)

        def failed() -> None:
            if at in times.done:
                times.done.remove(at)
            if undone:
                times.undone.append(undone)

        return self._objects.redo(failed)

    def _times_of(self, kept: OpenJournal) -> Times:
        return self._times.setdefault(id(kept), (kept, Times()))[1]

    @property
    def _moment(self) -> Snapshot:
        opened = self._controller.open
        return Snapshot(self._controller.prompts.drawn, tuple(opened.pending), opened.now, self.now())

    def _return_to(self, moment: Snapshot, status: str) -> None:
        self._controller.in_hand.return_to(moment)
        self._controller.set_status(status)
