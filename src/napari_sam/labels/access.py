"""Access to labels that several programs, threads or stores write into: one at a time, each knowing of the others.

Labels on a local disk are locked as they are, by a lock on their folder or file, so nothing is left beside them. Zarr
arrays in one group share one lock.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_sam.errors import LabelsError
from napari_sam.files.locks import SharedPlace

# A write takes milliseconds; who holds labels for longer has stopped.
WAIT_SECONDS = 60.0
# Of the coarsest times that file systems keep.
COARSE_TIME = 2 * 10**9
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")


class Access(Protocol):
    """How the writers of the same labels take turns."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep all others out; raises LabelsError where they do not end."""
        ...

    def stamp(self) -> object:
        """Return what differs after any write; to be compared, and called with exclusive access."""
        ...

    def written(self) -> object:
        """Note a write, and return the stamp since."""
        ...


def access_of(array: Any) -> Access:
    """Return how to write into labels: a `LabelPyramid`, a zarr array, a numpy array, or any other."""
    own = getattr(array, "access", None)
    if own is not None:
        found: Access = own
        return found
    path = path_of(array)
    if path is not None:
        return _DiskAccess(path)
    return _MemoryAccess.of(array) if isinstance(array, np.ndarray) else _NoAccess()


def path_of(array: Any) -> Path | None:
    """Return the folder or file of an array that is on this machine's disk, or None."""
    if isinstance(array, np.memmap):
        return None if array.filename is None else Path(array.filename)
    root = getattr(getattr(array, "store", None), "root", None)
    return Path(root) / str(getattr(array, "path", "")) if isinstance(root, (str, Path)) else None


@contextlib.contextmanager
def exclusive_on_disk(path: Path) -> Iterator[None]:
    """Keep all others out of labels on disk.

    Parameters
    ----------
    path
        Their file or folder; of a zarr array or group, the outermost group that it is in is locked.

    Raises
    ------
    LabelsError
        Another program had them locked for a minute.
    """
    try:
        with SharedPlace.of(_outermost(path)).exclusive(WAIT_SECONDS):
            yield
    except TimeoutError as error:
        raise _busy(str(path)) from error


class _DiskAccess:
    """Labels in one array on disk; the time of a file that no write of labels changes tells of writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamped = next((file for name in ZARR_FILES if (file := path / name).exists()), path)

    def exclusive(self) -> AbstractContextManager[None]:
        return exclusive_on_disk(self._path)

    def stamp(self) -> object:
        with contextlib.suppress(OSError):
            return self._stamped.stat().st_mtime_ns
        return object()

    def written(self) -> object:
        before = self.stamp()
        if isinstance(before, int):
            with contextlib.suppress(OSError):
                for moment in (max(time.time_ns(), before + 1), before + COARSE_TIME):
                    os.utime(self._stamped, ns=(moment, moment))
                    if (now := self.stamp()) != before:
                        return now
        return object()


class _MemoryAccess:
    """Labels in memory, which several stores and threads may share."""

    _known: dict[int, _MemoryAccess] = {}  # noqa: RUF012  One for each array, for all users.

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._writes = 0

    @classmethod
    def of(cls, array: np.ndarray[Any, Any]) -> _MemoryAccess:
        while isinstance(array.base, np.ndarray):
            array = array.base
        key = id(array)
        found = cls._known.get(key)
        if found is None:
            weakref.finalize(array, cls._known.pop, key, None).atexit = False
            found = cls._known.setdefault(key, cls())
        return found

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            raise _busy("in memory")
        try:
            yield
        finally:
            self._lock.release()

    def stamp(self) -> object:
        return self._writes

    def written(self) -> object:
        self._writes += 1
        return self._writes


class _NoAccess:
    """Labels elsewhere, for which there are no locks."""

    def exclusive(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def stamp(self) -> object:
        return None

    def written(self) -> object:
        return None


def _outermost(path: Path) -> Path:
    """Return the outermost zarr group that a zarr array or group is in, or the path itself."""
    found = path = path.absolute()
    for parent in path.parents:
        if not any((parent / name).is_file() for name in ZARR_FILES):
            break
        found = parent
    return found


def _busy(where: str) -> LabelsError:
    return LabelsError(
        f"The labels {where} have been locked by another program for {WAIT_SECONDS:.0f} seconds: close it there, then "
        "try again."
    )


if hasattr(os, "register_at_fork"):
    # Another thread of the parent may have held them.
    os.register_at_fork(after_in_child=_MemoryAccess._known.clear)
