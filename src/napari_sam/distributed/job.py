"""Plan, Work and Runner: what all jobs of a run share, what does them, and where they are done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
ItemIn = TypeVar("ItemIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)


class Work(Protocol[ItemIn, ResultOut]):
    """Does the jobs of a run, one after the other. A job is an item, such as a tile."""

    def do(self, item: ItemIn, *, again: bool = False) -> ResultOut:
        """Do one job; doing it twice, even at once in two places, has the same result.

        Parameters
        ----------
        item
            The job.
        again
            Whether a process that does not answer may still hold the lock on the job. Locks are ignored then.
        """
        ...


class Plan(Protocol[ItemIn, ResultOut]):
    """All that the jobs of a run share, as plain data that can be sent to another machine."""

    def open(self) -> Work[ItemIn, ResultOut]:
        """Open image, model and stores on this machine.

        Raises
        ------
        NapariSamError
            This machine cannot open one of them.
        """
        ...


class Runner(Protocol[Item, ResultOut]):
    """Does jobs somewhere."""

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, ResultOut]]:
        """Do jobs, and yield each with its result once it is done; close the iterator to stop.

        Items are taken from the iterable as there is room for them, so that it can be of any length.
        """
        ...


class LocalRunner(Generic[Item, Result]):
    """Does jobs in this process, in their order.

    Parameters
    ----------
    work
        Does the jobs.
    """

    def __init__(self, work: Work[Item, Result]) -> None:
        self._work = work

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
        """Do jobs one after the other."""
        for item in items:
            yield item, self._work.do(item)
