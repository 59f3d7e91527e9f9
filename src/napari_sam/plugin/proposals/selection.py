"""ProposalSelection: which proposals are kept, by filters and by hand, and which one is reviewed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_sam.core.geometry import Box
from napari_sam.core.masks import shared_pixels
from napari_sam.everything.options import FilterOptions
from napari_sam.plugin.proposals.decisions import Decisions
from napari_sam.plugin.proposals.found_planes import Decision, SimilarPlanes
from napari_sam.plugin.workers.runner import Work

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.everything.found import FoundObjects
    from napari_sam.plugin.proposals.found_planes import FoundPlanes
    from napari_sam.similarity.query import Query

# More proposals than these are ranked in a thread: 100 000 take half a second, in which the window must answer.
AT_ONCE = 10_000


class ProposalSelection:
    """Filters proposals, and remembers what the user decided about single ones.

    Of proposals that are ranked by examples, each decision is an answer, which ranks all others anew.

    Parameters
    ----------
    tick
        Returns the time of a step, in the order of all steps that can be undone.
    apart
        Runs a job in a thread; without it, any number of proposals is ranked at once.
    failed
        Called with the error of such a job.

    Attributes
    ----------
    changed
        Emitted when anything here changed.
    found
        The proposals, or None.
    options
        The filters.
    decisions
        What the user decided, with undo.
    kept
        Shape (n,): numbers of the proposals that pass the filters or were added by hand, best first.
    removed
        Shape (m,): numbers of those that pass the filters and were removed by hand; of ranked ones all that were.
    reviewed
        Number of the proposal that is looked at, or None.
    is_ranking
        Whether a thread ranks the proposals by the last answers; until then their scores are those of before.
    """

    changed = Signal()

    def __init__(
        self,
        tick: Callable[[], int] | None = None,
        apart: Callable[[Work], None] | None = None,
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self.found: FoundPlanes | None = None
        self.options = FilterOptions()
        self.decisions = Decisions(tick or itertools.count(1).__next__)
        self.kept = self.removed = _none()
        self.reviewed: int | None = None
        # The class that the user chose for the one that is looked at.
        self._class_name: str | None = None
        # Those that were looked at and left undecided.
        self._skipped: set[int] = set()
        self._apart, self._failed = apart, failed
        # What the ranking of `found` was told of the decisions, and whether a thread is ranking by more of them.
        self._told: dict[int, Decision] = {}
        self.is_ranking = False
        self.decisions.changed.connect(self._on_decided)
        self.decisions.stepped.connect(self._on_stepped)

    @property
    def similar(self) -> SimilarPlanes | None:
        """The proposals, if they are ranked by examples."""
        return self.found if isinstance(self.found, SimilarPlanes) else None

    def clear(self) -> None:
        """Drop all proposals, and what the user decided about them; the filters stay."""
        self.found = self.reviewed = None
        self._skipped, self._told = set(), {}
        self.decisions.clear()
        self._select()

    def update(self, found: FoundPlanes) -> None:
        """Take over what was found by now: each tile adds to it, so the numbers of proposals stay what they are."""
        self.found, self._told = found, {}
        self._rank()
        self._select()

    def rank(self, found: FoundPlanes) -> None:
        """Show the same proposals by other scores; what was decided about them was about other examples."""
        self.decisions.clear()
        self._skipped = set()
        self.reviewed = None
        self.update(found)

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
        self._decide(number, number not in self.kept, None)

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

    # -- ranking -------------------------------------------------------------------------------------------------------

    @property
    def learned(self) -> Query | None:
        """The examples with all answers, if the proposals are ranked by examples."""
        similar, untold = self.similar, self._untold
        if similar is not None and untold:
            similar = similar.copied()
            similar.answer(untold)
        return None if similar is None else similar.learned

    def settle(self) -> None:
        """Rank by all answers now, for a step that must not be taken by an earlier ranking."""
        similar, untold = self.similar, self._untold
        if similar is not None and untold:
            self._show_ranked(_ranked(similar, untold, self.options, lambda: False))

    @property
    def _untold(self) -> dict[int, Decision | None]:
        """The decisions by which the proposals are not ranked yet."""
        decided, told = self.decisions.by_number, self._told
        return {at: decided.get(at) for at in {**told, **decided} if decided.get(at) != told.get(at)}

    def _rank(self) -> None:
        """Rank by the answers: at once, or in a thread, of which one runs at a time."""
        similar, untold = self.similar, self._untold
        if similar is None or not untold:
            return
        if self._apart is None or len(similar) <= AT_ONCE:
            similar.answer(untold)
            self._told = dict(self.decisions.by_number)
        elif not self.is_ranking:
            self.is_ranking, options, decided = True, self.options, dict(self.decisions.by_number)

            def end(ranked: SimilarPlanes | None) -> None:
                self.is_ranking = False
                if ranked is not None and self.found is similar:
                    self._show_ranked(ranked, decided)
                else:
                    self._rank()

            def fail(error: Exception) -> None:
                self.is_ranking = False
                self._failed(error)

            self._apart(Work(lambda _: _ranked(similar, untold, options, lambda: self.found is not similar), end, fail))

    def _show_ranked(self, ranked: SimilarPlanes | None, decided: Mapping[int, Decision] | None = None) -> None:
        self.found, self._told = ranked, dict(self.decisions.by_number if decided is None else decided)
        self._rank()  # There may be more answers since.
        self._select()

    # -- review --------------------------------------------------------------------------------------------------------

    def next_doubtful(self) -> int | None:
        """Look at the least certain proposal that was neither decided nor skipped; the one looked at is skipped."""
        if self.reviewed is not None:
            self._skipped.add(self.reviewed)
        self._look_at(self._next(self.reviewed))
        self.changed.emit()
        return self.reviewed

    def judge(self, keep: bool) -> int | None:
        """Keep or remove the proposal that is looked at, and look at the next one; the first, if none is looked at."""
        number = self.reviewed
        if number is None:
            return self.next_doubtful()
        with self.changed.blocked():  # One picture for both.
            self._decide(number, keep, self._class_name)
        self._look_at(self._next(number))
        self.changed.emit()
        return self.reviewed

    def leave_review(self) -> bool:
        """Look at no single proposal; say whether one was looked at."""
        was = self.reviewed is not None
        self._look_at(None)
        if was:
            self.changed.emit()
        return was

    def choose_class(self) -> None:
        """Choose the next class for the proposal that is looked at, where the examples have several."""
        if self.similar is not None and self.reviewed is not None and len(self.similar.classes) > 1:
            names = self.similar.classes
            self._class_name = names[(names.index(self.reviewed_class or "") + 1) % len(names)]
            self.changed.emit()

    @property
    def reviewed_class(self) -> str | None:
        """The class of the proposal that is looked at: the likeliest one, or the one that the user chose."""
        if self.similar is None or self.reviewed is None:
            return None
        return (self.similar.class_of(self.reviewed) if self._class_name is None else self._class_name) or None

    @property
    def doubtful_count(self) -> int:
        """How many proposals are worth a question: of ranked ones those near the limit, else all that are kept."""
        order = self._in_doubt()
        return len(order) if self.similar is None else int(self.similar.are_doubtful(order, self.options).sum())

    def _in_doubt(self) -> NDArray[np.intp]:
        """Return the proposals that were not decided, the least certain one first."""
        order = self.kept[::-1] if self.similar is None else self.similar.doubtful(self.options)
        return order[~_are_in(order, set(self.decisions.by_number))]

    def _next(self, number: int | None) -> int | None:
        """Return the proposal to look at after another one, which comes again only if it is the last one."""
        order = self._in_doubt()
        new = order[~_are_in(order, self._skipped)]
        if not len(new):
            self._skipped = set()
            new = order[order != number] if len(order) > 1 else order
        return int(new[0]) if len(new) else None

    def _look_at(self, number: int | None) -> None:
        self.reviewed, self._class_name = number, None

    def _decide(self, number: int, keep: bool, class_name: str | None) -> None:
        if self.similar is not None and class_name is None:
            class_name = self.similar.class_of(number) or ""
        self.decisions.decide(number, Decision(keep, class_name))

    def _on_decided(self, number: int) -> None:
        self._rank()
        self._select()

    def _on_stepped(self, number: int) -> None:
        """Look at a proposal again about which a decision was taken back, where the user is looking through them."""
        if self.reviewed is not None:
            self._look_at(number)
            self.changed.emit()

    # -- selecting -----------------------------------------------------------------------------------------------------

    def _select(self) -> None:
        found = self.found
        if found is None or not len(found):
            self.kept = self.removed = _none()
        else:
            passing = found.select(self.options)
            added = [number for number, decision in self.decisions.by_number.items() if decision.keep]
            removed = {number for number, decision in self.decisions.by_number.items() if not decision.keep}
            if not np.isin(added, passing).all():
                passing = np.union1d(passing, added)
                passing = passing[np.argsort(-found.scores[passing], kind="stable")]
            is_out = _are_in(passing, removed)
            self.kept, self.removed = passing[~is_out], passing[is_out]
            if self.similar is not None:
                self.removed = np.array(sorted(removed), np.intp)
        if self.reviewed is not None and self.similar is None and self.reviewed not in self.kept:
            self._look_at(None)
        self.changed.emit()


def _ranked(
    similar: SimilarPlanes,
    answers: Mapping[int, Decision | None],
    options: FilterOptions,
    is_stopped: Callable[[], bool],
) -> SimilarPlanes | None:
    """Return proposals ranked by more answers, also in a thread; None where they are not wanted any more."""
    ranked = similar.copied()
    ranked.answer(answers)
    for part in ranked.parts:
        if is_stopped():
            return None
        part.select(options)  # Which ranks them, and remembers the order.
    return ranked


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
