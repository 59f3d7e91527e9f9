"""Work off the GUI thread, one job at a time: writes in order, then the newest request, then what can wait."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

from qtpy.QtCore import QObject, QRunnable, Qt, QThreadPool, Signal  # type: ignore[attr-defined]

_LOG = logging.getLogger(__name__)

Report = Callable[[str], None]
Job = Callable[[Report], Any]
Outcome = tuple[Any, Exception | None]


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A job and who is told of its end.

    Parameters
    ----------
    job
        Called with a function that takes progress messages; must not touch napari or Qt.
    done, failed, report
        Called in the GUI thread with the result, the exception, or a message.
    """

    job: Job
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    report: Report = lambda _: None


class Runner(Protocol):
    """Runs jobs for the controller."""

    def submit(
        self, job: Job, done: Callable[[Any], None], failed: Callable[[Exception], None], report: Report
    ) -> None:
        """Run a job; one that waits already is replaced. See `Work`."""
        ...

    def submit_write(self, work: Work) -> None:
        """Run a job before all that wait; none is ever left out, and their order is kept."""
        ...

    def submit_apart(self, work: Work) -> None:
        """Run a job that needs no model beside all others, in order: it waits neither for a model nor for answers."""
        ...

    def set_idle(self, source: Callable[[], Work | None]) -> None:
        """Say who is asked for a short job whenever there is nothing else to do."""
        ...

    def wake(self) -> None:
        """Ask for a short job now, if there is nothing else to do."""
        ...

    def close(self) -> None:
        """Finish the writes, forget all else that waits, and tell nobody of what still runs."""
        ...


class LatestRunner:
    """Runs jobs one after the other in Qt's thread pool; of requests that wait, only the newest is kept.

    After `close` the writes that wait are finished by the thread that is at work, without the GUI thread, which may end
    then; Qt's application waits for its thread pool.

    Parameters
    ----------
    widget
        Closes the runner when it is destroyed; None for nothing that does.
    """

    def __init__(self, widget: QObject | None = None) -> None:
        self._running: Work | None = None
        self._waiting: Work | None = None
        self._writes: deque[Work] = deque()
        self._idle: Callable[[], Work | None] = lambda: None
        self._is_idle_work = False
        self._closed = False
        self._lock = Lock()
        self._is_working = False
        self._apart: LatestRunner | None = None
        self._mail = _mail()
        if widget is not None:
            close = weakref.WeakMethod(self.close)
            widget.destroyed.connect(lambda: _call(close))

    @property
    def busy(self) -> bool:
        """Whether a job runs that somebody waits for."""
        return self._running is not None and not self._is_idle_work

    @property
    def idling(self) -> bool:
        """Whether a short job runs that nobody waits for."""
        return self._running is not None and self._is_idle_work

    def submit(
        self, job: Job, done: Callable[[Any], None], failed: Callable[[Exception], None], report: Report
    ) -> None:
        """Run a job; see `Runner`."""
        if not self._closed:
            self._waiting = Work(job, done, failed, report)
            self._next()

    def submit_write(self, work: Work) -> None:
        """Run a job that must not be lost; see `Runner`."""
        if not self._closed:
            self._writes.append(work)
            self._next()

    def submit_apart(self, work: Work) -> None:
        """Run a job beside all others; see `Runner`."""
        if not self._closed:
            if self._apart is None:
                self._apart = LatestRunner()
            self._apart.submit_write(work)

    def set_idle(self, source: Callable[[], Work | None]) -> None:
        """Take short jobs from there; see `Runner`."""
        self._idle = source

    def wake(self) -> None:
        """Ask for a short job; see `Runner`."""
        self._next()

    def close(self) -> None:
        """Finish the writes and forget the rest; see `Runner`."""
        with self._lock:
            self._closed = True
            # The last job may have ended without the GUI thread having been told yet.
            starts = bool(self._writes) and not self._is_working
            self._is_working = self._is_working or starts
        self._running = self._waiting = None
        self._idle = lambda: None
        if self._apart is not None:
            self._apart.close()
        if starts:
            _THREADS.start(self._finish_writes)

    def _next(self) -> None:
        if self._running is not None or self._closed:
            return
        self._is_idle_work = False
        if self._writes:
            self._start(self._writes.popleft())
        elif self._waiting:
            work, self._waiting = self._waiting, None
            self._start(work)
        else:
            idle = self._idle()
            if idle is not None and self._running is None:
                self._is_idle_work = True
                self._start(idle)

    def _start(self, work: Work) -> None:
        self._running = work
        self._is_working = True
        job = work.job
        _THREADS.start(lambda: self._work(job))

    def _work(self, job: Job) -> None:
        """Do a job, in its thread."""
        outcome = _outcome(job, lambda message: self._mail.say(self, message))
        self._finish_writes(outcome)

    def _finish_writes(self, outcome: Outcome = (None, None)) -> None:
        """Do the writes that wait after `close`, in their thread, and tell of the end."""
        while (write := self._write_after_close()) is not None:
            _, error = _outcome(write.job, lambda _: None)
            if error is not None:
                _LOG.error("What was accepted last could not be written after its window was closed: %s", error)
        self._mail.end(self, outcome)

    def _write_after_close(self) -> Work | None:
        with self._lock:
            if self._closed and self._writes:
                return self._writes.popleft()
            self._is_working = False
            return None

    def _finish(self, outcome: Outcome) -> None:
        if self._closed:
            return
        work, self._running = self._running, None
        # The next job starts before this one's answer is drawn; only what can wait is asked for after that.
        if self._writes or self._waiting:
            self._next()
        if work is not None:
            value, error = outcome
            if error is None:
                work.done(value)
            else:
                work.failed(error)
        self._next()

    def _tell(self, message: str) -> None:
        if self._running and not self._closed:
            self._running.report(message)


class _Mail(QObject):
    """Brings what the threads of all windows say to the GUI thread.

    There is one, for ever. Were every runner a QObject, or had one, PySide could call it while Python destroys it: of
    garbage, the Python half is destroyed first.
    """

    _ended = Signal(object)
    _said = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._ended.connect(self._on_ended, Qt.ConnectionType.QueuedConnection)
        self._said.connect(self._on_said, Qt.ConnectionType.QueuedConnection)

    def end(self, runner: LatestRunner, outcome: Outcome) -> None:
        """Tell a runner, from any thread, what came of a job."""
        with contextlib.suppress(RuntimeError):  # Qt's application is gone, and nobody is there to be told.
            self._ended.emit((runner, outcome))

    def say(self, runner: LatestRunner, message: str) -> None:
        """Tell a runner, from any thread, what a job says meanwhile."""
        with contextlib.suppress(RuntimeError):
            self._said.emit((runner, message))

    def _on_ended(self, letter: tuple[LatestRunner, Outcome]) -> None:
        runner, outcome = letter
        _THREADS.ended()
        runner._finish(outcome)

    def _on_said(self, letter: tuple[LatestRunner, str]) -> None:
        runner, message = letter
        runner._tell(message)


class _Threads:
    """The threads that are at work, for all windows.

    Python looks for garbage in whatever thread happens to allocate, and destroys it there: widgets that a closed window
    left behind would be destroyed beside the GUI thread, which crashes Qt. So it looks for none while a job runs, and
    catches up between jobs.
    """

    def __init__(self) -> None:
        self._count = 0
        self._has_paused = False

    def start(self, run: Callable[[], None]) -> None:
        """Do something in a thread, which sends `_Mail.end` when it is through."""
        if self._count == 0 and gc.isenabled():
            gc.disable()
            self._has_paused = True
        self._count += 1
        pool = QThreadPool.globalInstance()
        assert pool is not None
        # A job that waits for a download must not keep those of others waiting for a thread.
        pool.setMaxThreadCount(max(pool.maxThreadCount(), self._count))
        pool.start(_Task(run))

    def ended(self) -> None:
        """Know that a thread is through."""
        self._count -= 1
        if self._count == 0 and self._has_paused:
            self._has_paused = False
            gc.enable()


_THREADS = _Threads()


@functools.cache
def collect_garbage_once() -> None:
    """Look for garbage now, in the GUI thread, and not in the middle of the work.

    torch brings so many objects with it that Python soon looks through all there are, for a third of a second; after
    that they count as old, and it hardly ever does again. Only the first call does anything.
    """
    gc.collect()


@functools.cache
def _mail() -> _Mail:
    return _Mail()  # Not before Qt's application.


class _Task(QRunnable):
    """What Qt's thread pool does; not superqt's worker, which changes Python's warnings for all threads meanwhile."""

    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__()
        self._left = [run]

    def run(self) -> None:
        """Do it, in a thread of the pool."""
        self._left.pop()()  # Kept no longer: PySide leaks a task now and then, and what it knows would not go either.


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Call a method of something that may be gone."""
    bound = method()
    if bound is not None:
        bound()


def _outcome(job: Job, report: Report) -> Outcome:
    """Run a job and return its result or its exception, so that no exception is lost in the thread."""
    try:
        return job(report), None
    except Exception as error:
        return None, error


def apart(runner: Runner) -> Callable[[Work], None]:
    """Return what runs jobs that need no model; a runner that knows no difference runs them as it runs writes."""
    return getattr(runner, "submit_apart", runner.submit_write)
