"""PromptOracle: the prompts that a session must have, with their history. It shares no code with the plugin."""

from __future__ import annotations

from dataclasses import replace

from tests.plugin.annotation.stateful.label_oracle import Asked
from tests.plugin.annotation.stateful.prompt_model import Snapshot, points_along


class PromptOracle:
    """The expected prompts of each draft, and all earlier states of them."""

    def __init__(self, clock):
        self.corrections, self.last, self.clock = {}, 0, clock
        self.forget_all()

    def forget_all(self):
        self.last += 1
        self.present = self.kept = Snapshot(now=self.last)
        self.past, self.future = [], []

    @property
    def now(self):
        return self.present.now

    @property
    def points(self):
        """Of the object in hand, with their places in the layer."""
        return [(at, point) for at, point in enumerate(self.present.points) if point.of == self.now]

    @property
    def shapes(self):
        return [(at, shape) for at, shape in enumerate(self.present.shapes) if shape.of == self.now]

    @property
    def correction(self):
        return self.corrections.get(self.now)

    @property
    def is_begun(self):
        return self._is_begun(self.present)

    def _is_begun(self, moment):
        return moment.now in self.corrections or any(one.of == moment.now for one in (*moment.points, *moment.shapes))

    def change(self, **changes):
        """Let something happen, and keep what was before."""
        self.present = replace(self.present, **changes)
        self.record()

    def record(self):
        begun = {one.of for one in (*self.present.points, *self.present.shapes)} | set(self.corrections)
        self.present = replace(
            self.present, pending=tuple(number for number in self.present.pending if number in begun)
        )
        at = self.kept.at
        if not self._are_alike(self.present, self.kept):
            self.past.append(self.kept)
            self.future, at = [], self.clock()
        self.present = self.kept = replace(self.present, at=at)

    def _are_alike(self, one, two):
        begun = [{*each.pending, *([each.now] if self._is_begun(each) else [])} for each in (one, two)]
        return (
            self._is_begun(one) == self._is_begun(two)
            and begun[0] == begun[1]
            and one.points == two.points
            and one.shapes == two.shapes
        )

    def begin(self, correction=None):
        self.last += 1
        self.present = replace(self.present, now=self.last)
        if correction is not None:
            self.corrections[self.last] = correction

    def clear(self):
        if self.is_begun:
            self.last += 1
            self.change(**vars(self.present.without(self.now, self.last)))

    def park(self):
        self.last += 1
        self.change(pending=(*self.present.pending, self.now), now=self.last)

    def take(self, wanted):
        pending = [number for number in self.present.pending if number != wanted]
        if self.is_begun:
            pending.append(self.now)
        self.present = replace(self.present, pending=tuple(pending), now=wanted)
        self.record()

    def forget_object(self, gone):
        """Take an object out of every moment: it was written, or changed otherwise."""
        instead = self.now
        if gone == instead:
            self.last += 1
            instead = self.last
        turn = lambda moment: moment.without(gone, instead)  # noqa: E731
        self.present, future = turn(self.present), []
        past = []
        for moment in map(turn, (*self.past, self.kept)):
            if past and self._are_alike(moment, past[-1]):
                past[-1] = replace(moment, at=past[-1].at)
            else:
                past.append(moment)
        *self.past, self.kept = past
        for moment in map(turn, reversed(self.future)):
            if not self._are_alike(moment, future[0] if future else self.kept):
                future.insert(0, moment)
        self.future = future

    def undo(self):
        self.future.append(replace(self.kept, at=self.clock()))
        self.present = self.kept = self.past.pop()

    def redo(self):
        self.past.append(self.kept)
        self.present = self.kept = replace(self.future.pop(), at=self.clock())

    def asked(self, plane, of=None):
        """Return what counts of an object on a plane."""
        hidden = [axis for axis in range(len(plane.index)) if axis not in plane.axes]
        here = lambda at: all(round(at[axis]) == plane.index[axis] for axis in hidden)  # noqa: E731
        number = self.now if of is None else of
        along, box, has_mask = [], None, False
        for shape in self.present.shapes:
            if shape.of != number or not all(here(corner) for corner in shape.corners):
                continue
            corners = shape.corners[:, list(plane.axes)]
            if shape.kind == "path":
                along = [(*at, shape.sign) for at in points_along(corners)] + along
            elif shape.kind == "rectangle":
                box = (*(corners.min(axis=0) + 0.5), *(corners.max(axis=0) + 0.5))
            else:
                has_mask = True
        mine = [point for point in self.present.points if point.of == number and here(point.at)]
        points = [(*(point.at[axis] for axis in plane.axes), point.sign) for point in mine]
        correction = self.corrections.get(number)
        if correction is not None and correction.plane == plane and box is None and not has_mask:
            has_mask = correction.has_hint
        return Asked(tuple(along + points), box, has_mask)
