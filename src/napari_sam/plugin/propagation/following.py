"""Following: follow objects through planes, some planes at a time, while the runner is idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_sam.plugin.objects.journals import MAX_SYNC_PIXELS
from napari_sam.plugin.workers.runner import Work

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_sam.core.masks import Overlap
    from napari_sam.journal.entries import Entry
    from napari_sam.journal.journal import Journal
    from napari_sam.plugin.layers.labels import LayerLabels
    from napari_sam.plugin.objects.label_layers import LabelLayers
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.objects.open_journal import OpenJournal
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Report, Runner
    from napari_sam.propagation.propagation import PropagationStep
    from napari_sam.segmenter import Segmenter

# Objects are followed for so long before their masks are shown; a click waits for that and one plane.
SLICE_SECONDS = 0.15


@dataclass(frozen=True, slots=True)
class Route:
    """Which objects are followed, and where.

    Parameters
    ----------
    labels
        The objects.
    axis
        The axis of the image along which the planes follow each other.
    planes
        The first and the last plane, both included.
    overlap
        What happens to other labels.
    """

    labels: Sequence[int]
    axis: int
    planes: tuple[int, int]
    overlap: Overlap


@dataclass(frozen=True, slots=True)
class FollowProgress:
    """How far a run is.

    Parameters
    ----------
    total, done
        Number of planes that may have to be visited, in both directions together, and of those that were.
    at
        The plane that was visited last, or None before the first.
    seconds
        Time since the first plane.
    """

    total: int
    done: int
    at: int | None
    seconds: float

    @property
    def text(self) -> str:
        """The plane, the progress and the time left, in one line."""
        if self.at is None:
            return "Starting ..."
        left = (self.total - self.done) * self.seconds / max(self.done, 1)
        return f"Plane {self.at}: {self.done} of {self.total}, at most {max(round(left), 1)} s left"


class _Run:
    """One run, which the worker advances; it writes with the journal of the output."""

    def __init__(self, build: Callable[[Report], Segmenter], route: Route, at: int) -> None:
        self.at, self.route = at, route
        self.is_stopped = self.is_done = self.is_waiting = False
        self.segmenter: Segmenter | None = None
        self.last: PropagationStep | None = None
        self.written: set[int] = set()
        self.seconds = 0.0
        self._build = build
        self._steps: Iterator[PropagationStep] | None = None

    def begin(self, report: Report) -> None:
        """Make the segmenter, in the worker."""
        self.segmenter = self._build(report)

    def advance(self, journal: Journal) -> Sequence[Entry]:
        """Follow the objects through some planes, in the worker, and return the entries; none after `is_stopped`."""
        segmenter, begun, before = self.segmenter, time.monotonic(), len(journal.entries)
        assert segmenter is not None
        segmenter.journal = journal  # Of the worker that has it, for as long as it writes.
        try:
            self._take_steps(segmenter, begun)
        finally:
            segmenter.journal = None
            self.seconds += time.monotonic() - begun
        return journal.entries[before:]

    def _take_steps(self, segmenter: Segmenter, begun: float) -> None:
        if self._steps is None:
            route = self.route
            self._steps = segmenter.propagate_steps(
                route.labels, axis=route.axis, planes=route.planes, overlap=route.overlap
            )
        while not self.is_stopped:
            step = next(self._steps, None)
            if step is None:
                self.is_done = True
                return
            self.last = step
            self.written |= {step.at} if step.followed else set()
            if time.monotonic() - begun > SLICE_SECONDS:
                return

    @property
    def progress(self) -> FollowProgress:
        """How far it is."""
        last = self.last
        if last is None:
            return FollowProgress(0, 0, None, 0.0)
        return FollowProgress(last.total, last.done, last.at, self.seconds)


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    """Some planes of a run, as a write of labels."""

    run: _Run
    done: Callable[[Labels, Sequence[Entry]], None]
    failed: Callable[[Exception], None]
    is_empty: bool = False
    # More than is written in the GUI thread: the model is asked meanwhile.
    area: int = MAX_SYNC_PIXELS + 1

    def write(self, journal: Journal, labels: LayerLabels) -> Sequence[Entry]:
        """Follow the objects through some planes; safe in any thread."""
        return self.run.advance(journal)

    def report(self, open_journal: OpenJournal, entries: Sequence[Entry]) -> None:
        """Tell the caller what was written."""
        self.done(open_journal.layer, entries)


class Following:
    """Runs one propagation at a time; a click or a commit in between waits for one plane at most.

    Parameters
    ----------
    session
        Learns messages and errors.
    runner
        Asks for the next step when it is idle.
    label_layers, objects
        The output and its objects.

    Attributes
    ----------
    changed
        Emitted when `progress` changed.
    ended
        Emitted with the route, the planes that were written, and whether the run came to its end.
    progress
        How far the run is, or None when there is none.
    """

    changed = Signal()
    ended = Signal(object, object, bool)

    def __init__(self, session: Session, runner: Runner, label_layers: LabelLayers, objects: Objects) -> None:
        self.progress: FollowProgress | None = None
        self._session, self._runner = session, runner
        self._label_layers, self._objects = label_layers, objects
        self._run: _Run | None = None
        self._image: Image | None = None
        self._layer: Labels | None = None

    @property
    def is_running(self) -> bool:
        """Whether objects are being followed."""
        return self._run is not None

    @property
    def route(self) -> Route | None:
        """Where objects are being followed, or None."""
        return None if self._run is None else self._run.route

    def start(self, build: Callable[[Report], Segmenter], image: Image, layer: Labels, route: Route) -> None:
        """Follow objects.

        Parameters
        ----------
        build
            Makes the segmenter, in the worker.
        image, layer
            The image, and its labels, which have a journal.
        route
            Which objects, and where.
        """
        self._run, self._image, self._layer = _Run(build, route, self._session.tick()), image, layer
        self.progress = self._run.progress
        self.changed.emit()
        self._runner.wake()

    def cancel(self) -> None:
        """Stop after the current plane; what was written stays."""
        run = self._run
        if run is not None:
            run.is_stopped = True
            if not run.is_waiting:
                self._end(run)

    def drop(self) -> None:
        """Stop, and report nothing more."""
        if self._run is not None:
            self._run.is_stopped = True
            self._run = self.progress = self._image = self._layer = None
            self.changed.emit()

    def next_work(self) -> Work | None:
        """Return what makes the segmenter, or advance the run, which is a write of labels; for an idle runner."""
        run, image = self._run, self._image
        if run is None or image is None or run.is_waiting:
            return None
        if self._layer not in self._session.viewer.layers:
            self.drop()
            return None
        run.is_waiting = True
        if run.segmenter is None:
            return Work(
                run.begin,
                lambda _: self._on_begun(run),
                lambda error: self._on_error(run, error),
                self._session.set_status,
            )
        piece = _Slice(
            run, lambda layer, entries: self._on_slice(run, layer, entries), lambda e: self._on_error(run, e)
        )
        self._label_layers.commit(image, self._layer, piece)
        return None

    def _on_begun(self, run: _Run) -> None:
        run.is_waiting = False
        if run is self._run:
            self._session.set_status("")
            self._go_on(run)

    def _on_slice(self, run: _Run, layer: Labels, entries: Sequence[Entry]) -> None:
        run.is_waiting = False
        if entries:
            self._objects.note_commit(layer, run.at)
        if run is self._run:
            self.progress = run.progress
            self._go_on(run)

    def _go_on(self, run: _Run) -> None:
        if run.is_done or run.is_stopped:
            self._end(run)
        else:
            self.changed.emit()
            self._runner.wake()

    def _on_error(self, run: _Run, error: Exception) -> None:
        run.is_waiting = False
        if run is self._run:
            if run.written and self._layer is not None:
                self._objects.note_commit(self._layer, run.at)
            self._end(run)
            self._session.notify_error(error)

    def _end(self, run: _Run) -> None:
        self.drop()
        self.ended.emit(run.route, run.written, run.is_done)
