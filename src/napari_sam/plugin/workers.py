"""Work off the GUI thread, one job at a time: writes in order, then the newest request, then what can wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from superqt.utils import FunctionWorker, create_worker

Report = Callable[[str], None]
Job = Callable[[Report], Any]


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

    def set_idle(self, source: Callable[[], Work | None]) -> None:
        """Say who is asked for a short job whenever there is nothing else to do."""
        ...

    def wake(self) -> None:
        """Ask for a short job now, if there is nothing else to do."""
        ...

    def close(self) -> None:
        """Finish the writes, forget all else that waits, and tell nobody of what still runs."""
        ...


class LatestRunner(QObject):
    """Runs jobs one after the other in Qt's thread pool; of requests that wait, only the newest is kept."""

    _reported = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._running: Work | None = None
        self._waiting: Work | None = None
        self._writes: deque[Work] = deque()
        self._idle: Callable[[], Work | None] = lambda: None
        self._is_idle_work = False
        self._worker: FunctionWorker[Any] | None = None
        self._closed = False
        self._reported.connect(self._tell)

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

    def set_idle(self, source: Callable[[], Work | None]) -> None:
        """Take short jobs from there; see `Runner`."""
        self._idle = source

    def wake(self) -> None:
        """Ask for a short job; see `Runner`."""
        self._next()

    def close(self) -> None:
        """Finish the writes and forget the rest; see `Runner`."""
        self._closed = True
        self._waiting = None
        self._idle = lambda: None

    def _next(self) -> None:
        if self._running is not None:
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
        emit = self._reported.emit
        worker = create_worker(_outcome, work.job, emit, _start_thread=False)
        worker.returned.connect(self._finish)
        self._worker = worker
        worker.start()

    def _finish(self, outcome: tuple[Any, Exception | None]) -> None:
        work, self._running = self._running, None
        self._worker = None
        told = work is not None and not self._closed
        # The next job starts before this one's answer is drawn; only what can wait is asked for after that.
        if self._writes or self._waiting:
            self._next()
        if told and work is not None:
            value, error = outcome
            if error is None:
                work.done(value)
            else:
                work.failed(error)
        if not self._closed:
            self._next()

    def _tell(self, message: str) -> None:
        if self._running and not self._closed:
            self._running.report(message)


def _outcome(job: Job, report: Report) -> tuple[Any, Exception | None]:
    """Run a job and return its result or its exception, so that no exception is lost in the thread."""
    try:
        return job(report), None
    except Exception as error:
        return None, error
