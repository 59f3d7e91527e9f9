"""ProposalSearch: find all objects of a plane or a part of it, tile by tile, while the runner is idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_sam.plugin.workers.runner import Work

if TYPE_CHECKING:
    from napari_sam.core.geometry import Box, Plane
    from napari_sam.core.masks import Mask
    from napari_sam.everything.found import FoundObjects
    from napari_sam.everything.sweep import EverythingProgress
    from napari_sam.plugin.workers.runner import Report, Runner
    from napari_sam.segmenter import Segmenter

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
        Number of tiles, and of those that are finished.
    seconds
        Time since the first tile.
    """

    total: int
    done: int
    seconds: float

    @property
    def text(self) -> str:
        """The progress, the rate and the time left, in one line."""
        tiles = f"{self.done} of {self.total} tiles"
        if self.done == 0 or self.seconds <= 0:
            return "Starting ..." if self.total == 0 else f"{tiles} ..."
        rate = self.done / self.seconds
        return f"{tiles}, {rate:.1f} a second, {_duration((self.total - self.done) / rate)} left"


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects are searched.

    Parameters
    ----------
    plane
        The plane.
    box, within
        Only in this box, or this mask, of the plane; None for all of it.
    sizes
        (smallest, largest) diameter in pixels, or None to find out on a sample.
    """

    plane: Plane
    box: Box | None = None
    within: Mask | None = None
    sizes: tuple[float, float] | None = None


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
    found: FoundObjects | None
    is_last: bool


class _Run:
    """One search, of which the worker takes one step at a time."""

    def __init__(self, build: Callable[[Report], Segmenter], place: Place) -> None:
        self.is_stopped = False
        self._build, self._place = build, place
        self._tiles: Iterator[EverythingProgress] | None = None
        self._now: EverythingProgress | None = None
        self._started = self._shown = self._cost = 0.0

    def step(self, report: Report) -> Step:
        """Search some tiles, in the worker; none after `is_stopped` was set."""
        tiles = self._tiles = self._begin(report) if self._tiles is None else self._tiles
        begun = time.monotonic()
        while not self.is_stopped and (now := next(tiles, None)) is not None:
            self._now = now
            if now.done in (0, now.total) or time.monotonic() - begun > SLICE_SECONDS:
                break
        now = self._now
        if now is None:
            return Step(SearchProgress(0, 0, 0.0), None, True)
        is_last = self.is_stopped or now.done >= now.total
        if is_last:
            self._tiles = iter(())  # Which closes a search that was stopped.
        progress = SearchProgress(now.total, now.done, time.monotonic() - self._started)
        return Step(progress, self._found(now, is_last), is_last)

    def _begin(self, report: Report) -> Iterator[EverythingProgress]:
        if self.is_stopped:
            return iter(())
        place, segmenter = self._place, self._build(report)
        report("")
        tiles = segmenter.everything_steps(plane=place.plane, box=place.box, within=place.within, sizes=place.sizes)
        self._started = time.monotonic()
        return tiles

    def _found(self, now: EverythingProgress, is_last: bool) -> FoundObjects | None:
        """Return what was found, with the pairs that overlap; less often the longer that takes."""
        begun = time.monotonic()
        if not is_last and begun - self._shown < RARELY * self._cost:
            return None
        found = now.found
        found.select()  # Here, and not in the GUI thread: it finds the overlapping pairs, which `found` remembers.
        self._shown = time.monotonic()
        self._cost = self._shown - begun
        return found


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
    progress
        How far the search is, or None when there is none.
    """

    changed = Signal()
    found = Signal(object)

    def __init__(self, runner: Runner, failed: Callable[[Exception], None], report: Report) -> None:
        self.progress: SearchProgress | None = None
        self._runner, self._failed, self._report = runner, failed, report
        self._run: _Run | None = None

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

    def _on_step(self, run: _Run, step: Step) -> None:
        if run is not self._run:
            return
        self.progress = step.progress
        if step.found is not None:
            self.found.emit(step.found)
        if step.is_last:
            self.drop()
        else:
            self.changed.emit()

    def _on_error(self, run: _Run, error: Exception) -> None:
        if run is self._run:
            self.drop()
            self._failed(error)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
