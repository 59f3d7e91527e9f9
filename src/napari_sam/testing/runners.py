"""Runners without threads: they run the plugin's jobs in the calling thread, at a moment that the test chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Report = Callable[[str], None]
Job = Callable[[Report], Any]
Done = Callable[[Any], None]
Failed = Callable[[Exception], None]


class Work(Protocol):
    """A job and its callbacks, as `napari_sam.plugin.workers.runner.Work` has them; that module needs Qt."""

    @property
    def job(self) -> Job: ...

    @property
    def done(self) -> Done: ...

    @property
    def failed(self) -> Failed: ...

    @property
    def report(self) -> Report: ...


class ImmediateRunner:
    """Run each job at once, in the calling thread.

    Short jobs that the plugin offers for idle time (encoding tiles in advance, the mask under the cursor) run only in
    `run_idle`. It implements `napari_sam.plugin.workers.runner.Runner`.

    Attributes
    ----------
    messages : list of str
        Progress messages of all jobs.
    closed : bool
        Whether `close` was called.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.closed = False
        self.idle: Callable[[], Work | None] = lambda: None

    def submit(self, job: Job, done: Done, failed: Failed, report: Report) -> None:
        """Run a request; its messages go to `messages` instead of `report`."""
        self._run(job, done, failed)

    def submit_write(self, work: Work) -> None:
        """Run a job that writes labels."""
        self._run(work.job, work.done, work.failed)

    def submit_apart(self, work: Work) -> None:
        """Run a job that needs no model."""
        self._run(work.job, work.done, work.failed)

    def set_idle(self, source: Callable[[], Work | None]) -> None:
        """Set the function that returns the next short job for idle time, or None."""
        self.idle = source

    def wake(self) -> None:
        """Do nothing: jobs for idle time run in `run_idle` only."""

    def run_idle(self, limit: int = 1000) -> int:
        """Run short jobs until there are no more.

        Parameters
        ----------
        limit
            Highest number of jobs.

        Returns
        -------
        int
            Number of jobs that were run.
        """
        count = 0
        while count < limit and (work := self.idle()) is not None:
            self._run(work.job, work.done, work.failed)
            count += 1
        return count

    def close(self) -> None:
        """Set `closed`."""
        self.closed = True

    def _run(self, job: Job, done: Done, failed: Failed) -> None:
        try:
            result = job(self.messages.append)
        except Exception as error:
            failed(error)
        else:
            done(result)


class HeldRunner(ImmediateRunner):
    """Hold requests and writes until `release`, so that a test can act while they wait.

    Attributes
    ----------
    jobs : list of tuple
        What waits, as (job, done, failed, report), the oldest first. Unlike in the real runner a newer request
        replaces none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[tuple[Job, Done, Failed, Report]] = []

    def submit(self, job: Job, done: Done, failed: Failed, report: Report) -> None:
        """Hold a request."""
        self.jobs.append((job, done, failed, report))

    def submit_write(self, work: Work) -> None:
        """Hold a job that writes labels."""
        self.jobs.append((work.job, work.done, work.failed, work.report))

    def release(self, index: int = 0) -> None:
        """Run one of the held jobs.

        Parameters
        ----------
        index
            Position in `jobs`; 0 is the oldest, -1 the newest.
        """
        job, done, failed, _ = self.jobs.pop(index)
        self._run(job, done, failed)


class WriteRunner(ImmediateRunner):
    """Run writes and jobs that need no model at once; drop requests, so that no model is ever loaded."""

    def submit(self, job: Job, done: Done, failed: Failed, report: Report) -> None:
        """Drop a request."""
