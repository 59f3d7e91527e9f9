"""Process locks: mark a piece of work, such as a tile, or a journal as taken by this process.

Such a lock is on an empty file of its own and ends with the process, even if that is killed. The lock file of a killed
process is reused, or removed by `remove_stale_locks`. On file systems without locks, work has a claim in its place.
"""

from __future__ import annotations

import contextlib
import errno
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from napari_sam.files.claims import MAX_BYTES, expiring_claim, has_expired, honors_locks
from napari_sam.files.locks import Lock, try_lock

# What a file system without locks says.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


@contextlib.contextmanager
def process_lock(file: Path) -> Iterator[bool]:
    """Lock what a file stands for, such as a journal; yields False if another process, or this one, has locked it.

    If no file can be created or locked, all processes get True.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = try_lock(file, create=True)
    except OSError:
        yield True
        return
    with _held(file, lock) as is_mine:
        yield is_mine


@contextlib.contextmanager
def work_lock(file: Path) -> Iterator[bool]:
    """Lock a piece of work that may be done twice; yields False if another process, or this one, has locked it already.

    Where the file system has no locks, or they hold on one machine only, the file is a claim that expires. If no file
    can be created, all processes get True: at worst the work is done twice.
    """
    lock: Lock | None = None
    has_locks = honors_locks(file.parent)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if has_locks:
            lock = try_lock(file, create=True)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            yield True
            return
        has_locks = False
        _remove(file)  # Created, but not locked.
    with _held(file, lock) if has_locks else expiring_claim(file) as is_mine:
        yield is_mine


@contextlib.contextmanager
def _held(file: Path, lock: Lock | None) -> Iterator[bool]:
    """Hold a lock on a file, and remove both at the end; yields False without a lock."""
    if lock is None:
        yield False
        return
    # The last holder may have removed the file, and another process may have locked a new one.
    mine = lock.is_on(file)
    try:
        yield mine
    finally:
        if mine and lock.is_ours:
            _remove(file)
        lock.release()


def remove_stale_locks(folder: Path, names: re.Pattern[str]) -> None:
    """Delete the lock files of ended processes, and their folder if it is empty then.

    Parameters
    ----------
    folder
        Folder of the lock files.
    names
        Pattern of their names. Other files, and files with content that are no claims that have expired, stay.
    """
    with contextlib.suppress(OSError):
        for file in list(folder.iterdir()):
            if names.fullmatch(file.name) and _is_empty(file) and (lock := _try(file)) is not None:
                if lock.is_on(file):
                    _remove(file)
                lock.release()
            elif names.fullmatch(file.name) and _is_stale_claim(file):
                file.unlink()
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


def _is_stale_claim(file: Path) -> bool:
    with contextlib.suppress(OSError):
        if 0 < file.lstat().st_size < MAX_BYTES and file.is_file():
            return has_expired(file.read_bytes())
    return False


def _remove(file: Path) -> None:
    # Removed while it is locked, so that no process locks a file that is about to disappear. If Windows refuses,
    # `remove_stale_locks` removes it later.
    if _is_empty(file):
        with contextlib.suppress(OSError):
            file.unlink()
