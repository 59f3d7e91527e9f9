"""Cluster: the connection to the scheduler of a dask.distributed cluster."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.arguments import shown
from napari_sam.distributed.cluster_runner import MOST_ITEMS, ClusterRunner
from napari_sam.distributed.job import Item, Plan, Result
from napari_sam.distributed.worker import version_here
from napari_sam.errors import ClusterError, first_line
from napari_sam.files.libraries import library

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10.0
# Seconds without an answer after which a worker is not waited for, if most jobs take less than a twentieth of it.
PATIENCE = 300.0
SCHEMES = ("tcp://", "tls://", "ws://", "wss://", "inproc://", "ucx://", "ucxx://")
# They report each lost connection, which is told in one sentence here.
LOGGERS = ("distributed.client", "distributed.core", "distributed.batched", "distributed.comm")


class Cluster:
    """A dask.distributed cluster.

    Parameters
    ----------
    scheduler
        Address of the scheduler (tcp://HOST:PORT, or tls:// with the certificates of dask's configuration), the .json
        file that it was started with, or a `distributed.Client`.
    patience
        Seconds without an answer after which a worker is not waited for any more.
    warn
        Called with a sentence about workers that are not used; by default it becomes a Python warning.

    Attributes
    ----------
    client
        The connection.
    warn
        As given.

    Raises
    ------
    ClusterError
        dask.distributed is not installed, or there is no scheduler.
    """

    def __init__(
        self, scheduler: str | Path | Client, *, patience: float = PATIENCE, warn: Callable[[str], None] | None = None
    ) -> None:
        distributed: Any = library("distributed", "distributed", "A scheduler", ClusterError)
        self.warn = warn or _warn
        self._patience = patience
        given: Any = scheduler
        self._is_own = not isinstance(given, distributed.Client)
        self.client: Client = _connected(distributed, given) if self._is_own else given

    @classmethod
    def of(cls, scheduler: Cluster | str | Path | Client) -> Cluster:
        """Return a cluster as it is, or that of a scheduler."""
        return scheduler if isinstance(scheduler, Cluster) else cls(scheduler)

    @property
    def is_there(self) -> bool:
        """Whether the scheduler answered when it was last heard of."""
        return bool(self.client.status == "running")

    def runner(
        self, plan: Plan[Item, Result], *, patience: float | None = None, most: int = MOST_ITEMS
    ) -> ClusterRunner[Item, Result]:
        """Return what does the jobs of a plan on the workers.

        Parameters
        ----------
        plan
            What all jobs share.
        patience
            Seconds without an answer after which a worker is not waited for any more; those of the cluster by default.
        most
            Largest number of items that a worker is given at once; 1 for large ones.

        Raises
        ------
        ClusterError
            The plan holds something that cannot be sent, such as a model that a script has made.
        """
        try:
            packed = pickle.dumps(plan)
        except Exception as error:  # Pickling runs code of whatever the model is.
            raise ClusterError(
                f"The model cannot be sent to workers ({first_line(error)}): use one by its name or its file."
            ) from error
        name = blake2b(packed, digest_size=16).digest()
        prepared = name, packed, version_here()
        return ClusterRunner(self.client, *prepared, patience=patience or self._patience, most=most, warn=self.warn)

    def close(self) -> None:
        """Close the connection, unless it was given."""
        if self._is_own:
            self.client.close(timeout=CONNECT_SECONDS)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=2)


def _connected(distributed: Any, scheduler: Any) -> Client:
    where = str(scheduler) if isinstance(scheduler, (str, Path)) else ""
    is_file = where.endswith(".json")
    if not is_file and not where.startswith(SCHEMES):
        raise ClusterError(
            f"The scheduler cannot be {shown(scheduler)}: give its address, as in tcp://HOST:8786, or its .json file."
        )
    if is_file and not Path(where).is_file():
        raise ClusterError(f"There is no scheduler file {where}: start the scheduler with --scheduler-file.")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    given = {"scheduler_file": where} if is_file else {"address": where}
    # One that cannot connect is closed here: left to the garbage collector, it may be closed while another one starts,
    # and both would wait for the same lock for ever.
    client: Client = distributed.Client.__new__(distributed.Client)
    try:
        client.__init__(  # type: ignore[misc]
            **given, timeout=CONNECT_SECONDS, set_as_default=False, name="napari-sam", heartbeat_interval="2s"
        )
    except (OSError, TimeoutError, ValueError, RuntimeError, TypeError) as error:
        with suppress(Exception):  # It may have failed before there was anything to close.
            client.close(timeout=CONNECT_SECONDS)
        is_tls = where.startswith("tls://")
        if is_tls and isinstance(error, TypeError):
            raise ClusterError(
                f"The scheduler at {where} asks for a certificate: name that of this computer in dask's configuration."
            ) from error
        advice = "start one with dask scheduler, or correct the address"
        if is_tls:
            advice = f"{advice}, or the certificate of this computer"
        raise ClusterError(f"There is no scheduler at {where} ({first_line(error)}): {advice}.") from error
    return client
