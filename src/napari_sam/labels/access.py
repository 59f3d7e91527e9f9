"""Access: one writer of labels at a time, among programs and threads, and notice of what others have written.

Labels on a local disk are locked by a lock on their folder or file itself, so no lock file is left behind. Zarr arrays
in one group share one lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from napari_sam.errors import LabelsError
from napari_sam.files.locks import SharedPlace

# A write takes milliseconds: a lock that is held for longer belongs to a program that hangs.
WAIT_SECONDS = 60.0
# Nanoseconds: the coarsest resolution of times in common file systems.
COARSE_TIME = 2 * 10**9
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")
# Our own attributes of a store.
NAMESPACE = "napari-sam"


class Access(Protocol):
    """Exclusive access to labels, and a stamp that changes with every write."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other writers out; raises LabelsError where that takes longer than `WAIT_SECONDS`."""
        ...

    def stamp(self) -> object:
        """Return a value that changes with every write; compare it with exclusive access only."""
        ...

    def written(self) -> object:
        """Mark a write, and return the new stamp."""
        ...


def access_of(array: Any) -> Access:
    """Return the access to a `LabelPyramid`, zarr array, numpy array or any other array of labels."""
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


class WriterNotes:
    """Notes in the attributes of a store, by which its writers, also in other programs, know of each other.

    Parameters
    ----------
    path
        The folder.
    node
        The zarr group or array whose attributes hold the notes.

    Attributes
    ----------
    noted
        The notes: "highest_label", and "unfinished" or "replaced" while labels are written or widened.
    raw
        The file that holds the attributes, as it was read last; it differs after every write of labels.
    """

    def __init__(self, path: Path, node: Any) -> None:
        self._path, self._node = path, node
        self.raw: bytes | None = None
        noted = node.attrs.asdict().get(NAMESPACE)
        self.noted: dict[str, Any] = noted if isinstance(noted, dict) else {}

    def read(self) -> Literal["all", "notes"] | None:
        """Read what another writer has noted since; return what changed: the notes, other attributes too, or None."""
        before, self.raw = self.raw, self._read()
        if before is None or self.raw == before:
            return None
        notes = _changed_notes(before, self.raw)
        if notes is None:
            return "all"
        self._node.metadata.attributes[NAMESPACE] = self.noted = notes
        return "notes"

    def write(self, highest: int | None, unfinished: Sequence[slice] | None = None) -> None:
        """Note the highest label, and the region of an unfinished write.

        Raises
        ------
        OSError
            The disk refuses.
        """
        notes: dict[str, Any] = {} if highest is None else {"highest_label": highest}
        if unfinished is not None:
            notes["unfinished"] = [[at.start, at.stop] for at in unfinished]
        if notes != self.noted:
            self._set(notes, {})

    def update(self, notes: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        """Add notes, and set other attributes, in one write.

        Raises
        ------
        OSError
            The disk refuses.
        """
        self._set({**self.noted, **notes}, attributes)

    def _set(self, notes: dict[str, Any], attributes: Mapping[str, Any]) -> None:
        self._node.update_attributes({**attributes, NAMESPACE: notes})
        self.noted, self.raw = notes, self._read()

    def _read(self) -> bytes:
        name = ".zattrs" if self._node.metadata.zarr_format == 2 else "zarr.json"
        try:
            return (self._path / name).read_bytes()
        except OSError:
            return b""


def _changed_notes(before: bytes, now: bytes) -> dict[str, Any] | None:
    """Return the notes in the metadata of a store, or None where anything else in these has changed."""
    try:
        old, new = json.loads(before), json.loads(now)
        notes = [(data.get("attributes", data) if isinstance(data, dict) else {}).pop(NAMESPACE) for data in (old, new)]
    except (ValueError, LookupError):
        return None
    return notes[1] if old == new and isinstance(notes[1], dict) else None


class _DiskAccess:
    """One array on disk. The stamp is the time of a metadata file, which a write of labels leaves alone otherwise."""

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
    """An array in memory, which several `LabelArray`s and threads may share."""

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
    """An array elsewhere, for which there are no locks."""

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
