"""ObjectPlanes: what is known of an object in each plane of a stack."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari_sam.core.geometry import Box
from napari_sam.propagation.review import ReviewedPlane, expected_gains

if TYPE_CHECKING:
    from napari_sam.journal.journal import Journal
    from napari_sam.journal.objects import LabelledObject, Part
    from napari_sam.propagation.plane_stack import PlaneStack

# A propagated plane of less confidence may be wrong.
LEAST_CONFIDENCE = 0.75
# Planes so near to one that was just looked at are wrong together with it: they come after all others.
NEAR = 2


@dataclass(frozen=True, slots=True)
class PlaneState:
    """An object in one plane.

    Parameters
    ----------
    at
        Position of the plane along the axis.
    confidence
        Estimate of the mask's IoU, 0 to 1; NaN where there is none.
    is_accepted
        Whether the user has accepted the mask in this plane, so that no propagation changes it.
    area
        Number of pixels.
    box
        Box around them.
    """

    at: int
    confidence: float
    is_accepted: bool
    area: int
    box: Box

    @property
    def is_doubtful(self) -> bool:
        """Whether the mask was propagated and may be wrong."""
        return not self.is_accepted and not self.confidence >= LEAST_CONFIDENCE


@dataclass(frozen=True)
class ObjectPlanes:
    """An object in the planes of a stack.

    Parameters
    ----------
    label
        The object.
    stack
        All planes along the axis.
    states
        Those in which it has pixels, by position.
    limits
        The first and the last plane that it is followed through.
    """

    label: int
    stack: PlaneStack
    states: Mapping[int, PlaneState]
    limits: tuple[int, int]

    @classmethod
    def of(
        cls,
        found: LabelledObject,
        stack: PlaneStack,
        was_propagated: Callable[[Part], bool],
        limits: tuple[int, int] | None = None,
    ) -> ObjectPlanes:
        """Return what is known of an object in the planes of a stack."""
        states = {}
        for part in found.parts:
            at = stack.position_of(part.plane)
            if at is not None:
                states[at] = PlaneState(at, part.iou_prediction, not was_propagated(part), part.area, part.box)
        return cls(found.label, stack, states, limits or (stack.first, stack.last))

    @property
    def area(self) -> int:
        """Number of its pixels, of all planes."""
        return sum(state.area for state in self.states.values())

    @property
    def extent(self) -> tuple[int, int] | None:
        """Its first and its last plane, or None where it has none."""
        return (min(self.states), max(self.states)) if self.states else None

    @property
    def corners(self) -> tuple[list[float], list[float]] | None:
        """The lowest and the highest pixel of the image around it, or None where it has no pixels."""
        if not self.states:
            return None
        boxes = [state.box for state in self.states.values()]
        low, high = list(map(float, self.stack.plane.index)), list(map(float, self.stack.plane.index))
        low[self.stack.axis], high[self.stack.axis] = min(self.states), max(self.states)
        rows, cols = self.stack.plane.axes
        low[rows], low[cols] = min(box.top for box in boxes), min(box.left for box in boxes)
        high[rows], high[cols] = max(box.bottom for box in boxes) - 1, max(box.right for box in boxes) - 1
        return low, high

    @cached_property
    def propagated(self) -> list[PlaneState]:
        """The planes that were propagated and not accepted."""
        return [state for state in self.states.values() if not state.is_accepted]

    @cached_property
    def doubtful(self) -> list[PlaneState]:
        """The planes that may be wrong."""
        return [state for state in self.propagated if state.is_doubtful]

    def behind(self, at: int) -> list[int]:
        """Return a plane with the propagated ones behind it, seen from the accepted planes; between two it is alone."""
        accepted = [state.at for state in self.states.values() if state.is_accepted and state.at != at]
        is_lower, is_higher = any(other < at for other in accepted), any(other > at for other in accepted)
        if is_lower and is_higher:
            return [at]
        return sorted(other for other in self.states if other == at or (other > at) == is_lower)

    def next_doubtful(self, seen: Collection[int]) -> PlaneState | None:
        """Return the plane to look at next, which is not near one of those that were looked at.

        It is the one whose correction is expected to gain the most, and then a doubtful one. Where all are near, it is
        one that was not looked at itself, then the first of all. Where no plane is doubtful, all count as such.
        """
        order = self._by_gain
        candidates = [state for state in order if state.is_doubtful or state is order[0]] if self.doubtful else order
        away = [state for state in candidates if all(abs(state.at - other) > NEAR for other in seen)]
        unseen = [state for state in candidates if state.at not in seen]
        return next(iter(away or unseen or candidates), None)

    @cached_property
    def _by_gain(self) -> list[PlaneState]:
        """The planes that were propagated, the one whose correction is expected to gain the most first."""
        if not self.propagated:
            return []
        planes = {at: ReviewedPlane(one.area, one.confidence, one.is_accepted) for at, one in self.states.items()}
        gains = expected_gains(planes, min(self.limits[0], *planes), max(self.limits[1], *planes))
        return sorted(self.propagated, key=lambda state: (-gains[state.at], state.at))


class Propagated:
    """Knows which masks of a journal were propagated: an entry never changes, so each is read once."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Journal, dict[tuple[int, int], bool]] = WeakKeyDictionary()

    def of(self, journal: Journal, label: int) -> Callable[[Part], bool]:
        """Return what says of a part of an object whether it was propagated, and nobody has accepted it."""
        known = self._known.setdefault(journal, {})

        def was_propagated(part: Part) -> bool:
            key = label, part.number
            if key not in known:
                known[key] = part.is_propagated
            return known[key]

        return was_propagated
