"""The command in processes that are forked from one where everything is imported, so that they start at once.

Such a process counts its changes to files: files opened for writing or locking, folders made, anything renamed or
removed, and the transactions of journals. It can be killed at any of them, so the moment does not depend on how fast
the machine is.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOADED = [
    *("torch", "zarr", "tifffile", "safetensors.torch", "skimage.data", "napari_sam.cli", "napari_sam.models"),
    *("napari_sam.models.compact", "napari_sam.segmenter", "napari_sam.tasks.replay", "napari_sam.training.train"),
    *(
        "napari_sam.evaluation.protocol",
        "napari_sam.tasks.everything",
        "napari_sam.tasks.find",
        "napari_sam.tasks.batch",
        "matplotlib.figure",
        "tests.text_model",
    ),
]
CHANGES = (
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "os.truncate", "fcntl.flock"),
    *("sqlite3.connect", "journal.begins", "journal.commits", "journal.committed"),
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Running:
    """A command that is running.

    Parameters
    ----------
    process
        Its process.
    reached
        Gets a message when the wanted number of changes is reached, or is closed when the command ends before.
    log
        Gets what the command prints.
    changes
        Gets the number of changes when the command ends by itself.
    """

    process: BaseProcess
    reached: Connection
    log: Path
    changes: Path

    def end(self) -> int:
        """Wait until it has ended, and return its exit status: negative where a signal ended it."""
        self.process.join()
        self.reached.close()
        assert self.process.exitcode is not None
        return self.process.exitcode


def start(
    folder: Path, arguments: Sequence[str], log: Path, *, stop_at: int | None = None, dies: bool = False
) -> Running:
    """Start a command in a folder.

    Parameters
    ----------
    folder
        Its working directory.
    arguments
        Of the command line.
    log
        File for what it prints.
    stop_at
        The number of a change to a file.
    dies
        Whether it kills itself right before that change; else it tells of it by `Running.reached` and goes on.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    here, there = context.Pipe(duplex=False)
    changes = log.with_suffix(".changes")
    process = context.Process(target=_run, args=(folder, tuple(arguments), log, changes, there, stop_at, dies))
    process.start()
    there.close()
    return Running(process, here, log, changes)


def kill_when_reached(running: Running, seconds: float) -> int:
    """Kill a command a little after it has made the wanted number of changes; return its exit status."""
    wait([running.reached, running.process.sentinel])
    running.process.join(seconds)
    running.process.kill()
    return running.end()


def count_transactions() -> None:
    """Let the transactions of journals be counted: when one begins, before it is committed, and afterwards."""
    from napari_sam.journal.storage.database import Database

    transaction = Database.transaction

    @contextlib.contextmanager
    def counted(database: Database, **options: bool) -> Iterator[Any]:
        sys.audit("journal.begins")
        with transaction(database, **options) as connection:
            yield connection
            sys.audit("journal.commits")
        sys.audit("journal.committed")

    Database.transaction = counted


def _run(
    folder: Path,
    arguments: Sequence[str],
    log: Path,
    changes: Path,
    there: Connection,
    stop_at: int | None,
    dies: bool,
) -> None:
    os.chdir(folder)
    os.environ |= {"OMP_NUM_THREADS": "1", "NAPARI_SAM_CACHE": str(folder.parent / "cache")}
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    torch.set_num_threads(1)
    sys.argv = ["napari-sam", *arguments]
    from napari_sam.cli import app as cli
    from napari_sam.cli import models as cli_models
    from tests.text_model import DiscFinder

    # A fake model takes no time, and no model that takes text is small enough. `demo` and `train` have a real one.
    cli_models.load = lambda *_, **__: DiscFinder()
    counter = itertools.count(1)
    last = 0

    def count(event: str, given: tuple[Any, ...]) -> None:
        nonlocal last
        if event in CHANGES or (event == "open" and isinstance(given[2], int) and given[2] & WRITES):
            last = next(counter)
            if last == stop_at and dies:
                os.kill(os.getpid(), signal.SIGKILL)
            elif last == stop_at:
                there.send(last)

    count_transactions()
    sys.addaudithook(count)
    try:
        cli.main()
    finally:
        changes.write_text(str(last))
