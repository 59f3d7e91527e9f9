"""ProposalSelection: which proposals are kept, by filters and by hand, and which one is reviewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_sam.core.geometry import Box
from napari_sam.core.masks import shared_pixels
from napari_sam.everything.options import FilterOptions

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.everything.found import FoundObjects
    from napari_sam.plugin.proposals.found_planes import FoundPlanes


class ProposalSelection:
    """Filters proposals, and remembers what the user decided about single ones.

    Attributes
    ----------
    changed
        Emitted when anything here changed.
    found
        The proposals, or None.
    options
        The filters.
    kept
        Shape (n,): numbers of the proposals that pass the filters or were added by hand, best first.
    removed
        Shape (m,): numbers of those that pass the filters and were removed by hand.
    reviewed
        Number of the proposal that is looked at, or None.
    """

    changed = Signal()

    def __init__(self) -> None:
        self.found: FoundPlanes | None = None
        self.options = FilterOptions()
        self.kept = self.removed = _none()
        self.reviewed: int | None = None
        # Removed and added by hand.
        self._by_hand: set[int] = set()
        self._added: set[int] = set()
        self._judged: set[int] = set()

    def clear(self) -> None:
        """Drop all proposals, and what the user decided about them; the filters stay."""
        self.found = self.reviewed = None
        self._by_hand, self._added, self._judged = set(), set(), set()
        self._select()

    def update(self, found: FoundPlanes) -> None:
        """Take over what was found by now: each tile adds to it, so the numbers of proposals stay what they are."""
        self.found = found
        self._select()

    def filter(self, options: FilterOptions) -> None:
        """Filter in another way."""
        if options != self.options:
            self.options = options
            self._select()

    def at(self, plane: Plane, row: float, col: float) -> int | None:
        """Return the number of the proposal that a click at a position is for, or None.

        It is the smallest one that is kept or was removed by hand; where there is none, the best one that the filters
        leave out and that is no other view of a kept one.
        """
        found = self.found
        part = None if found is None else found.on(plane)
        if found is None or part is None:
            return None
        kept = found.among(plane, self.kept)
        shown = np.concatenate([kept, found.among(plane, self.removed)])
        here = _covering(part, shown, round(row), round(col))
        if len(here):
            return found.number(plane, int(here[np.argmin(part.areas[here])]))
        others = _covering(part, np.arange(len(part)), round(row), round(col))
        for at in others[np.argsort(-part.scores[others], kind="stable")]:
            if not self._is_shown(part, int(at), kept):
                return found.number(plane, int(at))
        return None

    def toggle(self, number: int) -> None:
        """Remove a proposal that is kept, or add one that is not."""
        if number in self.kept:
            self._added.discard(number)
            self._by_hand.add(number)
        elif number in self._by_hand:
            self._by_hand.remove(number)
        else:
            self._added.add(number)
        self._select()

    def _is_shown(self, part: FoundObjects, at: int, kept: NDArray[np.intp]) -> bool:
        """Return whether a kept proposal is the same object as another proposal."""
        top, left, bottom, right = part.boxes[at]
        boxes = part.boxes[kept]
        meets = (boxes[:, 0] < bottom) & (boxes[:, 2] > top) & (boxes[:, 1] < right) & (boxes[:, 3] > left)
        mask = part.mask(at)
        return any(
            shared_pixels(mask, part.mask(int(other)))
            > self.options.max_overlap * min(part.areas[at], part.areas[other])
            for other in kept[meets]
        )

    # -- review --------------------------------------------------------------------------------------------------------

    def next_doubtful(self) -> int | None:
        """Look at the least certain kept proposal that was not judged, after the one that is looked at, or none."""
        self.reviewed = self._after(self.reviewed)
        self.changed.emit()
        return self.reviewed

    def judge(self, keep: bool) -> int | None:
        """Keep or remove the proposal that is looked at, and look at the next one; the first, if none is looked at."""
        number = self.reviewed
        if number is None:
            return self.next_doubtful()
        following = self._after(number)
        self._judged.add(number)
        if not keep:
            self._by_hand.add(number)
            self._added.discard(number)
        self.reviewed = None if following == number else following
        self._select()
        return self.reviewed

    def leave_review(self) -> bool:
        """Look at no single proposal; say whether one was looked at."""
        was, self.reviewed = self.reviewed is not None, None
        if was:
            self.changed.emit()
        return was

    @property
    def doubtful_count(self) -> int:
        """How many kept proposals were not judged."""
        return len(self.kept) - int(_are_in(self.kept, self._judged).sum())

    def _after(self, number: int | None) -> int | None:
        """Return the next proposal that was not judged, by falling doubt; after the last one the first one again."""
        order = self.kept[::-1]
        order = order[~_are_in(order, self._judged)]
        if number is not None and number in order:
            order = np.roll(order, -int(np.flatnonzero(order == number)[0]) - 1)
        return int(order[0]) if len(order) else None

    # -- selecting -----------------------------------------------------------------------------------------------------

    def _select(self) -> None:
        found = self.found
        if found is None or not len(found):
            self.kept = self.removed = _none()
        else:
            passing = found.select(self.options)
            if self._added:
                passing = np.union1d(passing, sorted(self._added))
                passing = passing[np.argsort(-found.scores[passing], kind="stable")]
            is_out = _are_in(passing, self._by_hand)
            self.kept, self.removed = passing[~is_out], passing[is_out]
        if self.reviewed is not None and self.reviewed not in self.kept:
            self.reviewed = None
        self.changed.emit()


def box_of(boxes: NDArray[np.int64]) -> Box:
    """Return the box around boxes, of which there is at least one."""
    return Box(*(int(edge) for edge in (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0))))


def _covering(part: FoundObjects, numbers: NDArray[np.intp], row: int, col: int) -> NDArray[np.intp]:
    """Return those of some proposals that cover a pixel."""
    top, left, bottom, right = part.boxes[numbers].T
    near = numbers[(top <= row) & (row < bottom) & (left <= col) & (col < right)]
    return np.array(
        [at for at in near if part.proposals.pixels(int(at))[row - part.boxes[at, 0], col - part.boxes[at, 1]]], np.intp
    )


def _are_in(numbers: NDArray[np.intp], chosen: set[int]) -> NDArray[np.bool_]:
    return np.isin(numbers, list(chosen)) if chosen else np.zeros(len(numbers), bool)


def _none() -> NDArray[np.intp]:
    return np.zeros(0, np.intp)
