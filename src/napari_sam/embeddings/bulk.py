"""BulkPass: encode many tiles in batches, while other threads read and write.

The reading ahead is the caller's: it gives rendered tiles in the order of work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sam.embeddings.store import EmbeddingStore

if TYPE_CHECKING:
    from napari_sam.core.predictor import Embedding, Predictor

# Batches that may wait to be written, which bounds the memory if the disk is slow.
BATCHES_BEHIND = 2
TileKey = TypeVar("TileKey")


@dataclass(frozen=True, slots=True)
class _Held:
    """A locked tile to encode; the lock is released when the tile is written or skipped."""

    digest: str
    rendered: NDArray[np.uint8]
    process_lock: ExitStack


class BulkPass(Generic[TileKey]):
    """One pass that encodes tiles into a store.

    Parameters
    ----------
    store
        Store of the embeddings.
    predictor
        Model that encodes.
    ignores_locks
        Whether to encode also what another process has locked, which may not answer any more.

    Attributes
    ----------
    claimed_by_others
        Tiles that were locked by another process, to be checked again.
    """

    def __init__(self, store: EmbeddingStore, predictor: Predictor, *, ignores_locks: bool = False) -> None:
        self.claimed_by_others: list[TileKey] = []
        self._store, self._predictor, self._ignores_locks = store, predictor, ignores_locks
        self._held: list[_Held] = []
        self._written: deque[tuple[int, Future[None]]] = deque()

    def run(self, tiles: Iterable[tuple[TileKey, NDArray[np.uint8], str]]) -> Iterator[str]:
        """Encode rendered tiles, given with their digests.

        Yields
        ------
        str
            Outcome of a tile: "encoded" once it is written, "known" or "empty". Close the generator to stop.

        Raises
        ------
        OutputError
            The store cannot be written to; written embeddings are kept.
        """
        with ThreadPoolExecutor(1, "write") as writer:
            try:
                for place, rendered, digest in tiles:
                    kind = self._look(place, rendered, digest)
                    if kind is not None:
                        yield kind
                    if len(self._held) >= self._predictor.batch:
                        self._encode(writer)
                    yield from self._finished(BATCHES_BEHIND)
                self._encode(writer)
                yield from self._finished(0)
            finally:
                for held in self._held:
                    held.process_lock.close()

    def _look(self, place: TileKey, rendered: NDArray[np.uint8], digest: str) -> str | None:
        """Return "known" or "empty" for a tile to skip; otherwise lock it for encoding."""
        if rendered.min() == rendered.max():
            return "empty"
        if self._store.has(digest, self._predictor.digest):
            return "known"
        with ExitStack() as process_lock:
            if not process_lock.enter_context(self._store.process_lock(digest)) and not self._ignores_locks:
                self.claimed_by_others.append(place)
                return None
            if self._store.has(digest, self._predictor.digest):  # Another process wrote it before the lock was taken.
                return "known"
            self._held.append(_Held(digest, rendered, process_lock.pop_all()))
        return None

    def _encode(self, writer: ThreadPoolExecutor) -> None:
        if not self._held:
            return
        embeddings = self._predictor.encode(np.stack([held.rendered for held in self._held]))
        self._written.append((len(self._held), writer.submit(self._write, self._held, embeddings)))
        self._held = []

    def _write(self, tiles: list[_Held], embeddings: list[Embedding]) -> None:
        with ExitStack() as claims:
            for held in tiles:
                claims.push(held.process_lock)
            for held, embedding in zip(tiles, embeddings, strict=True):
                self._store.put(held.digest, self._predictor.digest, self._predictor.pack(embedding))
                held.process_lock.close()

    def _finished(self, behind: int) -> Iterator[str]:
        """Yield for every written tile, and wait until at most this many batches are unwritten."""
        while self._written and (len(self._written) > behind or self._written[0][1].done()):
            count, written = self._written.popleft()
            written.result()
            yield from ["encoded"] * count
