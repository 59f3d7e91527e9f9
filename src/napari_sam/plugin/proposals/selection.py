"""ProposalSelection: which proposals are kept, by filters and by hand, and which one is reviewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_sam.core.geometry import Box
from napari_sam.everything.options import FilterOptions

if TYPE_CHECKING:
    from napari_sam.everything.found import FoundObjects


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
        Shape (n,): numbers of the proposals that are kept, best first.
    removed
        Shape (m,): numbers of those that pass the filters and were removed by hand.
    reviewed
        Number of the proposal that is looked at, or None.
    """

    changed = Signal()

    def __init__(self) -> None:
        self.found: FoundObjects | None = None
        self.options = FilterOptions()
        self.kept = self.removed = _none()
        self.reviewed: int | None = None
        self._by_hand: set[int] = set()
        self._judged: set[int] = set()

    def clear(self) -> None:
        """Drop all proposals, and what the user decided about them; the filters stay."""
        self.found = self.reviewed = None
        self._by_hand, self._judged = set(), set()
        self._select()

    def update(self, found: FoundObjects) -> None:
        """Take over what was found by now: each tile adds to it, so the numbers of proposals stay what they are."""
        self.found = found
        self._select()

    def filter(self, options: FilterOptions) -> None:
        """Filter in another way."""
        if options != self.options:
            self.options = options
            self._select()

    def at(self, row: float, col: float) -> int | None:
        """Return the number of the smallest proposal at a position, kept or removed by hand, or None."""
        if self.found is None:
            return None
        found, shown = self.found, np.concatenate([self.kept, self.removed])
        top, left, bottom, right = found.boxes[shown].T
        row, col = round(row), round(col)
        near = shown[(top <= row) & (row < bottom) & (left <= col) & (col < right)]
        for number in near[np.argsort(found.areas[near], kind="stable")]:
            mask = found.mask(int(number))
            if mask.pixels[row - int(mask.box.top), col - int(mask.box.left)]:
                return int(number)
        return None

    def toggle(self, number: int) -> None:
        """Remove a proposal, or bring one back that was removed."""
        self._by_hand ^= {number}
        self._select()

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
            is_out = _are_in(passing, self._by_hand)
            self.kept, self.removed = passing[~is_out], passing[is_out]
        if self.reviewed is not None and self.reviewed not in self.kept:
            self.reviewed = None
        self.changed.emit()


def box_of(boxes: NDArray[np.int64]) -> Box:
    """Return the box around boxes, of which there is at least one."""
    return Box(*(int(edge) for edge in (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0))))


def _are_in(numbers: NDArray[np.intp], chosen: set[int]) -> NDArray[np.bool_]:
    return np.isin(numbers, list(chosen)) if chosen else np.zeros(len(numbers), bool)


def _none() -> NDArray[np.intp]:
    return np.zeros(0, np.intp)
