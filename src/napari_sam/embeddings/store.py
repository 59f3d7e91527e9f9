"""EmbeddingStore: embeddings on disk, safe with several processes and if a process is killed."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.arguments import path_argument
from napari_sam.embeddings.zarr_layout import (
    ARRAY,
    CHUNK,
    CLAIM,
    CLAIMS,
    PARTIAL,
    ZarrLayout,
    predictor_of,
    reason,
)
from napari_sam.errors import OutputError
from napari_sam.files.claims import expiring_claim
from napari_sam.files.folders import cache_capacity, embedding_folder
from napari_sam.files.locks import try_lock
from napari_sam.files.paths import local_path
from napari_sam.files.process_locks import remove_stale_locks, work_lock

if TYPE_CHECKING:
    from napari_sam.core.predictor import Predictor

PARTIAL_SECONDS = 300.0
WAIT_SECONDS = 0.05
WRITE_TRIES, WRITE_PAUSE = 50, 0.001
# Share of the capacity that is written between two scans of the folder, which take long.
LOOK_SHARE = 0.05
KEEP_SHARE = 0.9


class EmbeddingStore:
    """Embeddings on disk, by the digest of the rendered tile, the weights and the precision.

    Parameters
    ----------
    path
        A folder, created at the first write, or a URL of any fsspec file system.
    capacity
        Largest size of a folder in bytes, above which the least recently used embeddings are deleted; by default no
        limit. It is checked occasionally, and may be exceeded by a twentieth until then.
    read_only
        Whether nothing is ever written: `put` does nothing.

    Raises
    ------
    OutputError
        The folder contains something else, or embeddings of another version, or cannot be reached.
    """

    def __init__(self, path: Path | str, *, capacity: int | None = None, read_only: bool = False) -> None:
        self.path = local_path(path) or str(path)
        self.capacity = capacity
        self.read_only = read_only
        # A random start, so that processes scan at different times, and some of many short ones scan at all.
        self._unseen = random.random() * LOOK_SHARE * (capacity or 0)
        self._arrays = ZarrLayout(self.path, read_only)
        self._arrays.check()

    @classmethod
    def default(cls) -> EmbeddingStore:
        """Return the store in the cache folder, with the configured capacity."""
        return cls(embedding_folder(), capacity=cache_capacity())

    def get(self, digest: str, predictor: str) -> NDArray[np.float16] | None:
        """Return the values of an embedding, shape (n,), or None if it is missing or damaged.

        Parameters
        ----------
        digest
            Of the tile: 40 hexadecimal digits, see `tile_digest`.
        predictor
            The predictor's own digest, any text.
        """
        for name in self._arrays.holding(digest, predictor):
            values = self._arrays.read(name, digest)
            if values is not None:
                if isinstance(self.path, Path) and not self.read_only:
                    with contextlib.suppress(OSError):
                        os.utime(self._arrays.file(name, digest))
                return values
        return None

    def has(self, digest: str, predictor: str) -> bool:
        """Return whether an embedding exists, without reading it."""
        return any(True for _ in self._arrays.holding(digest, predictor))

    def put(self, digest: str, predictor: str, values: NDArray[np.float16]) -> None:
        """Write an embedding, of any number of values. An existing one stays unchanged.

        Raises
        ------
        OutputError
            The disk is full, or the store cannot be written to; what is there is kept.
        """
        if self.read_only:
            return
        flat = np.asarray(values, np.float16).ravel()
        try:
            with _writing(self.path) if isinstance(self.path, Path) else contextlib.nullcontext():
                name = self._arrays.write(digest, predictor, flat)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"Embeddings cannot be written to {self.path} ({reason(error)}): make room, check its permissions, or "
                "choose another folder."
            ) from error
        except Exception as error:
            raise OutputError(
                f"The embeddings in {self.path} are damaged ({reason(error)}): clear them, or choose another folder."
            ) from error
        if self.capacity is not None and isinstance(self.path, Path):
            with contextlib.suppress(OSError):
                self._unseen += self._arrays.file(name, digest).stat().st_size
            if self._unseen >= self.capacity * LOOK_SHARE:
                self._unseen = 0
                self.evict()

    @contextlib.contextmanager
    def process_lock(self, digest: str) -> Iterator[bool]:
        """Lock a tile for encoding; yields False if another process has locked it.

        At a URL it is a claim that expires, beside the store.
        """
        if self.read_only:
            yield True
        elif isinstance(self.path, Path):
            with work_lock(self.path / CLAIMS / digest) as mine:
                yield mine
        else:
            # Not inside: zarr warns of what is no part of a group.
            with expiring_claim(f"{self.path.rstrip('/')}.{CLAIMS}/{digest}") as mine:
                yield mine

    def has_lock(self, digest: str) -> bool:
        """Return whether this machine sees the lock of a tile; of a URL, where there are none, always True."""
        return not isinstance(self.path, Path) or (self.path / CLAIMS / digest).exists()

    def wait_for_others(self) -> None:
        """Wait a moment for another process to finish its tile."""
        time.sleep(WAIT_SECONDS)

    @property
    def nbytes(self) -> int:
        """Bytes of all embeddings on disk."""
        return sum(size for _, size, _ in self._entries())

    @property
    def count(self) -> int:
        """Number of embeddings."""
        return sum(1 for _ in self._entries())

    def by_predictor(self) -> dict[str, tuple[int, int]]:
        """Return the number of embeddings and their bytes for each model, by the first digits of its digest."""
        found: dict[str, tuple[int, int]] = {}
        for folder in self._array_folders():
            sizes = [size for _, size, _ in _chunks_in(folder)]
            if sizes:
                name = predictor_of(folder)[:12]
                count, total = found.get(name, (0, 0))
                found[name] = count + len(sizes), total + sum(sizes)
        return found

    def evict(self) -> None:
        """Delete the least recently used embeddings until a tenth of the capacity is free."""
        if self.capacity is None or self.read_only or not isinstance(self.path, Path):
            return
        self.tidy()
        entries = sorted(self._entries(), key=lambda entry: entry[2])
        left = sum(size for _, size, _ in entries)
        if left <= self.capacity:
            return
        for file, size, _ in entries:
            if left <= self.capacity * KEEP_SHARE:
                break
            with contextlib.suppress(OSError):
                Path(file).unlink(missing_ok=True)  # If another process deleted it, that frees the space as well.
                left -= size

    def tidy(self, older_than: float = PARTIAL_SECONDS) -> None:
        """Delete partial files and locks of killed processes.

        While other processes write, only partial files older than `older_than` seconds are deleted.
        """
        if self.read_only or not isinstance(self.path, Path):
            return
        if self.path.exists():
            before = time.time() if older_than <= 0 else _last_write(self.path, older_than)
            for folder in (self.path, *self._array_folders()):
                _remove_halves(folder, before)
        remove_stale_locks(self.path / CLAIMS, CLAIM)

    def clear(self) -> None:
        """Delete all embeddings, and the folder if nothing else is in it.

        Raises
        ------
        OutputError
            The folder contains something else, they cannot be deleted, or the store is read-only.
        """
        path = self._folder()
        self._arrays.check()
        if self.read_only:
            raise OutputError(f"{path} is opened read-only: open it for writing to clear it.")
        try:
            for folder in self._array_folders():
                _clear_array(folder)
            self.tidy(older_than=0)
            if [entry.name for entry in _listed(path)] == ["zarr.json"]:
                (path / "zarr.json").unlink()
                path.rmdir()
        except OSError as error:
            raise OutputError(
                f"The embeddings in {path} cannot be deleted ({reason(error)}): check its permissions."
            ) from error

    def _folder(self) -> Path:
        if not isinstance(self.path, Path):
            raise OutputError(f"{self.path} is not a folder on this computer: count and delete embeddings there.")
        return self.path

    def _array_folders(self) -> list[Path]:
        return [Path(entry.path) for entry in _listed(self._folder()) if ARRAY.fullmatch(entry.name)]

    def _entries(self) -> Iterator[tuple[str, int, int]]:
        return itertools.chain.from_iterable(map(_chunks_in, self._array_folders()))


def _chunks_in(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Yield the files of an array's embeddings with their sizes and the times of their last use."""
    for entry in _listed(folder):
        if CHUNK.fullmatch(entry.name):
            with contextlib.suppress(OSError):
                stat = entry.stat()
                yield entry.path, stat.st_size, stat.st_mtime_ns


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Hold a shared lock while files of a folder are written, for processes that clean it up."""
    lock = None
    with contextlib.suppress(OSError):
        for _ in range(WRITE_TRIES):  # A process that cleans up holds the lock for microseconds.
            lock = try_lock(folder, shared=True)
            if lock is not None:
                break
            time.sleep(WRITE_PAUSE)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _last_write(folder: Path, older_than: float) -> float:
    """Return the time before which no file is still being written, in seconds of the file system's clock."""
    with contextlib.suppress(OSError):
        lock = try_lock(folder)
        if lock is not None:
            try:
                os.utime(folder)
                return folder.stat().st_mtime
            finally:
                lock.release()
    return time.time() - older_than


def _remove_halves(folder: Path, before: float) -> None:
    """Delete partial files in a folder that were started before some time."""
    for entry in _listed(folder):
        with contextlib.suppress(OSError):
            is_half = PARTIAL.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            if is_half and entry.stat(follow_symlinks=False).st_mtime < before:
                Path(entry.path).unlink(missing_ok=True)


def _clear_array(folder: Path) -> None:
    """Delete the files of an array, and its folder if nothing else is in it."""
    for file in list(folder.iterdir()):
        if CHUNK.fullmatch(file.name) or file.name == "zarr.json" or PARTIAL.fullmatch(file.name):
            file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder; empty if it is missing or cannot be read."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return list(entries)
    return []


# Chooses the store when the model is loaded; see `default_store`.
StoreChoice = Callable[["Predictor"], EmbeddingStore | None]


def checked_store(store: Any) -> EmbeddingStore | StoreChoice | None:
    """Return a store of embeddings, opened where its folder or URL was given.

    Parameters
    ----------
    store
        An `EmbeddingStore`, a folder, a URL, a function that returns a store for a loaded predictor, or None.

    Raises
    ------
    OutputError
        It is none of these, or the folder or URL cannot be used.
    """
    if store is None or isinstance(store, EmbeddingStore):
        return store
    if isfunction(store):
        choice: StoreChoice = store
        return choice
    if isinstance(store, str) and "://" in store:
        return EmbeddingStore(store)
    return EmbeddingStore(path_argument(store, "The store", OutputError))
