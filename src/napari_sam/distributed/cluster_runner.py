"""ClusterRunner: do jobs on the workers of a cluster, each once in the result, whatever happens to the workers."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, islice
from queue import Empty, SimpleQueue
from statistics import median
from typing import TYPE_CHECKING, Any, Generic

from napari_sam.distributed.job import Item, Result
from napari_sam.distributed.worker import Answer, Answers, do_job
from napari_sam.distributed.worker_pool import GPU, WorkerPool
from napari_sam.errors import ClusterError, NapariSamError, first_line

if TYPE_CHECKING:
    from distributed import Client, Future

# A job that takes as many times as long as most others, and longer than the patience, is given to another worker, too.
SLOW = 20
# Jobs of which the time is known.
TIMES_KEPT = 100
# Of each job that it is given the scheduler keeps 0.7 kB, mostly for ever, and it takes it 2 ms: a job is as many
# items as take a second, and at most so many.
JOB_SECONDS = 1.0
MOST_ITEMS = 64
# So many workers may fail at a job, or end while they do it, before the run ends.
TRIES = 3
# So many times the patience is left to workers that open the image and the model.
DOWNLOADS = 4
POLL_SECONDS = 0.2
# Longest time to wait for a result that is said to be there: the worker that has it may have ended.
RESULT_SECONDS = 2.0


@dataclass(eq=False, slots=True)
class _Job(Generic[Item]):
    """A job that is not done.

    Parameters
    ----------
    items
        What to do, one thing after the other.
    failed
        The workers that failed at it or ended while they had it.
    again
        Whether a worker that does not answer may still do it.
    running
        The workers that have it.
    """

    items: tuple[Item, ...]
    failed: list[str] = field(default_factory=list)
    again: bool = False
    running: set[str] = field(default_factory=set)
    is_done: bool = False


@dataclass(eq=False, slots=True)
class _Copy(Generic[Item]):
    """A job on a worker; it is late when it has taken so long that another worker gets the job, too."""

    job: _Job[Item]
    address: str
    future: Future[Answers]
    since: float
    is_late: bool = False


class ClusterRunner(Generic[Item, Result]):
    """Does jobs on the workers of a cluster.

    A worker has a few jobs at a time, each of as many items as take about a second, so that the scheduler's memory does
    not grow with their number. A job of a worker that has ended is done by another one; so is one of a worker that does
    not answer, and whichever is done first counts.

    Parameters
    ----------
    client
        Connection to the scheduler.
    name, packed, version
        The plan of the jobs, see `prepare`.
    patience
        Seconds after which a worker that says nothing of a job is not waited for any more.
    most
        Largest number of items of a job.
    warn
        Called with a sentence about a worker that is not used.
    """

    def __init__(
        self,
        client: Client,
        name: bytes,
        packed: bytes,
        version: str,
        *,
        patience: float,
        most: int = MOST_ITEMS,
        warn: Callable[[str], None],
    ) -> None:
        self._client, self._name, self._patience, self._warn = client, name, patience, warn
        self._most = most
        self._events: SimpleQueue[_Copy[Item] | None] = SimpleQueue()
        self._pool = WorkerPool(client, name, packed, version, lambda: self._events.put(None), warn)
        self._copies: set[_Copy[Item]] = set()
        # Late ones of jobs that another worker has done; only whether they end at last is of interest.
        self._overtaken: set[_Copy[Item]] = set()
        self._asked: list[_Copy[Item]] = []
        self._queued: deque[_Job[Item]] = deque()
        # One group for all jobs, and something in it at all times: whenever a group is empty the scheduler forgets it,
        # and makes another record of the next job's, which it never drops.
        self._group, self._numbers = f"napari-sam-{secrets.token_hex(8)}", count()
        self._in_group: Future[int] | None = None
        self._times: deque[float] = deque(maxlen=TIMES_KEPT)
        self._item_times: deque[float] = deque(maxlen=TIMES_KEPT)

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
        """Do jobs, in any order, and yield each with its result.

        Raises
        ------
        ClusterError
            The scheduler has gone away, or no worker can do the jobs. Jobs that were yielded are done.
        NapariSamError
            A job failed on several workers; the error of the last one.
        """
        ahead, heard = iter(items), time.monotonic()
        try:
            while True:
                self._look()
                has_more = self._give(ahead)
                if not (has_more or self._copies or self._queued):
                    return
                done = list(self._finished())
                yield from done
                if done or not self._is_waiting:
                    heard = time.monotonic()
                self._check_silence(heard)
        finally:
            self._cancel()

    @property
    def workers(self) -> int:
        """Number of workers that can do the jobs, as far as a run has found out."""
        return self._pool.count

    @property
    def _is_waiting(self) -> bool:
        """Whether nothing can happen unless a worker comes or one that is late answers."""
        return all(copy.is_late for copy in self._copies)

    def _look(self) -> None:
        """Take the jobs of workers that have ended, and see who is silent."""
        self._check_scheduler()
        try:
            gone = self._pool.look()
        except (OSError, TimeoutError) as error:
            raise self._lost() from error
        now = time.monotonic()
        limit = max(self._patience, SLOW * median(self._times) if self._times else 0)
        for copy in list(self._copies):
            if copy.address in gone:
                self._drop(copy)
                self._retry(copy.job, copy.address, "the worker has ended")
            elif now - copy.since > limit and not copy.is_late:
                self._go_round(copy)

    def _go_round(self, copy: _Copy[Item]) -> None:
        """Give a job of a worker that does not answer to another one."""
        copy.is_late = True
        state = self._pool.state(copy.address)
        if state is not None and not state.is_silent:
            state.is_silent = True
            self._warn(f"The worker {copy.address} does not answer: others do its work.")
        copy.job.again = True
        if len(copy.job.running) < TRIES:
            self._queued.append(copy.job)

    def _give(self, items: Iterator[Item]) -> bool:
        """Give workers as many jobs as they take; return whether there are more."""
        while True:
            job = self._queued[0] if self._queued else None
            if job is not None and job.is_done:
                self._queued.popleft()
                continue
            state = self._pool.free(set() if job is None else job.running | set(job.failed))
            if state is None and job is not None and job.failed and not job.running:
                state = self._pool.free(set())  # The only worker may try once more.
            if state is None:
                return True
            if job is not None:
                self._queued.popleft()
            elif part := tuple(islice(items, self._items_of_a_job)):
                job = _Job(part)
            else:
                return False
            self._submit(job, state.address, has_gpu=state.has_gpu)
            state.jobs += 1

    @property
    def _items_of_a_job(self) -> int:
        if not self._item_times:
            return 1
        return max(1, int(JOB_SECONDS / max(median(self._item_times), JOB_SECONDS / self._most)))

    def _key(self) -> tuple[str, int]:
        return self._group, next(self._numbers)

    def _submit(self, job: _Job[Item], address: str, *, has_gpu: bool) -> None:
        if self._in_group is None:
            self._in_group = self._client.submit(len, (), key=self._key(), pure=False)
        future = self._client.submit(
            do_job,
            self._name,
            job.items,
            again=job.again,
            workers=[address],
            resources={GPU: 1} if has_gpu else None,
            key=self._key(),
            pure=False,
        )
        copy = _Copy(job, address, future, time.monotonic())
        job.running.add(address)
        self._copies.add(copy)
        future.add_done_callback(lambda _: self._events.put(copy))

    def _finished(self) -> Iterator[tuple[Item, Result]]:
        """Wait a moment for the next jobs that are done."""
        while self._asked:
            self._events.put(self._asked.pop())
        with suppress(Empty):
            copy = self._events.get(timeout=POLL_SECONDS)
            while True:
                if copy in self._overtaken:
                    self._overtaken.discard(copy)
                    self._answers_again(copy)
                elif copy is not None and copy in self._copies:
                    yield from self._result(copy)
                copy = self._events.get_nowait()

    def _result(self, copy: _Copy[Item]) -> Iterator[tuple[Item, Result]]:
        try:
            self._check_scheduler()
            answers = copy.future.result(timeout=RESULT_SECONDS)
        except ClusterError:
            raise
        except TimeoutError:
            self._asked.append(copy)  # Unless the worker is found to have ended, it is asked again.
            return
        except Exception as error:  # Of dask, of a worker that ended, or of the job.
            self._drop(copy)
            self._check_scheduler()
            self._retry(copy.job, copy.address, f"{first_line(error)} ({type(error).__name__})")
            return
        self._drop(copy)
        self._answers_again(copy)
        if answers.each is None:
            self._pool.prepare_again(copy.address)
            self._queued.appendleft(copy.job)
            return
        self._times.append(time.monotonic() - copy.since)
        self._item_times.append(answers.seconds / len(copy.job.items))
        yield from self._results(copy.job, copy.address, answers.each)

    def _results(self, job: _Job[Item], address: str, each: Sequence[Answer]) -> Iterator[tuple[Item, Result]]:
        """Yield what was done of a job, and give the rest to another worker."""
        if len(job.items) == 1 and each[0].error is not None:
            self._retry(job, address, str(each[0].error), each[0].error)
            return
        self._overtake(job)
        for item, answer in zip(job.items, each, strict=True):
            if answer.error is None:
                yield item, answer.value
            else:
                self._retry(_Job((item,), list(job.failed)), address, str(answer.error), answer.error)

    def _answers_again(self, copy: _Copy[Item]) -> None:
        if (state := self._pool.state(copy.address)) is not None:
            state.is_silent = False

    def _overtake(self, job: _Job[Item]) -> None:
        """Note that a job is done, and wait for no other worker that has it."""
        job.is_done = True
        for copy in [copy for copy in self._copies if copy.job is job]:
            self._copies.discard(copy)
            self._overtaken.add(copy)
            if (state := self._pool.state(copy.address)) is not None:
                state.jobs -= 1

    def _retry(self, job: _Job[Item], address: str, reason: str, error: NapariSamError | None = None) -> None:
        """Give a job that failed to another worker, unless several have failed at it."""
        job.failed.append(address)
        is_last = error is not None and not self._pool.has_others(set(job.failed))
        if len(job.items) > 1 and not job.running:
            # One of the items may be what ends workers; the others are done all the same.
            job.is_done = True
            self._queued.extendleft(_Job((item,), list(job.failed)) for item in reversed(job.items))
        elif len(job.failed) < TRIES and not is_last:
            self._queued.appendleft(job)
        elif error is not None:
            raise type(error)(f"{reason.rstrip('.')} (on the worker {address}).")
        else:
            raise ClusterError(
                f"{len(job.failed)} workers ended or failed at the same piece of work, at last because "
                f"{reason.rstrip('.')}: give each worker more memory, and run the same command again."
            )

    def _drop(self, copy: _Copy[Item]) -> None:
        self._copies.discard(copy)
        copy.job.running.discard(copy.address)
        if (state := self._pool.state(copy.address)) is not None:
            state.jobs -= 1
        with suppress(Exception):  # The scheduler may have gone.
            copy.future.release()

    def _check_silence(self, heard: float) -> None:
        # A worker that is about to be ready may be downloading a model.
        if time.monotonic() - heard < self._patience * (DOWNLOADS if self._pool.is_preparing else 1):
            return
        if self._pool.is_empty:
            raise ClusterError(
                f"There has been no worker for {self._patience:.0f} seconds: start workers, and run the same command "
                "again. What is done is kept."
            )
        raise ClusterError(
            f"No worker has answered for {self._patience:.0f} seconds: look at them, and run the same command again. "
            "What is done is kept."
        )

    def _check_scheduler(self) -> None:
        if self._client.status != "running":
            raise self._lost()

    def _lost(self) -> ClusterError:
        return ClusterError(
            "The scheduler has gone away: start it, and run the same command again. What is done is kept."
        )

    def _cancel(self) -> None:
        """Take back what no worker has begun."""
        futures: list[Any] = [copy.future for copy in (*self._copies, *self._overtaken)]
        self._copies.clear()
        self._overtaken.clear()
        with suppress(Exception):  # The connection may be closed by now.
            self._pool.forget()
            if futures and self._client.status == "running":
                self._client.cancel(futures)
