"""EmbeddingCache: recently used embeddings in memory, by the digest of their content."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray


class Sized(Protocol):
    """Anything with a size in bytes."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)

DEFAULT_CAPACITY = 512 * 2**20


class EmbeddingCache(Generic[T]):
    """A least-recently-used cache with a limit in bytes.

    An entry is valid exactly when the rendered tile, the model's weights and the precision are the same, because the
    key is their digest. Entries are never stale.

    Parameters
    ----------
    capacity
        Largest number of bytes; the newest entry is kept whatever its size.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self.capacity = capacity
        self._entries: OrderedDict[str, T] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: str) -> T | None:
        """Return the embedding of a digest (see `tile_digest`), or None if it is not cached."""
        with self._lock:
            if digest not in self._entries:
                return None
            self._entries.move_to_end(digest)
            return self._entries[digest]

    def put(self, digest: str, entry: T) -> None:
        """Store an embedding, and remove the least recently used ones."""
        with self._lock:
            if digest in self._entries:
                self._nbytes -= self._entries.pop(digest).nbytes
            self._entries[digest] = entry
            self._nbytes += entry.nbytes
            while self._nbytes > self.capacity and len(self._entries) > 1:
                self._nbytes -= self._entries.popitem(last=False)[1].nbytes


def tile_digest(rendered: NDArray[np.uint8], predictor_digest: str) -> str:
    """Return the key of a tile: a hash of its rendered pixels and of the predictor's digest."""
    digest = hashlib.blake2b(rendered.tobytes(), digest_size=20)
    digest.update(predictor_digest.encode())
    return digest.hexdigest()
