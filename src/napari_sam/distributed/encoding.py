"""Encoding: encode tiles of an image into a store, in parts that are done on workers."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.distributed.shared_image import SharedImage, SharedStore
from napari_sam.embeddings.encoder import TileEncoder, check_run
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.embeddings.tile_sweep import EncodeProgress, TileKey, TileSweep

if TYPE_CHECKING:
    from napari_sam.distributed.cluster import Cluster

# Tiles of a job. A worker reads some ahead while it encodes; of a slow model a job takes a minute on a processor.
TILES_OF_A_JOB = 16
TilesOfAJob = tuple[TileKey, ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What became of the tiles of a job.

    Parameters
    ----------
    counts
        How many were "encoded", "known" and "empty".
    claimed
        Those that another process works on, to be looked at again.
    """

    counts: Counter[str] = field(default_factory=Counter)
    claimed: TilesOfAJob = ()


class Encoding:
    """Encodes the tiles of one job after the other into a store, except on tiles that are there.

    Parameters
    ----------
    encoder
        Encoder of the image.
    store
        Where the embeddings go.
    """

    def __init__(self, encoder: TileEncoder, store: EmbeddingStore) -> None:
        self._encoder, self._store = encoder, store

    def do(self, item: TilesOfAJob, *, again: bool = False) -> Encoded:
        """Encode tiles, except those that another process encodes."""
        bulk = self._encoder.bulk_pass(self._store, ignores_locks=again)
        counts = Counter(bulk.run(self._encoder.read_all(item)))
        return Encoded(counts, tuple(bulk.claimed_by_others))


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """An image and a store, as every machine can open them.

    Parameters
    ----------
    image, store
        The image with its model, and the store.
    """

    image: SharedImage
    store: SharedStore

    def open(self) -> Encoding:
        """Open image, model and store.

        Raises
        ------
        ImageError, ModelError, OutputError
            There is no such image, model or folder here, or it is another one.
        """
        return Encoding(self.image.open(), self.store.open())


def encode_on(
    cluster: Cluster, image: SharedImage, store: EmbeddingStore, places: TileSweep
) -> Iterator[EncodeProgress]:
    """Encode many tiles on the workers of a cluster; see `TileEncoder.encode_all`.

    Yields
    ------
    EncodeProgress
        After every job of up to 16 tiles.

    Raises
    ------
    ImageError, OutputError
        A tile cannot be read, or the store cannot be written to; written embeddings are kept.
    ClusterError
        The scheduler has gone away, or no worker can do it; written embeddings are kept.
    """
    check_run(store, places)
    counts: Counter[str] = Counter()
    total = len(places)
    with ExitStack() as stack:
        mark = None
        if isinstance(store.path, Path):
            mark = secrets.token_hex(20)
            stack.enter_context(store.process_lock(mark))
        runner = cluster.runner(EncodingPlan(replace(image, store=None), SharedStore.of(store, mark)))
        left: Iterator[TileKey] = iter(places)
        while True:
            others: list[TileKey] = []
            has_progress = False
            for _, encoded in runner.run(_jobs(left)):
                others += encoded.claimed
                counts += encoded.counts
                has_progress = has_progress or bool(encoded.counts)
                done = sum(counts.values())
                yield EncodeProgress(total, done, counts["encoded"], counts["known"], counts["empty"])
            if not others:
                return
            if not has_progress:
                store.wait_for_others()
            left = iter(others)


def _jobs(places: Iterator[TileKey]) -> Iterator[TilesOfAJob]:
    while part := tuple(islice(places, TILES_OF_A_JOB)):
        yield part
