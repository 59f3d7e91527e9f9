"""What labels must hold: plain arrays of the whole volume, and a list of what was done to them. No code of ours."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Asked:
    """What an object was segmented by: points (row, col, sign), a box (top, left, bottom, right), a rough mask."""

    points: tuple = ()
    box: tuple | None = None
    has_mask: bool = False


@dataclass(frozen=True)
class Part:
    """An object in one plane: what it was segmented by, and the box that its pixels lie in."""

    asked: Asked
    box: tuple


@dataclass(frozen=True)
class State:
    """The objects with the numbers of their classes, their parts by plane, and the names of the classes."""

    objects: dict = field(default_factory=dict)
    parts: dict = field(default_factory=dict)
    classes: dict = field(default_factory=dict)

    def with_class(self, name):
        """Return the number of a class, and the state in which there is one."""
        number = next((number for number, known in self.classes.items() if known == name), None)
        if number is None:
            number = max(self.classes, default=0) + 1
        return number, replace(self, classes={**self.classes, number: name})


@dataclass(eq=False)
class Commit:
    """One change; those of a group are undone together, and `at` is when it was done or undone last."""

    label: int | None
    old: np.ndarray
    new: np.ndarray
    before: State
    after: State
    group: int
    at: int


def section(volume, plane):
    """Return the view of a plane, rows first."""
    view = volume[tuple(slice(None) if axis in plane.axes else at for axis, at in enumerate(plane.index))]
    return view.T if plane.axes[0] > plane.axes[1] else view


def box_of(mask):
    rows, cols = np.nonzero(mask)
    return int(rows.min()), int(cols.min()), int(rows.max()) + 1, int(cols.max()) + 1


class Reference:
    """Labels, and everything that was done to them.

    `clock` returns another time at each call; `together` is the time of an action that is on several objects.
    """

    def __init__(self, labels, clock):
        self.labels = labels.astype(np.int64)
        self.clock, self.together = clock, None
        self.state = State()
        self.done, self.undone = [], []
        self.is_painted = False

    def refuses(self, plane, mask, label, overlap):
        """Say whether a mask may not be written."""
        here = section(self.labels, plane)[mask]
        free = (here == 0) | (here == label)
        return not {"keep": free.any(), "empty": free.all(), "overwrite": True}[overlap]

    def accept(self, plane, mask, label, overlap, asked, class_name=None, clicked=None):
        """Write a mask, in the place of what the object had in the plane; `clicked` is the box of labels that no
        journal knew.
        """
        labels = self.labels.copy()
        here = section(labels, plane)
        known = self.state.parts.get(label, {}).get(plane)
        for top, left, bottom, right in (box for box in (known and known.box, clicked) if box):
            inside = here[top:bottom, left:right]
            inside[inside == label] = 0
        here[mask & ((here == 0) | (overlap == "overwrite"))] = label
        box = box_of(mask)
        if known:
            box = *np.minimum(box[:2], known.box[:2]), *np.maximum(box[2:], known.box[2:])
        parts = dict(self.state.parts.get(label, {}))
        parts.pop(plane, None)
        number, state = (None, self.state) if class_name is None else self.state.with_class(class_name)
        objects = {**state.objects, label: number or state.objects.get(label)}
        all_parts = {**state.parts, label: {**parts, plane: Part(asked, tuple(box))}}
        self._commit(label, labels, replace(state, objects=objects, parts=all_parts))

    def delete(self, label):
        labels = self.labels.copy()
        for plane, part in self.state.parts[label].items():
            top, left, bottom, right = part.box
            inside = section(labels, plane)[top:bottom, left:right]
            inside[inside == label] = 0
        objects, parts = dict(self.state.objects), dict(self.state.parts)
        del objects[label], parts[label]
        self._commit(label, labels, replace(self.state, objects=objects, parts=parts))

    def classify(self, label, name):
        number, state = (None, self.state) if name is None else self.state.with_class(name)
        self._commit(label, self.labels, replace(state, objects={**state.objects, label: number}))

    def define_class(self, name, renamed):
        number, state = self.state.with_class(name)
        self._commit(None, self.labels, replace(state, classes={**state.classes, number: renamed or name}))

    def paint(self, at, value):
        """Write a pixel that nobody keeps a way back of."""
        self.labels = self.labels.copy()
        self.labels[at] = value
        self.is_painted = True

    def undo(self):
        at = self.clock()
        commits = [self._undo_one(at)]
        while self.done and self.done[-1].group == commits[-1].group:
            commits.append(self._undo_one(at))
        return commits

    def _undo_one(self, at):
        commit = self.done.pop()
        self._turn(commit.new, commit.old)
        self.state, commit.at = commit.before, at
        self.undone.append(commit)
        return commit

    def redo(self):
        at = self.clock()
        commits = [self._redo_one(at)]
        while self.undone and self.undone[-1].group == commits[-1].group:
            commits.append(self._redo_one(at))
        return commits

    def _redo_one(self, at):
        commit = self.undone.pop()
        self._turn(commit.old, commit.new)
        self.state, commit.at = commit.after, at
        self.done.append(commit)
        return commit

    def forget_times(self):
        """Know no more than the order of what was done, as in another window."""
        for commit in (*self.done, *self.undone):
            commit.at = 0

    def restored(self):
        """Return what labels that held nothing hold once all was done to them again."""
        labels = np.zeros_like(self.labels)
        for commit in self.done:
            labels = np.where(commit.old != commit.new, commit.new, labels)
        return labels

    def _commit(self, label, labels, state):
        at = self.clock() if self.together is None else self.together
        self.done.append(Commit(label, self.labels, labels, self.state, state, at, at))
        self.undone.clear()
        self.labels, self.state = labels, state

    def _turn(self, now, then):
        """Leave alone what was changed by other hands."""
        self.labels = np.where((now != then) & (self.labels == now), then, self.labels)
