"""Plans for tests of clusters, whose jobs need neither an image nor a model, and whose workers come to grief."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from napari_sam.errors import ImageError, ModelError


@dataclass(frozen=True)
class Squares:
    """Squares numbers, and notes in a folder who did which.

    Parameters
    ----------
    notes
        The folder, with a file for each job that was begun.
    """

    notes: Path

    def open(self) -> Squares:
        return self

    def do(self, item: int, *, again: bool = False) -> int:
        (self.notes / f"{item}-{os.getpid()}-{time.monotonic_ns()}").touch()
        self.befall(item)
        return item * item

    def befall(self, item: int) -> None:
        """Let nothing happen."""

    def is_first(self, what: str) -> bool:
        """Return whether something happens for the first time, in any process."""
        try:
            (self.notes / what).open("x").close()
        except FileExistsError:
            return False
        return True


@dataclass(frozen=True)
class Killed(Squares):
    """Kills the process that does a job, the first times.

    Parameters
    ----------
    at
        The job.
    times
        How many times.
    """

    at: int = 3
    times: int = 1

    def befall(self, item: int) -> None:
        if item == self.at and any(self.is_first(f"kill{time}") for time in range(self.times)):
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Stopped(Squares):
    """Stops the process that does a job, the first time: it says nothing any more."""

    at: int = 3

    def befall(self, item: int) -> None:
        if item == self.at and self.is_first("stop"):
            (self.notes / "stopped").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)


@dataclass(frozen=True)
class Waiting(Squares):
    """Does a job once a file is there."""

    def befall(self, item: int) -> None:
        if item > 3:
            while not (self.notes / "go").exists():
                time.sleep(0.01)


@dataclass(frozen=True)
class Failing(Squares):
    """Cannot do one of the jobs, anywhere, or only the first time.

    Parameters
    ----------
    once
        Whether it works when it is tried again.
    """

    once: bool = False

    def befall(self, item: int) -> None:
        if item == 3 and (not self.once or self.is_first("failed")):
            raise ImageError("The tile is damaged: copy the image again.")


@dataclass(frozen=True)
class Unfit(Squares):
    """Can be opened by the first process that tries, or by none.

    Parameters
    ----------
    anywhere
        Whether one process can open it.
    """

    anywhere: bool = True

    def open(self) -> Squares:
        if self.anywhere and self.is_first("opened"):
            (self.notes / "fit").write_text(str(os.getpid()))
            return self
        raise ModelError("There is no model here: download it.")


@dataclass(frozen=True)
class FailingThenKilled(Squares):
    """Fails at one job and kills its process at another, each once.

    Parameters
    ----------
    fails, kills
        The jobs.
    """

    fails: int = 0
    kills: int = 0

    def befall(self, item: int) -> None:
        if item == self.fails and self.is_first("failed"):
            raise ImageError("The tile is damaged: copy the image again.")
        if item == self.kills and self.is_first("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
