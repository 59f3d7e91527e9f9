"""TileEncoder: read and encode each tile of a volume at most once, or many tiles in a row."""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask, Provenance
from napari_sam.core.rendering import Rendering
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.embeddings.bulk import BulkPass
from napari_sam.embeddings.cache import EmbeddingCache, tile_digest
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.embeddings.tile_sweep import EncodeProgress as EncodeProgress
from napari_sam.embeddings.tile_sweep import TileKey as TileKey
from napari_sam.embeddings.tile_sweep import TileSweep as TileSweep
from napari_sam.errors import ImageError, OutputError
from napari_sam.files.folders import CACHE_VARIABLE, embedding_folder
from napari_sam.images.volume import Volume

if TYPE_CHECKING:
    from napari_sam.core.predictor import Embedding, Predictor

READERS = 2
READERS_OF_A_GPU = 6
READ_AHEAD = 6
# Digests of rendered tiles in memory, a few hundred bytes each.
DIGESTS_KEPT = 20_000
MAX_TILES = 2**40


class TileEncoder:
    """Encode the tiles of a volume, and keep the embeddings in memory and, with a store, on disk.

    Parameters
    ----------
    volume
        The image.
    predictor
        The model.
    rendering
        Returns the rendering of the whole volume; called when it is first needed.
    store
        The store that embeddings are read from and written to, or None for memory only.

    Attributes
    ----------
    store
        The store; that of `encode_all` from its first tile on.
    progress
        Called with a message before a tile is encoded for an interaction, or None.
    trouble
        The reason why nothing more is written to the store, or None. Interactions continue without it.
    """

    def __init__(
        self,
        volume: Volume,
        predictor: Predictor,
        rendering: Callable[[], Rendering],
        store: EmbeddingStore | None = None,
    ) -> None:
        self.volume = volume
        self.predictor = predictor
        self.store = store
        self.progress: Callable[[str], None] | None = None
        self.trouble: str | None = None
        self._make_rendering = rendering
        self._rendering: Rendering | None = None
        self._memory: EmbeddingCache[Embedding] = EmbeddingCache()
        self._digests: OrderedDict[TileKey, str] = OrderedDict()
        self._lock = Lock()

    @property
    def rendering(self) -> Rendering:
        """Rendering of the whole volume; sampled once."""
        if self._rendering is None:
            self._rendering = self._make_rendering()
        return self._rendering

    def grid(self, plane: Plane) -> TileGrid:
        """Return the tiles of a plane."""
        shape, size = plane.shape_in(self.volume.shape), self.volume.pixel_size(plane)
        return TileGrid(shape, self.predictor.input_side, size)

    def is_ready(self, plane: Plane, tile: Tile) -> bool:
        """Return whether the embedding of a tile is available without reading or encoding anything."""
        digest = self._digests.get((plane, tile))
        if digest is None:
            return False
        in_memory = self._memory.get(digest) is not None
        return in_memory or (self.store is not None and self.store.has(digest, self.predictor.digest))

    def embedding(self, plane: Plane, tile: Tile) -> Embedding:
        """Return the embedding of a tile, from memory or the store if it is there."""
        digest = self._digests.get((plane, tile))
        kept = self._kept(digest) if digest else None
        if kept is not None:
            return kept
        rendered, digest = self._rendered(plane, tile)
        kept = self._kept(digest)
        if kept is not None:
            return kept
        if self.progress:
            self.progress(f"Encoding {tile.read.height:g} x {tile.read.width:g} pixels ...")
        (embedding,) = self.predictor.encode(rendered[None])
        self._keep(digest, embedding)
        return embedding

    def encode_together(self, places: Iterable[TileKey]) -> None:
        """Encode several tiles by calls on batches, except those whose embedding is available.

        Raises
        ------
        ImageError
            A tile cannot be read.
        """
        missing: dict[str, NDArray[np.uint8]] = {}
        for place in dict.fromkeys(places):
            if not self.is_ready(*place):
                rendered, digest = self._rendered(*place)
                if self._kept(digest) is None:
                    missing[digest] = rendered
        digests = list(missing)
        for start in range(0, len(digests), max(self.predictor.batch, 1)):
            part = digests[start : start + max(self.predictor.batch, 1)]
            embeddings = self.predictor.encode(np.stack([missing[digest] for digest in part]))
            for digest, embedding in zip(part, embeddings, strict=True):
                self._keep(digest, embedding)

    def _keep(self, digest: str, embedding: Embedding) -> None:
        """Keep an embedding in memory and, as long as that works, in the store."""
        self._memory.put(digest, embedding)
        if self.store is not None and not self.store.read_only and self.trouble is None:
            try:
                self.store.put(digest, self.predictor.digest, self.predictor.pack(embedding))
            except OutputError as error:
                self.trouble = str(error)

    def provenance(self, mask: Mask, candidate: str | None = None, downsample: float | None = None) -> Provenance:
        """Return how a mask was made, for its entry in a journal.

        Parameters
        ----------
        mask
            A mask that was decoded on one of these tiles, or that was made of such a mask.
        candidate
            Its name among the three candidates.
        downsample
            Image pixels for each pixel of the screen, if there was a screen.
        """
        tile = mask.tile
        return Provenance(
            model=self.predictor.name,
            model_digest=self.predictor.digest,
            level=None if tile is None else tile.level,
            tile=None if tile is None else tile.read,
            downsample=downsample,
            candidate=candidate,
            rendering=None if tile is None else self.rendering,
            channels=self.volume.channels,
        )

    def provenance_of_found(self) -> Provenance:
        """Return how the objects of a search were made, which share all but their levels."""
        return Provenance(
            model=self.predictor.name,
            model_digest=self.predictor.digest,
            rendering=self.rendering,
            channels=self.volume.channels,
        )

    def refresh(self) -> None:
        """Forget rendering and tiles, because pixels of the image have changed."""
        self._rendering = None
        self._digests.clear()
        self.volume.forget()

    def encode_all(self, store: EmbeddingStore, places: TileSweep) -> Iterator[EncodeProgress]:
        """Encode many tiles into a store, except those that it contains and tiles of one value.

        Reading runs ahead of encoding and writing behind it, in other threads; memory is bounded by a few batches, not
        by the number of tiles. Several processes may work on one store: tiles locked by another process are revisited
        at the end.

        Parameters
        ----------
        store
            The store to write to. It becomes the encoder's own, so that interactions find what was encoded.
        places
            Tiles, in the order of encoding.

        Yields
        ------
        EncodeProgress
            After every tile; close the generator to stop.

        Raises
        ------
        ImageError, OutputError
            A tile cannot be read, or the store cannot be written to; written embeddings are kept.
        """
        check_run(store, places)
        self.store = store
        progress = EncodeProgress(len(places))
        left: TileSweep | list[TileKey] = places
        while len(left):
            bulk = self.bulk_pass(store)
            for kind in bulk.run(self.read_all(left)):
                progress = _counted(progress, kind)
                yield progress
            if len(bulk.claimed_by_others) == len(left):
                store.wait_for_others()
            left = bulk.claimed_by_others

    def bulk_pass(self, store: EmbeddingStore, *, ignores_locks: bool = False) -> BulkPass[TileKey]:
        """Return a pass that encodes tiles into a store; see `BulkPass`."""
        return BulkPass(store, self.predictor, ignores_locks=ignores_locks)

    def read_all(self, places: Iterable[TileKey]) -> Iterator[tuple[TileKey, NDArray[np.uint8], str]]:
        """Yield rendered tiles in order with their digests, read a few ahead in other threads."""
        _ = self.rendering  # Sampled once, and not in every thread.
        ahead = max(READ_AHEAD, 2 * self.predictor.batch)
        waiting: deque[tuple[TileKey, Future[tuple[NDArray[np.uint8], str]]]] = deque()
        with ThreadPoolExecutor(READERS if self.predictor.batch == 1 else READERS_OF_A_GPU) as pool:
            try:
                for place in places:
                    waiting.append((place, pool.submit(self._rendered, *place)))
                    if len(waiting) > ahead:
                        first, result = waiting.popleft()
                        yield first, *result.result()
                while waiting:
                    first, result = waiting.popleft()
                    yield first, *result.result()
            finally:
                for _place, result in waiting:
                    result.cancel()

    def _rendered(self, plane: Plane, tile: Tile) -> tuple[NDArray[np.uint8], str]:
        rendered = self.volume.render(plane, tile, self.rendering)
        digest = tile_digest(rendered, self.predictor.digest)
        with self._lock:
            self._digests[plane, tile] = digest
            if len(self._digests) > DIGESTS_KEPT:
                self._digests.popitem(last=False)
        return rendered, digest

    def _kept(self, digest: str) -> Embedding | None:
        kept = self._memory.get(digest)
        if kept is None and self.store is not None:
            values = self.store.get(digest, self.predictor.digest)
            if values is not None:
                kept = self.predictor.unpack(values)
                self._memory.put(digest, kept)
        return kept


def check_run(store: EmbeddingStore, places: TileSweep) -> None:
    """Refuse a run over many tiles that cannot end well.

    Raises
    ------
    ImageError, OutputError
        There are too many tiles, or the store is opened read-only.
    """
    if store.read_only:
        raise OutputError(f"{store.path} is opened read-only: open it for writing to encode into it.")
    if places.count > MAX_TILES:
        raise ImageError(f"The image has {places.count:.1e} tiles, too many to encode: name a part of it by a box.")


def default_store(predictor: Predictor) -> EmbeddingStore | None:
    """Return the default store of a model.

    Embeddings of slow models are stored in the cache folder. For fast models that is not worthwhile, but embeddings
    that were encoded ahead into that folder are used.

    Raises
    ------
    OutputError
        The folder, or an environment variable that names it, is not usable.
    """
    if predictor.encode_is_slow:
        return EmbeddingStore.default()
    try:
        folder = embedding_folder()
    except OutputError:
        if os.environ.get(CACHE_VARIABLE):
            raise
        return None  # Without a home folder nothing was encoded ahead.
    return EmbeddingStore(folder, read_only=True) if folder.exists() else None


def _counted(progress: EncodeProgress, kind: str) -> EncodeProgress:
    counts = {name: getattr(progress, name) for name in ("encoded", "known", "empty")}
    counts[kind] += 1
    return EncodeProgress(progress.total, progress.done + 1, **counts)
