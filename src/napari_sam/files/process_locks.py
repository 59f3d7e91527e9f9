"""Claims: a process tells others that it works on something.

A claim is a lock on an empty file of its own: when its process ends, however it ends, the lock is gone. A claim file
that a killed process left is taken over, or removed by `remove_stale_locks`.
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from napari_sam.files.locks import Lock, try_lock


@contextlib.contextmanager
def process_lock(file: Path) -> Iterator[bool]:
    """Claim what a file stands for; gives False where another process, or another claim of this one, has it.

    Where no file can be made or locked, everybody gets True: at worst something is done twice.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = try_lock(file, create=True)
    except OSError:
        yield True
        return
    if lock is None:
        yield False
        return
    # Whoever had the lock before may have removed the file, and another process made a new one and locked that.
    mine = lock.is_on(file)
    try:
        yield mine
    finally:
        if mine and lock.is_ours:
            _remove(file)
        lock.release()


def remove_stale_locks(folder: Path, names: re.Pattern[str]) -> None:
    """Delete the claims of processes that are gone, and their folder where nothing else is in it.

    Parameters
    ----------
    folder
        Where claims are made.
    names
        What the name of a claim looks like; other files, and files that hold anything, are left alone.
    """
    with contextlib.suppress(OSError):
        for file in list(folder.iterdir()):
            if names.fullmatch(file.name) and _is_empty(file) and (lock := _try(file)) is not None:
                if lock.is_on(file):
                    _remove(file)
                lock.release()
        folder.rmdir()


def _try(file: Path) -> Lock | None:
    try:
        return try_lock(file)
    except OSError:
        return None


def _is_empty(file: Path) -> bool:
    try:
        found = file.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def _remove(file: Path) -> None:
    # While it is locked, so that no process locks a file that is about to go. Where Windows refuses,
    # `remove_stale_locks` removes it later.
    if _is_empty(file):
        with contextlib.suppress(OSError):
            file.unlink()
