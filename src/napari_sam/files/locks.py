"""Locks between processes and threads, which end with the process that holds them.

They are locks of the operating system (`flock`, on Windows a locked byte) on a file or folder, so nothing needs to be
cleaned up after a crash. A forked child does not share the locks of its parent.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    # A byte that no content reaches: locked bytes cannot be read by others.
    _BYTE = 2**30

    def _lock(handle: int, *, shared: bool) -> None:
        os.lseek(handle, _BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

    def _unlock(handle: int) -> None:
        os.lseek(handle, _BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(handle: int, *, shared: bool) -> None:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)


FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.02

_held: set[int] = set()


class Lock:
    """A lock that this process holds.

    Parameters
    ----------
    handle
        Descriptor of the locked file or folder.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._process = os.getpid()
        _held.add(handle)

    def is_on(self, path: Path) -> bool:
        """Return whether a path still names the locked file: its last holder may have removed or replaced it."""
        try:
            return os.path.samestat(os.fstat(self._handle), path.stat())
        except OSError:
            return False

    @property
    def is_ours(self) -> bool:
        """Whether this process took the lock, and did not inherit it by a fork."""
        return self._process == os.getpid()

    def release(self) -> None:
        """Release the lock; a child that inherited it leaves it to its parent."""
        if not self.is_ours or self._handle not in _held:
            return
        _held.discard(self._handle)
        with contextlib.suppress(OSError):
            _unlock(self._handle)  # Closing is not enough while a forked child has the file open.
        os.close(self._handle)


def try_lock(path: Path, *, shared: bool = False, create: bool = False) -> Lock | None:
    """Lock a file, or on POSIX a folder, without waiting.

    Parameters
    ----------
    path
        File or folder to lock. A link, a pipe or a device is refused.
    shared
        Whether others may hold a shared lock at the same time; on Windows a lock is always exclusive.
    create
        Whether to create an empty file if there is none.

    Returns
    -------
    Lock or None
        None where another process, or another lock of this one, holds it.

    Raises
    ------
    OSError
        It cannot be opened, or its file system has no locks.
    """
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    if not create and os.name == "posix" and path.is_dir():
        flags = os.O_RDONLY
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags, 0o666)
    try:
        if not (stat.S_ISREG(mode := os.fstat(handle).st_mode) or stat.S_ISDIR(mode)):
            raise OSError(f"{path} is neither a file nor a folder")
        _lock(handle, shared=shared)
        return Lock(handle)
    except (BlockingIOError, PermissionError):
        os.close(handle)
        return None
    except OSError:
        os.close(handle)
        raise


class SharedPlace:
    """Exclusive access to a file or folder, for one thread of one process at a time.

    Use the context manager `exclusive`; a thread that has access may enter it again.

    Parameters
    ----------
    path
        The file or folder to lock: the data itself, so that no lock file is left behind.
    """

    _places: dict[tuple[str, int], SharedPlace] = {}  # noqa: RUF012  One object for each place, for all users.
    _guard = threading.Lock()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.RLock()
        self._depth = 0
        self._lock: Lock | None = None

    @classmethod
    def of(cls, path: Path) -> SharedPlace:
        """Return the object of a path in this process."""
        key = os.path.realpath(path), os.getpid()
        with cls._guard:
            return cls._places.setdefault(key, cls(Path(key[0])))

    @contextlib.contextmanager
    def exclusive(self, seconds: float) -> Iterator[None]:
        """Wait for access, and hold it.

        On a file system without locks, threads of this process still wait for each other.

        Parameters
        ----------
        seconds
            Longest time to wait.

        Raises
        ------
        TimeoutError
            Another program or thread held it for that time.
        """
        if not self._threads.acquire(timeout=seconds):
            raise TimeoutError
        try:
            if self._depth == 0:
                self._lock = _wait(self.path, seconds)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0 and self._lock is not None:
                    self._lock.release()
                    self._lock = None
        finally:
            self._threads.release()


def _wait(path: Path, seconds: float) -> Lock | None:
    """Return a lock on a path, or None if it cannot be locked."""
    end, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            lock = try_lock(path)
        except OSError:
            return None
        if lock is not None and lock.is_on(path):
            return lock
        if lock is not None:
            lock.release()  # The folder was replaced meanwhile.
        elif time.monotonic() > end:
            raise TimeoutError
        else:
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


def _forget_inherited() -> None:
    # Open in a child, they would hold the locks of its parent beyond the parent's end.
    for handle in _held:
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()
    SharedPlace._guard = threading.Lock()
    SharedPlace._places.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
