"""Work off the GUI thread: one job at a time, and the newest request wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from superqt.utils import FunctionWorker, create_worker

Report = Callable[[str], None]
Job = Callable[[Report], Any]


class Runner(Protocol):
    """Runs jobs for the controller."""

    def submit(
        self, job: Job, done: Callable[[Any], None], failed: Callable[[Exception], None], report: Report
    ) -> None:
        """Run a job; one that waits already is replaced.

        Parameters
        ----------
        job
            Called with a function that takes progress messages; must not touch napari or Qt.
        done, failed, report
            Called in the GUI thread with the result, the exception, or a message.
        """
        ...

    def close(self) -> None:
        """Forget what waits, and tell nobody of what still runs."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    job: Job
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    report: Report


class LatestRunner(QObject):
    """Runs jobs one after the other in Qt's thread pool, skipping all but the newest of those that wait."""

    _reported = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._running: _Request | None = None
        self._waiting: _Request | None = None
        self._worker: FunctionWorker[Any] | None = None
        self._closed = False
        self._reported.connect(self._tell)

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._running is not None

    def submit(
        self, job: Job, done: Callable[[Any], None], failed: Callable[[Exception], None], report: Report
    ) -> None:
        """Run a job; see `Runner`."""
        if self._closed:
            return
        request = _Request(job, done, failed, report)
        if self._running:
            self._waiting = request
        else:
            self._start(request)

    def close(self) -> None:
        """Forget what waits; see `Runner`."""
        self._closed = True
        self._waiting = None

    def _start(self, request: _Request) -> None:
        self._running = request
        emit = self._reported.emit
        worker = create_worker(_outcome, request.job, emit, _start_thread=False)
        worker.returned.connect(self._finish)
        self._worker = worker
        worker.start()

    def _finish(self, outcome: tuple[Any, Exception | None]) -> None:
        request, self._running = self._running, None
        self._worker = None
        waiting, self._waiting = self._waiting, None
        if self._closed or request is None:
            return
        if waiting:
            self._start(waiting)
        value, error = outcome
        if error is None:
            request.done(value)
        else:
            request.failed(error)

    def _tell(self, message: str) -> None:
        if self._running and not self._closed:
            self._running.report(message)


def _outcome(job: Job, report: Report) -> tuple[Any, Exception | None]:
    """Run a job and return its result or its exception, so that no exception is lost in the thread."""
    try:
        return job(report), None
    except Exception as error:
        return None, error
