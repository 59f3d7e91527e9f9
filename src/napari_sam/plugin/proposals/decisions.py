"""Decisions: what the user said about single proposals, step by step, so that each can be undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psygnal import Signal

from napari_sam.plugin.proposals.found_planes import Decision


@dataclass(frozen=True, slots=True)
class _Step:
    """One decision: its time, its proposal, and what was decided about that before and after it."""

    at: int
    number: int
    before: Decision | None
    after: Decision


class Decisions:
    """Remembers decisions by the number of the proposal.

    Parameters
    ----------
    tick
        Returns the time of a step, in the order of all steps that can be undone.

    Attributes
    ----------
    changed
        Emitted with the number of a proposal about which something else is decided now.
    stepped
        Emitted with that number after an undo or a redo.
    by_number
        The decisions, in the order in which they were made.
    """

    changed = Signal(int)
    stepped = Signal(int)

    def __init__(self, tick: Callable[[], int]) -> None:
        self.by_number: dict[int, Decision] = {}
        self._tick = tick
        self._done: list[_Step] = []
        self._undone: list[_Step] = []

    @property
    def last_at(self) -> int | None:
        """Time of the decision that `undo` takes back, or None where there is none."""
        return self._done[-1].at if self._done else None

    @property
    def undone_at(self) -> int | None:
        """Time of the undo that `redo` reverses, or None where there is none."""
        return self._undone[-1].at if self._undone else None

    def clear(self) -> None:
        """Forget all decisions: the proposals are gone."""
        self.by_number, self._done, self._undone = {}, [], []

    def decide(self, number: int, decision: Decision) -> None:
        """Decide about a proposal, or decide otherwise."""
        self._done.append(_Step(self._tick(), number, self.by_number.get(number), decision))
        self._undone = []
        self._set(number, decision)

    def undo(self) -> None:
        """Take the last decision back."""
        step = self._done.pop()
        self._undone.append(_Step(self._tick(), step.number, step.before, step.after))
        self._set(step.number, step.before)
        self.stepped.emit(step.number)

    def redo(self) -> None:
        """Make the decision again that was taken back last."""
        step = self._undone.pop()
        self._done.append(_Step(self._tick(), step.number, step.before, step.after))
        self._set(step.number, step.after)
        self.stepped.emit(step.number)

    def _set(self, number: int, decision: Decision | None) -> None:
        self.by_number.pop(number, None)
        if decision is not None:
            self.by_number[number] = decision
        self.changed.emit(number)
