"""PromptHistory: the prompts of the open objects as they were before each step, so that it can be taken back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.plugin.drafts import Draft


@dataclass(frozen=True, slots=True, eq=False)
class DrawnShape:
    """One shape of the layer of shapes.

    Parameters
    ----------
    vertices
        As the layer holds them, shape (n, ndim).
    kind
        napari's name of its type.
    sign
        1 on the object, 0 off it.
    number
        Of its open object.
    """

    vertices: NDArray[np.float64]
    kind: str
    sign: int
    number: int

    def is_like(self, other: DrawnShape) -> bool:
        """Say whether another one is the same."""
        same = (self.kind, self.sign, self.number) == (other.kind, other.sign, other.number)
        return same and np.array_equal(self.vertices, other.vertices)


@dataclass(frozen=True, slots=True, eq=False)
class PromptState:
    """All prompts at one moment.

    Parameters
    ----------
    points
        As the layer of points holds them, shape (n, ndim).
    signs, numbers
        Of each point: 1 or 0, and that of its open object; shape (n,).
    shapes
        What the layer of shapes holds.
    """

    points: NDArray[np.float64]
    signs: NDArray[np.int64]
    numbers: NDArray[np.int64]
    shapes: tuple[DrawnShape, ...] = ()

    def is_like(self, other: PromptState) -> bool:
        """Say whether the prompts are the same at another moment."""
        return self.has_same_points(other) and self.has_same_shapes(other)

    def has_same_points(self, other: PromptState) -> bool:
        """Say whether the points are the same at another moment."""
        if len(self.points) == len(other.points) == 0:
            return True  # Where there is no layer nobody knows how many axes they would have.
        return (
            np.array_equal(self.points, other.points)
            and np.array_equal(self.signs, other.signs)
            and np.array_equal(self.numbers, other.numbers)
        )

    def has_same_shapes(self, other: PromptState) -> bool:
        """Say whether the shapes are the same at another moment."""
        same_count = len(self.shapes) == len(other.shapes)
        return same_count and all(a.is_like(b) for a, b in zip(self.shapes, other.shapes, strict=True))

    def has_any_of(self, number: int) -> bool:
        """Say whether there are prompts of an open object."""
        return bool((self.numbers == number).any()) or any(shape.number == number for shape in self.shapes)

    def of(self, number: int) -> PromptState:
        """Return the prompts of one open object."""
        return self._where(self.numbers == number, [shape for shape in self.shapes if shape.number == number])

    def without(self, number: int) -> PromptState:
        """Return the prompts of all other open objects."""
        return self._where(self.numbers != number, [shape for shape in self.shapes if shape.number != number])

    def _where(self, kept: NDArray[np.bool_], shapes: list[DrawnShape]) -> PromptState:
        return PromptState(self.points[kept], self.signs[kept], self.numbers[kept], tuple(shapes))


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The prompts and the open objects at one moment.

    Parameters
    ----------
    drawn
        The prompts.
    parked, now
        The open objects, as in `Drafts`.
    at
        When the step was taken that led to it, on the clock of `UndoStack`.
    """

    drawn: PromptState
    pending: tuple[Draft, ...]
    now: Draft
    at: int = 0

    def is_like(self, other: Snapshot) -> bool:
        """Say whether nothing happened between two moments, but that another object was taken in hand."""
        same = self._is_begun == other._is_begun and self._begun == other._begun
        return same and self.drawn.is_like(other.drawn)

    @property
    def _is_begun(self) -> bool:
        """Whether the user said anything of the object in hand."""
        return self.now.refining is not None or self.drawn.has_any_of(self.now.number)

    @property
    def _begun(self) -> set[Draft]:
        return {*self.pending, *([self.now] if self._is_begun else [])}

    def without(self, gone: Draft, instead: Draft) -> Snapshot:
        """Return the moment as if an object had never been open."""
        now = instead if self.now is gone else self.now
        pending = tuple(each for each in self.pending if each not in (gone, now))
        return replace(self, drawn=self.drawn.without(gone.number), pending=pending, now=now)


class PromptHistory:
    """Keeps every moment since the last one that nothing is to be taken back of."""

    def __init__(self) -> None:
        self._past: list[Snapshot] = []
        self._present: Snapshot | None = None
        self._future: list[Snapshot] = []

    @property
    def drawn(self) -> PromptState | None:
        """The prompts of the last moment, or None before the first."""
        return None if self._present is None else self._present.drawn

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier moment."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is a moment that was taken back."""
        return bool(self._future)

    @property
    def last_at(self) -> int | None:
        """When the step was taken that `undo` takes back, or None where there is none."""
        return self._present.at if self._past and self._present is not None else None

    @property
    def undone_at(self) -> int | None:
        """When the step was taken back that `redo` takes again, or None where there is none."""
        return self._future[-1].at if self._future else None

    def begin(self, moment: Snapshot) -> None:
        """Forget all and begin with a moment."""
        self._past, self._present, self._future = [], moment, []

    def record(self, moment: Snapshot) -> bool:
        """Keep a moment, if anything happened; say whether it did."""
        if self._present is None:
            self._present = moment
            return False
        if moment.is_like(self._present):
            self._present = replace(moment, at=self._present.at)
            return False
        self._past.append(self._present)
        self._present, self._future = moment, []
        return True

    def undo(self, at: int) -> Snapshot | None:
        """Return to the moment before, or None where there is none; `at` is the time by the clock."""
        if not self._past or self._present is None:
            return None
        self._future.append(replace(self._present, at=at))
        self._present = self._past.pop()
        return self._present

    def redo(self, at: int) -> Snapshot | None:
        """Return to the moment that was taken back last, or None where there is none."""
        if not self._future or self._present is None:
            return None
        self._past.append(self._present)
        self._present = replace(self._future.pop(), at=at)
        return self._present

    def forget_object(self, gone: Draft, instead: Draft) -> None:
        """Take an object out of every moment: it was written, or there is nothing left that it could replace.

        Parameters
        ----------
        gone
            The object.
        instead
            What was in hand where it was.
        """
        if self._present is None:
            return
        *past, self._present = _merged(each.without(gone, instead) for each in (*self._past, self._present))
        self._past = past
        self._future = _thinned([each.without(gone, instead) for each in self._future], self._present)


def _merged(moments: Iterable[Snapshot]) -> list[Snapshot]:
    """Leave out the moments that nothing happened before; a step is as old as the first of those that became one."""
    kept: list[Snapshot] = []
    for moment in moments:
        if kept and moment.is_like(kept[-1]):
            kept[-1] = replace(moment, at=kept[-1].at)
        else:
            kept.append(moment)
    return kept


def _thinned(moments: Iterable[Snapshot], present: Snapshot) -> list[Snapshot]:
    """Leave out the moments of the future, the next one last, before which nothing happens any more."""
    kept: list[Snapshot] = []
    after = present
    for moment in reversed(list(moments)):
        if not moment.is_like(after):
            kept.append(moment)
            after = moment
    return kept[::-1]
