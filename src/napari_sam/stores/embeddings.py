"""EmbeddingStore: embeddings by content, the most recently used ones kept in memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
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


class EmbeddingStore(Generic[T]):
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

    def get(self, rendered: NDArray[np.uint8], predictor_digest: str, encode: Callable[[], T]) -> T:
        """Return the embedding of a rendered tile, calling `encode` only when it is not there.

        Parameters
        ----------
        rendered
            Shape (side, side, 3), uint8: what the encoder would see.
        predictor_digest
            Digest of weights and precision.
        encode
            Makes the embedding.
        """
        key = tile_digest(rendered, predictor_digest)
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        entry = encode()
        with self._lock:
            if key not in self._entries:
                self._entries[key] = entry
                self._nbytes += entry.nbytes
            while self._nbytes > self.capacity and len(self._entries) > 1:
                self._nbytes -= self._entries.popitem(last=False)[1].nbytes
        return entry


def tile_digest(rendered: NDArray[np.uint8], predictor_digest: str) -> str:
    """Return the key of a tile: a hash of its rendered pixels and of the predictor's digest."""
    digest = hashlib.blake2b(rendered.tobytes(), digest_size=20)
    digest.update(predictor_digest.encode())
    return digest.hexdigest()
