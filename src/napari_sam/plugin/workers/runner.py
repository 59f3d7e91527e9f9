"""LatestRunner: run jobs off the GUI thread, one at a time: writes first, then the newest request, then idle work."""

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
    """A job with its callbacks.

    Parameters
    ----------
    job
        Called off the GUI thread with a function that takes progress messages; must not touch napari or Qt.
    done, failed, report
        Called in the GUI thread with the result, the exception, or a message.
    """

    job: Job
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    report: Report = lambda _: None


class Runner(Protocol):
    """Runs jobs for the parts of the plugin."""

    def submit(
        self, job: Job, done: Callable[[Any], None], failed: Callable[[Exception], None], report: Report
    ) -> None:
        """Run a job in place of one that waits already. See `Work`."""
        ...

    def submit_write(self, work: Work) -> None:
        """Run a job before all other kinds; writes are never dropped, and run in order."""
        ...

    def submit_apart(self, work: Work) -> None:
        """Run a job that needs no model in a queue of its own, so that it waits for neither a model nor an answer."""
        ...

    def set_idle(self, source: Callable[[], Work | None]) -> None:
        """Set the function that returns the next short job for an idle runner, or None."""
        ...

    def wake(self) -> None:
        """Start a short job now, if the runner is idle."""
        ...

    def close(self) -> None:
        """Finish the writes, drop everything else, and call back for nothing that still runs."""
        ...


class LatestRunner:
    """Runs jobs one after the other in Qt's thread pool; of requests that wait, only the newest is kept.

    After `close`, the worker thread finishes the writes that wait without the GUI thread, which may end meanwhile; Qt's
    application waits for its thread pool.

    Parameters
    ----------
    widget
        Closes the runner when it is destroyed; None for a runner that is closed by hand.
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
        self._mailbox = _mailbox()
        if widget is not None:
            close = weakref.WeakMethod(self.close)
            widget.destroyed.connect(lambda: _call(close))

    @property
    def busy(self) -> bool:
        """Whether a write or a request runs."""
        return self._running is not None and not self._is_idle_work

    @property
    def idling(self) -> bool:
        """Whether idle work runs."""
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
        """Set the source of short jobs; see `Runner`."""
        self._idle = source

    def wake(self) -> None:
        """Start a short job if idle; see `Runner`."""
        self._next()

    def close(self) -> None:
        """Finish the writes and drop the rest; see `Runner`."""
        with self._lock:
            self._closed = True
            # The last job may have ended before the GUI thread knows.
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
        """Run a job, in its thread."""
        outcome = _outcome(job, lambda message: self._mailbox.send_progress(self, message))
        self._finish_writes(outcome)

    def _finish_writes(self, outcome: Outcome = (None, None)) -> None:
        """Run the writes that wait after `close`, in the worker thread, and report the end of the job."""
        while (write := self._write_after_close()) is not None:
            _, error = _outcome(write.job, lambda _: None)
            if error is not None:
                _LOG.error("An accepted object could not be written after its window was closed: %s", error)
        self._mailbox.end(self, outcome)

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
        # The next job starts before this one's answer is drawn; idle work starts after that.
        if self._writes or self._waiting:
            self._next()
        if work is not None:
            value, error = outcome
            if error is None:
                work.done(value)
            else:
                work.failed(error)
        self._next()

    def _on_progress(self, message: str) -> None:
        if self._running and not self._closed:
            self._running.report(message)


class _GuiMailbox(QObject):
    """Delivers results and messages from all worker threads to the GUI thread.

    There is one per process, which is never destroyed. PySide could call a QObject of each runner while Python destroys
    it, because the Python half of garbage is destroyed first.
    """

    _ended = Signal(object)
    _progress = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._ended.connect(self._on_ended, Qt.ConnectionType.QueuedConnection)
        self._progress.connect(self._on_progress, Qt.ConnectionType.QueuedConnection)

    def end(self, runner: LatestRunner, outcome: Outcome) -> None:
        """Send a runner the outcome of its job, from any thread."""
        with contextlib.suppress(RuntimeError):  # Qt's application is gone.
            self._ended.emit((runner, outcome))

    def send_progress(self, runner: LatestRunner, message: str) -> None:
        """Send a runner a progress message of its job, from any thread."""
        with contextlib.suppress(RuntimeError):
            self._progress.emit((runner, message))

    def _on_ended(self, envelope: tuple[LatestRunner, Outcome]) -> None:
        runner, outcome = envelope
        _THREADS.ended()
        runner._finish(outcome)

    def _on_progress(self, envelope: tuple[LatestRunner, str]) -> None:
        runner, message = envelope
        runner._on_progress(message)


class _WorkerThreads:
    """Starts worker threads of all windows, and pauses Python's garbage collector while one runs.

    Python collects garbage in whatever thread happens to allocate. Widgets of a closed window would be destroyed
    outside the GUI thread, which crashes Qt.
    """

    def __init__(self) -> None:
        self._count = 0
        self._has_paused = False

    def start(self, run: Callable[[], None]) -> None:
        """Run a function in a thread; it must send `_GuiMailbox.end` as its last step."""
        if self._count == 0 and gc.isenabled():
            gc.disable()
            self._has_paused = True
        self._count += 1
        pool = QThreadPool.globalInstance()
        assert pool is not None
        # A job that waits for a download must not block the threads of other windows.
        pool.setMaxThreadCount(max(pool.maxThreadCount(), self._count))
        pool.start(_Task(run))

    def ended(self) -> None:
        """Count a thread out."""
        self._count -= 1
        if self._count == 0 and self._has_paused:
            self._has_paused = False
            gc.enable()


_THREADS = _WorkerThreads()


@functools.cache
def collect_garbage_once() -> None:
    """Collect garbage now, in the GUI thread, rather than during the first clicks; later calls do nothing.

    torch allocates so many objects that a full collection follows soon, which takes a third of a second. Afterwards
    they count as old and are rarely examined again.
    """
    gc.collect()


@functools.cache
def _mailbox() -> _GuiMailbox:
    return _GuiMailbox()  # Not before Qt's application.


class _Task(QRunnable):
    """A task of Qt's thread pool; superqt's worker changes Python's warning filters for all threads while it runs."""

    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__()
        self._functions = [run]

    def run(self) -> None:
        """Run the function, in a thread of the pool."""
        self._functions.pop()()  # Not kept: PySide leaks a task now and then, with everything that it refers to.


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Call a method, unless its object is gone."""
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
    """Return the method for jobs that need no model: `submit_apart`, or `submit_write` of a runner without it."""
    return getattr(runner, "submit_apart", runner.submit_write)
