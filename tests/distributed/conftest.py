"""A cluster of two worker processes, for all tests of a module that leave it as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

distributed = pytest.importorskip("distributed")

from napari_sam.distributed import remote_encoder  # noqa: E402
from napari_sam.distributed.cluster import Cluster  # noqa: E402
from napari_sam.distributed.worker import version_here  # noqa: E402
from napari_sam.testing import TIMEOUT  # noqa: E402


def local_cluster(workers: int = 2) -> distributed.LocalCluster:
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
        memory_limit=0,
    )


@pytest.fixture(scope="module")
def two_workers() -> Iterator[distributed.LocalCluster]:
    """A cluster of two workers."""
    with local_cluster() as cluster:
        yield cluster


@pytest.fixture
def scheduler(two_workers: distributed.LocalCluster) -> str:
    """Address of the scheduler of two workers that are there; of three, where one that was killed came back."""
    with distributed.Client(two_workers, set_as_default=False) as client:
        missing = 2 - len(client.scheduler_info()["workers"])
        if missing > 0:  # A nanny starts no worker again that was killed several times.
            two_workers.scale(len(two_workers.workers) + missing)
        client.wait_for_workers(2, timeout=TIMEOUT)
        client.run(version_here)  # They import napari-sam, which takes long on a busy machine.
    return two_workers.scheduler_address


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for workers on a busy machine, which import torch at their first tile."""
    monkeypatch.setattr(remote_encoder, "PATIENCE", TIMEOUT)


@pytest.fixture
def connect() -> Iterator[Callable[..., Cluster]]:
    """Connect to a scheduler until the test ends."""
    with ExitStack() as stack:
        yield lambda *given, **options: stack.enter_context(Cluster(*given, **options))
