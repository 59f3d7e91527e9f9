"""What runs in the processes of workers: plans are opened once, and jobs are done one at a time."""

from __future__ import annotations

import pickle
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from napari_sam.distributed.job import Work
from napari_sam.errors import ClusterError, NapariSamError, OutputError

# Of the planes of a volume each has a plan of its own, and only the last ones are worked on.
PLANS_KEPT = 8
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of an item of a job.

    Parameters
    ----------
    value
        The result.
    error
        Why there is none.
    """

    value: Any = None
    error: NapariSamError | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What a worker did of a job.

    Parameters
    ----------
    each
        The answers, one for each item; None where the worker has closed the plan since it was prepared.
    seconds
        How long it took.
    """

    each: tuple[Answer, ...] | None
    seconds: float = 0.0


class LastUsed(Generic[T]):
    """The objects that were used last, by name.

    Parameters
    ----------
    limit
        How many are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[bytes, T] = OrderedDict()

    def get(self, name: bytes) -> T | None:
        """Return the object of a name, or None."""
        if name in self._kept:
            self._kept.move_to_end(name)
        return self._kept.get(name)

    def put(self, name: bytes, value: T) -> T:
        """Keep an object, and forget those that were not used for longest."""
        self._kept[name] = value
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return value


# A process has one model, which one job uses at a time, however many threads the worker has.
_lock = threading.Lock()
_works: LastUsed[Work[Any, Any]] = LastUsed(PLANS_KEPT)


def version_here() -> str:
    """Return the version of napari-sam in this process."""
    # The package is above this module, so it is not imported here; Python has done so before.
    return str(sys.modules["napari_sam"].__version__)


def prepare(name: bytes, packed: bytes, version: str) -> str | None:
    """Open a plan on this worker.

    Parameters
    ----------
    name
        Name of the plan.
    packed
        The plan, pickled by `Cluster.runner`. Whoever may talk to a worker of dask may run anything on it in any case.
    version
        Version of napari-sam that made it.

    Returns
    -------
    str or None
        Why this worker cannot do the jobs of the plan, in one sentence.
    """
    if version != version_here():
        return f"It has napari-sam {version_here()} and needs {version}: install the same version everywhere."
    with _lock:
        if _works.get(name) is None:
            try:
                _works.put(name, pickle.loads(packed).open())  # noqa: S301  See above.
            except NapariSamError as error:
                return str(error)
    return None


def do_job(name: bytes, items: Sequence[Any], *, again: bool) -> Answers:
    """Do a job of a plan that was prepared: one item or several short ones, of which each succeeds or fails alone."""
    with _lock:
        work, start = _works.get(name), time.perf_counter()
        if work is None:
            return Answers(None)
        each = tuple(_answer(work, item, again=again) for item in items)
        return Answers(each, time.perf_counter() - start)


def _answer(work: Work[Any, Any], item: Any, *, again: bool) -> Answer:
    try:
        return Answer(work.do(item, again=again))
    except NapariSamError as error:
        return Answer(error=error)
    except MemoryError:
        return Answer(error=ClusterError("It has too little memory: give each worker more, or run fewer."))
    except OSError as error:
        return Answer(error=OutputError(f"{error}: correct that, and run it again."))
