"""Claims: one process says to the others that it has a piece of work in hand.

A claim is a lock of the operating system on an empty file: when its process ends, however it ends, the lock is gone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: IO[bytes]) -> None:
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: IO[bytes]) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def claim(file: Path) -> Iterator[bool]:
    """Claim what a file stands for; gives False where another process, or another claim of this one, has it.

    Where no file can be made or locked, everybody gets True: at worst something is done twice.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = file.open("ab")
    except OSError:
        yield True
        return
    with handle:
        mine = _is_mine(handle, file)
        try:
            yield mine
        finally:
            if mine:
                _remove(file)


def forget_ended(folder: Path) -> None:
    """Delete the claims of processes that are gone, and their folder where none is left."""
    with contextlib.suppress(OSError):
        for file in list(folder.iterdir()):
            with file.open("ab") as handle:
                if _is_mine(handle, file):
                    _remove(file)
        folder.rmdir()


def _is_mine(handle: IO[bytes], file: Path) -> bool:
    try:
        _lock(handle)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True  # This file system knows no locks.
    try:
        # Whoever had the lock before may have deleted the file, and another process made a new one and locked that.
        return os.path.samestat(os.fstat(handle.fileno()), file.stat())
    except OSError:
        return False


def _remove(file: Path) -> None:
    # While it is locked, so that nobody locks a file that is about to go; Windows refuses, and `forget_ended` is left.
    with contextlib.suppress(OSError):
        file.unlink()
