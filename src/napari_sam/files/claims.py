"""Claims: mark work as taken where locks are not honored, by files or objects that expire.

A claim is made by creating a file that must not exist, which NFS and object stores do for one process only. Nobody can
see whether a process that holds a claim still runs, so claims expire; at worst work is done twice, with the same
result.
The clocks of the machines may differ by less than the time in which claims expire.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

VARIABLE = "NAPARI_SAM_CLAIMS"
# Longer than any model needs for a tile; so long others wait for the tile of a process that was killed.
CLAIM_SECONDS = 300.0
MAX_BYTES = 200
MOUNTS = Path("/proc/mounts")
# File systems, by the begin of their names, whose locks hold on one machine only, or with these options.
LOCAL_LOCKS = {
    "nfs": ("nolock", "local_lock=flock", "local_lock=all"),
    "lustre": ("localflock",),
    "cifs": ("nobrl",),
    "smb3": ("nobrl",),
    "beegfs": (),
    "fuse": (),
}


class _Place(Protocol):
    """Where a claim is."""

    def create(self, content: bytes) -> bool:
        """Create it; return whether there was none."""

    def read(self) -> bytes | None:
        """Return its content, or None if there is none."""

    def take(self, stale: bytes, content: bytes) -> bool:
        """Replace one that has expired; return whether it was still the same one."""

    def remove(self) -> None:
        """Delete it."""


class _File:
    """A claim in a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, content: bytes) -> bool:
        try:
            handle = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return True

    def read(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                return file.read(MAX_BYTES)
        except OSError:
            return None

    def take(self, stale: bytes, content: bytes) -> bool:
        # Of several that rename it, one succeeds. What it got may be the new claim of another that was quicker.
        taken = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            self._path.rename(taken)
            if taken.read_bytes() != stale:
                with contextlib.suppress(OSError):
                    taken.rename(self._path)
                return False
            taken.unlink()
        except OSError:
            return False
        return self.create(content)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()


class _Object:
    """A claim at a URL."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self._files, self._path = url_to_fs(url)

    def create(self, content: bytes) -> bool:
        try:
            self._files.pipe_file(self._path, content, mode="create")
        except FileExistsError:
            return False
        return True

    def read(self) -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return bytes(self._files.cat_file(self._path))
        return None

    def take(self, stale: bytes, content: bytes) -> bool:
        if self.read() != stale:
            return False
        self._files.pipe_file(self._path, content)
        return self.read() == content

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path)


@contextlib.contextmanager
def expiring_claim(where: Path | str, seconds: float = CLAIM_SECONDS) -> Iterator[bool]:
    """Claim the work that a file or an object stands for; yields False if another process has a claim on it.

    If nothing can be created there, all processes get True: at worst the work is done twice.

    Parameters
    ----------
    where
        The file, in a folder that exists, or a URL.
    seconds
        Age at which claims expire.
    """
    try:
        place: _Place = _File(where) if isinstance(where, Path) else _Object(where)
        content = f"napari-sam {secrets.token_hex(8)} {time.time():.3f}".encode()
        is_mine = place.create(content) or _took(place, content, seconds)
    except Exception:  # Whatever a library for object stores raises.
        yield True
        return
    try:
        yield is_mine
    finally:
        if is_mine:
            with contextlib.suppress(Exception):
                if place.read() == content:  # Not if it has expired and is of another process by now.
                    place.remove()


def has_expired(content: bytes, seconds: float = CLAIM_SECONDS) -> bool:
    """Return whether a claim of this content has expired; one that is not a claim has not."""
    begin, _, made = content.decode(errors="replace").rpartition(" ")
    try:
        return begin.startswith("napari-sam ") and time.time() - float(made) > seconds
    except ValueError:
        return False


def honors_locks(folder: Path) -> bool:
    """Return whether the file system of a folder is known to keep locks from the processes of other machines.

    NAPARI_SAM_CLAIMS=1 says that it does not, and NAPARI_SAM_CLAIMS=0 that it does.
    """
    said = os.environ.get(VARIABLE)
    if said:
        return said == "0"
    return sys.platform != "linux" or _honors_locks(os.path.realpath(folder))


@lru_cache(maxsize=64)
def _honors_locks(folder: str) -> bool:
    try:
        mounts = [line.split(" ") for line in MOUNTS.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return True
    parents = {folder, *map(str, Path(folder).parents)}
    around = [(len(point), kind, options) for _, point, kind, options, *_ in mounts if point in parents]
    if not around:
        return True
    _, kind, options = max(around, key=lambda mount: mount[0])
    for name, local in LOCAL_LOCKS.items():
        if kind.startswith(name):
            return bool(local) and not set(local) & set(options.split(","))
    return True


def _took(place: _Place, content: bytes, seconds: float) -> bool:
    """Take a claim that has expired."""
    found: Any = place.read()
    return found is not None and has_expired(found, seconds) and place.take(found, content)
