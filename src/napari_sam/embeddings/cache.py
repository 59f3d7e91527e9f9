"""EmbeddingCache: embeddings by content, the most recently used ones kept in memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray


class Sized(Protocol):
    """Anything that knows how many bytes it holds."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)

DEFAULT_CAPACITY = 512 * 2**20


class EmbeddingCache(Generic[T]):
    """A least-recently-used store with a limit in bytes.

    An entry is valid exactly when the rendered tile, the model's weights and the precision are the same, because the
    key is their digest: what is found is never stale.

    Parameters
    ----------
    capacity
        Bytes to keep at most; the newest entry is kept whatever its size.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self.capacity = capacity
        self._entries: OrderedDict[str, T] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes kept now."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: str) -> T | None:
        """Return the embedding of a digest (see `tile_digest`), or None when it is not kept."""
        with self._lock:
            if digest not in self._entries:
                return None
            self._entries.move_to_end(digest)
            return self._entries[digest]

    def put(self, digest: str, entry: T) -> None:
        """Keep an embedding, at the cost of those that were not used for longest."""
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
