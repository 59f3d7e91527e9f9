"""WorkerPool: the workers of a cluster that can do the jobs of a plan, and how busy each is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_sam.distributed.worker import prepare
from napari_sam.errors import ClusterError, first_line

if TYPE_CHECKING:
    from distributed import Client, Future

LOOK_SECONDS = 1.0
SCHEDULER_SECONDS = 30.0
# Jobs that a worker has: the one that it does, and those that it goes on with while the next ones are on their way.
JOBS_OF_A_WORKER = 3
GPU = "GPU"
GONE = ("closing", "closed", "failed")


@dataclass(slots=True)
class WorkerState:
    """A worker that has the plan.

    Parameters
    ----------
    address
        Its address.
    has_gpu
        Whether it was started with the resource GPU.
    jobs
        Number of jobs that it has.
    is_silent
        Whether it has not answered for too long.
    """

    address: str
    has_gpu: bool
    jobs: int = 0
    is_silent: bool = False


@dataclass
class WorkerPool:
    """The workers of a cluster, which come and go.

    Parameters
    ----------
    client
        Connection to the scheduler.
    name, packed, version
        The plan, see `prepare`.
    changed
        Called, in any thread, when a worker has become ready.
    warn
        Called with a sentence about a worker that cannot be used.
    """

    client: Client
    name: bytes
    packed: bytes
    version: str
    changed: Callable[[], None]
    warn: Callable[[str], None]
    refused: dict[str, str] = field(default_factory=dict)
    _ready: dict[str, WorkerState] = field(default_factory=dict)
    _preparing: dict[str, Future[str | None]] = field(default_factory=dict)
    _resources: dict[str, bool] = field(default_factory=dict)
    _looked: float = float("-inf")

    def look(self) -> set[str]:
        """Look for workers that have come or gone, at most once a second; return those that have gone.

        Raises
        ------
        OSError, TimeoutError
            The scheduler does not answer.
        """
        self._take_ready()
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return set()
        assert self.client.scheduler is not None
        identity = self.client.sync(self.client.scheduler.identity, n_workers=-1, callback_timeout=SCHEDULER_SECONDS)
        self._looked = time.monotonic()
        there = {
            address: bool(about.get("resources", {}).get(GPU))
            for address, about in identity["workers"].items()
            if about.get("status") not in GONE
        }
        gone = (set(self._ready) | set(self._preparing) | set(self.refused)) - set(there)
        for address in gone:
            self._ready.pop(address, None)
            self.refused.pop(address, None)
            if (future := self._preparing.pop(address, None)) is not None:
                future.cancel()
        for address in set(there) - set(self._ready) - set(self._preparing) - set(self.refused):
            self._prepare(address)
        self._resources = there
        return gone

    def free(self, but: set[str]) -> WorkerState | None:
        """Return the worker with the fewest jobs that can take one more; one with a GPU where there is any."""
        known = [state for state in self._ready.values() if not state.is_silent]
        if any(state.has_gpu for state in known):
            known = [state for state in known if state.has_gpu]
        able = [state for state in known if state.jobs < JOBS_OF_A_WORKER and state.address not in but]
        return min(able, key=lambda state: state.jobs, default=None)

    def state(self, address: str) -> WorkerState | None:
        """Return a worker that is ready, or None."""
        return self._ready.get(address)

    def prepare_again(self, address: str) -> None:
        """Open the plan once more on a worker that has closed it."""
        if self._ready.pop(address, None) is not None:
            self._prepare(address)

    def refuse(self, address: str, reason: str) -> None:
        """Use a worker no more.

        Raises
        ------
        ClusterError
            It was the last one.
        """
        self._ready.pop(address, None)
        self.refused[address] = reason
        if not self._ready and not self._preparing:
            raise ClusterError(f"No worker can do the work. {reason.rstrip('.')} (on the worker {address}).")
        self.warn(f"The worker {address} is left out. {reason}")

    @property
    def count(self) -> int:
        """Number of workers that are ready and answer."""
        return sum(not state.is_silent for state in self._ready.values())

    @property
    def is_empty(self) -> bool:
        """Whether no worker is ready or about to be."""
        return not self._ready and not self._preparing

    @property
    def is_preparing(self) -> bool:
        """Whether there are workers that are about to be ready."""
        return bool(self._preparing)

    def has_others(self, but: set[str]) -> bool:
        """Return whether there are more workers that answer."""
        return any(not state.is_silent and state.address not in but for state in self._ready.values())

    def forget(self) -> None:
        """Do not wait for workers that are about to be ready."""
        for future in self._preparing.values():
            future.cancel()
        self._preparing.clear()
        self._looked = float("-inf")

    def _prepare(self, address: str) -> None:
        future = self.client.submit(
            prepare, self.name, self.packed, self.version, workers=[address], pure=False, priority=1
        )
        self._preparing[address] = future
        future.add_done_callback(lambda _: self.changed())

    def _take_ready(self) -> None:
        for address, future in list(self._preparing.items()):
            if not future.done():
                continue
            del self._preparing[address]
            if future.cancelled():  # The scheduler has gone, or it says in a moment that the worker has.
                continue
            reason = _reason(future)
            if reason is None:
                self._ready[address] = WorkerState(address, self._resources.get(address, False))
            else:
                self.refuse(address, reason)


def _reason(future: Future[Any]) -> str | None:
    """Return why a plan could not be opened, or None."""
    try:
        reason: str | None = future.result(timeout=SCHEDULER_SECONDS)
    except ModuleNotFoundError as error:
        return f"It lacks a part of napari-sam ({first_line(error)}): install the same version everywhere."
    except Exception as error:  # Whatever a worker of another version, or one that is ending, raises.
        return f"It cannot take the work ({first_line(error)}): install the same versions everywhere."
    return reason
