"""ProposalSearch: find all objects of planes or of a part of them, tile by tile, while the runner is idle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from napari_sam.errors import PromptError
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import FilterOptions
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.similar import SimilarObjects
from napari_sam.everything.sweep import EverythingProgress
from napari_sam.plugin.proposals.found_planes import FoundPlanes, QueryMaker, SimilarPlanes
from napari_sam.plugin.workers.runner import Work
from napari_sam.word_search.scored_objects import ScoredObjects

if TYPE_CHECKING:
    from napari_sam.core.geometry import Box, Plane
    from napari_sam.core.masks import Mask
    from napari_sam.plugin.inference.region import Limit
    from napari_sam.plugin.workers.runner import Report, Runner
    from napari_sam.segmenter import Segmenter
    from napari_sam.similarity.query import Query

# Tiles are searched for so long before what they gave is shown; a click waits for that and one tile.
SLICE_SECONDS = 0.2
# What is found so far is collected at most every so many times the time that it takes.
RARELY = 5


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """How far a search is.

    Parameters
    ----------
    total, done
        Number of tiles, and of those that are finished; of a search of several planes, number of planes, and of those
        that are finished, with the share of the next one.
    seconds
        Time since the first tile.
    unit
        What is counted.
    """

    total: int
    done: float
    seconds: float
    unit: Literal["tiles", "planes"] = "tiles"

    @property
    def text(self) -> str:
        """The progress, the rate and the time left, in one line."""
        if self.total == 0:
            return "Starting ..."
        text = f"{math.floor(self.done)} of {self.total} {self.unit}"
        if self.done == 0 or self.seconds <= 0:
            return f"{text} ..."
        return f"{text}, {self._rate}, {_duration((self.total - self.done) * self.seconds / self.done)} left"

    @property
    def _rate(self) -> str:
        rate = self.done / self.seconds
        return f"{rate:.1f} a second" if rate >= 0.95 else f"{60 * rate:.1f} a minute"


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects are searched.

    Parameters
    ----------
    planes
        The planes, in the order in which they are searched.
    box
        Only in this box of each plane; None for all of it.
    limit
        Returns the pixels of a plane that are searched.
    sizes
        (smallest, largest) diameter in pixels, or None to find out on a sample, or by the examples.
    wanted
        Makes the query whose objects are looked for; None for any objects.
    words, detector
        What names the objects that are looked for, and which model knows it; see `Segmenter.find`. None without.
    first
        The part of each plane that is searched first, such as the one in view; None for none.
    """

    planes: Sequence[Plane]
    box: Box | None
    limit: Limit
    sizes: tuple[float, float] | None = None
    wanted: QueryMaker | None = None
    words: str | None = None
    detector: str | None = None
    first: Box | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Some tiles of a search.

    Parameters
    ----------
    progress
        How far it is.
    found
        What was found so far, or None where that is not new enough to be worth its time.
    is_last
        Whether the search is at its end.
    """

    progress: SearchProgress
    found: FoundPlanes | None
    is_last: bool


class _Run:
    """One search, of which the worker takes one step at a time."""

    def __init__(self, build: Callable[[Report], Segmenter], place: Place) -> None:
        self.is_stopped = False
        self._build, self._place = build, place
        self._tiles: Iterator[EverythingProgress] | None = None
        self._now: EverythingProgress | None = None
        # Planes that are finished or have nothing to search, and what was found in the former.
        self._done = 0
        self._finished: list[FoundObjects] = []
        self._last: tuple[EverythingProgress, FoundObjects] | None = None
        self._query: Query | None = None
        self._started = self._shown = self._cost = 0.0

    def step(self, report: Report) -> Step:
        """Search some tiles, in the worker; none after `is_stopped` was set."""
        tiles = self._tiles = self._begin(report) if self._tiles is None else self._tiles
        begun, is_last = time.monotonic(), True
        while not self.is_stopped and (now := next(tiles, None)) is not None:
            self._now = now
            is_last = now.done >= now.total and self._done + 1 == len(self._place.planes)
            if is_last or now.done in (0, now.total) or time.monotonic() - begun > SLICE_SECONDS:
                break
        is_last = is_last or self.is_stopped
        if self._now is None:
            return Step(SearchProgress(0, 0, 0.0), None, True)
        if is_last:
            self._tiles = iter(())  # Which closes a search that was stopped.
        return Step(self._progress(self._now), self._found(self._now, is_last), is_last)

    def _begin(self, report: Report) -> Iterator[EverythingProgress]:
        if self.is_stopped:
            return iter(())
        segmenter = self._build(report)
        report("")
        self._started = time.monotonic()
        return self._of_planes(segmenter)

    def _of_planes(self, segmenter: Segmenter) -> Iterator[EverythingProgress]:
        """Search one plane after the other.

        Raises
        ------
        PromptError
            There is nothing to search in any of them.
        """
        place = self._place
        self._query = None if place.wanted is None else place.wanted(segmenter, None)
        for plane in place.planes:
            within = place.limit(segmenter, plane)
            if within is None or within.area:
                yield from self._tiles_of(segmenter, plane, within)
                assert self._now is not None
                self._finished.append(self._found_in(self._now))
            self._done += 1
        if not self._finished:
            raise PromptError("There is nothing to search there: choose another place, or search everywhere.")

    def _tiles_of(self, segmenter: Segmenter, plane: Plane, within: Mask | None) -> Iterator[EverythingProgress]:
        place, query = self._place, self._query
        if place.words is not None:
            return segmenter.find_steps(place.words, plane=plane, box=place.box, within=within, detector=place.detector)
        where: dict[str, Any] = {"plane": plane, "box": place.box, "within": within, "first": place.first}
        if query is None:
            return segmenter.everything_steps(**where, sizes=place.sizes)
        return segmenter.find_similar_steps(query, **where, sizes=place.sizes)

    def _progress(self, now: EverythingProgress) -> SearchProgress:
        seconds, count = time.monotonic() - self._started, len(self._place.planes)
        if count == 1:
            return SearchProgress(now.total, now.done, seconds)
        is_finished = bool(self._finished) and self._finished[-1].plane == now.plane
        share = 0.0 if is_finished else now.done / max(now.total, 1)
        return SearchProgress(count, min(self._done + share, count), seconds, "planes")

    def _found(self, now: EverythingProgress, is_last: bool) -> FoundPlanes | None:
        """Return what was found, with the pairs that overlap; less often the longer that takes."""
        begun = time.monotonic()
        is_finished = bool(self._finished) and self._finished[-1].plane == now.plane
        # A tile may show an object whole that words named on an earlier one, which would number the proposals anew.
        waits = self._place.words is not None and not is_finished
        if not is_last and (waits or begun - self._shown < RARELY * self._cost):
            return None
        found = FoundPlanes([*self._finished, *([] if is_finished else [self._found_in(now)])])
        found.select()  # Here, and not in the GUI thread: it finds the overlapping pairs, which `found` remembers.
        if self._query is not None:
            found = SimilarPlanes(found.parts, self._query)  # Copies, which the GUI thread may change.
        self._shown = time.monotonic()
        self._cost = self._shown - begun
        return found

    def _found_in(self, now: EverythingProgress) -> FoundObjects:
        """Return what was found in a plane so far; the same object again, which remembers the pairs that overlap.

        The tiles are joined as they came, so that further ones leave the numbers of proposals as they are: the workers
        of a cluster finish them in any order.
        """
        if self._place.words is not None:
            return now.found
        if self._last is None or self._last[0] is not now:
            proposals, query = Proposals.joined(now.parts[: now.done]), self._query
            found = FoundObjects(now.plane, proposals) if query is None else SimilarObjects(now.plane, proposals, query)
            self._last = now, found
        return self._last[1]


class _Ranking:
    """What was found already, ranked by examples, words or neither, in one step; encodes at most the examples."""

    def __init__(
        self, build: Callable[[Report], Segmenter], found: FoundPlanes, wanted: QueryMaker | None, words: str | None
    ) -> None:
        self.is_stopped = False
        self._build, self._found, self._wanted, self._words = build, found, wanted, words

    def step(self, report: Report) -> Step:
        """Rank, in the worker."""
        if self.is_stopped:
            return Step(SearchProgress(0, 0, 0.0), None, True)
        if self._words is not None:
            segmenter = self._build(report)
            found = FoundPlanes([_by_words(segmenter, part.unranked(), self._words) for part in self._found.parts])
        elif self._wanted is None:
            found = FoundPlanes([part.unranked() for part in self._found.parts])
        else:
            found = SimilarPlanes(self._found.parts, self._wanted(self._build(report), self._found))
        report("")
        found.select()
        return Step(SearchProgress(1, 1, 0.0), found, True)


class ProposalSearch:
    """Runs one search at a time; a click or a commit in between waits for one tile at most.

    Parameters
    ----------
    runner
        Asks for the next step when it is idle.
    failed
        Called with the error that ended a search.
    report
        Called with messages of the model, such as that it is loaded.

    Attributes
    ----------
    changed
        Emitted when `progress` changed.
    found
        Emitted with what was found so far, after each tile.
    ranked
        Emitted with the same proposals as before, ranked by what is wanted now.
    progress
        How far the search is, or None when there is none.
    """

    changed = Signal()
    found = Signal(object)
    ranked = Signal(object)

    def __init__(self, runner: Runner, failed: Callable[[Exception], None], report: Report) -> None:
        self.progress: SearchProgress | None = None
        self._runner, self._failed, self._report = runner, failed, report
        self._run: _Run | _Ranking | None = None

    @property
    def is_running(self) -> bool:
        """Whether a search is under way."""
        return self._run is not None

    def start(self, build: Callable[[Report], Segmenter], place: Place) -> None:
        """Search a place, instead of what is searched now.

        Parameters
        ----------
        build
            Makes the segmenter, in the worker.
        place
            Where.
        """
        self._run = _Run(build, place)
        self.progress = SearchProgress(0, 0, 0.0, "tiles" if len(place.planes) == 1 else "planes")
        self.changed.emit()
        self._runner.wake()

    def rank(
        self,
        build: Callable[[Report], Segmenter],
        found: FoundPlanes,
        wanted: QueryMaker | None,
        words: str | None = None,
    ) -> None:
        """Rank what was found by what is wanted now, instead of searching on; in the worker, and reported once.

        Parameters
        ----------
        build
            Makes the segmenter, in the worker.
        found
            What was found.
        wanted
            Makes the query by which it is ranked; None for none.
        words
            What it is ranked by instead, by the model that ranks.
        """
        self._run = _Ranking(build, found, wanted, words)
        self.progress = SearchProgress(0, 0, 0.0)
        self.changed.emit()
        self._runner.wake()

    def cancel(self) -> None:
        """Stop after the current tile; what was found is reported once more, with the tiles that were not shown yet."""
        if self._run is not None:
            self._run.is_stopped = True
            self._runner.wake()

    def drop(self) -> None:
        """Stop, and report nothing more."""
        if self._run is not None:
            self._run.is_stopped = True
            self._run = self.progress = None
            self.changed.emit()

    def next_work(self) -> Work | None:
        """Return the next step, or None when there is nothing to do."""
        run = self._run
        if run is None:
            return None
        return Work(
            run.step, lambda step: self._on_step(run, step), lambda error: self._on_error(run, error), self._report
        )

    def _on_step(self, run: _Run | _Ranking, step: Step) -> None:
        if run is not self._run:
            return
        self.progress = step.progress
        if step.found is not None:
            (self.ranked if isinstance(run, _Ranking) else self.found).emit(step.found)
        if step.is_last:
            self.drop()
        else:
            self.changed.emit()

    def _on_error(self, run: _Run | _Ranking, error: Exception) -> None:
        if run is self._run:
            self.drop()
            self._failed(error)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _by_words(segmenter: Segmenter, found: FoundObjects, words: str) -> ScoredObjects:
    """Score what was found by how well words describe it; what is no object by its own score is not looked at."""
    likely = np.flatnonzero(found.scores >= FilterOptions().confidence)
    ranked = segmenter.rank_by_words(FoundObjects(found.plane, found.proposals.taken(likely)), words)
    scores = np.zeros(len(found), np.float32)
    scores[likely] = ranked.scores
    return ScoredObjects(found, scores, ranked.filters)
