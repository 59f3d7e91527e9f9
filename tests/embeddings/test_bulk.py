"""Many tiles in a row: batches, writing behind, errors and stops."""

from __future__ import annotations

import hashlib
import threading
import time

import numpy as np
import pytest

from napari_sam.embeddings.bulk import BATCHES_BEHIND, BulkPass
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import OutputError


class Model:
    """Encodes a tile into its own pixels; knows which thread asked for what."""

    digest = "any/1"

    def __init__(self, batch):
        self.batch, self.batches, self.packers = batch, [], []

    def encode(self, tiles):
        self.batches.append(len(tiles))
        return list(tiles)

    def pack(self, embedding):
        self.packers.append(threading.current_thread())
        return embedding.astype(np.float16).ravel()


def digest_of(number):
    return hashlib.sha1(str(number).encode()).hexdigest()


def tiles(count, first=0):
    """Tiles with a digest for each; the third of every five is empty."""
    for number in range(first, first + count):
        rendered = np.full((4, 4, 3), number % 200, np.uint8)
        rendered[0, 0, 0] += number % 5 != 2
        yield number, rendered, digest_of(number)


def kept(store, count):
    return {number for number in range(count) if store.has(digest_of(number), Model.digest)}


@pytest.mark.parametrize("batch", [1, 4, 7, 100])
def test_every_tile_is_dealt_with_once_in_batches(batch, tmp_path):
    store, model = EmbeddingStore(tmp_path / "store"), Model(batch)
    kinds = list(BulkPass(store, model).run(tiles(50)))
    assert sorted(kinds) == ["empty"] * 10 + ["encoded"] * 40
    assert sum(model.batches) == 40
    assert set(model.batches[:-1]) <= {batch}
    assert kept(store, 50) == {number for number in range(50) if number % 5 != 2}
    for number, rendered, digest in tiles(50):
        if number % 5 != 2:
            np.testing.assert_array_equal(store.get(digest, model.digest), rendered.ravel())
    assert list(BulkPass(store, model).run(tiles(50))) == ["empty" if n % 5 == 2 else "known" for n in range(50)]
    assert not list((tmp_path / "store").rglob("claims/*"))


def test_packing_and_writing_are_left_to_another_thread(tmp_path):
    model = Model(2)
    list(BulkPass(EmbeddingStore(tmp_path / "store"), model).run(tiles(10)))
    assert threading.current_thread() not in model.packers


def test_a_slow_disk_holds_the_encoder_back_before_memory_fills(tmp_path):
    store, model = EmbeddingStore(tmp_path / "store"), Model(2)
    put, most = store.put, [0]

    def slow(*arguments):
        time.sleep(0.005)
        put(*arguments)
        most[0] = max(most[0], sum(model.batches) - len(kept(store, 60)))

    store.put = slow
    list(BulkPass(store, model).run(tiles(60)))
    assert 0 < most[0] <= 2 * (BATCHES_BEHIND + 2)


def test_a_full_disk_stops_the_run_and_releases_every_claim(tmp_path):
    store, model = EmbeddingStore(tmp_path / "store"), Model(3)
    put, written = store.put, []

    def full(digest, *rest):
        if len(written) == 4:
            raise OutputError("The disk is full: make room.")
        written.append(digest)
        put(digest, *rest)

    store.put = full
    with pytest.raises(OutputError, match="disk is full"):
        list(BulkPass(store, model).run(tiles(60)))
    store.put = put
    assert len(kept(store, 60)) == 4
    assert sorted(BulkPass(store, model).run(tiles(60))).count("encoded") == 44


def test_a_run_that_is_stopped_keeps_what_was_encoded_and_releases_the_rest(tmp_path):
    store, model = EmbeddingStore(tmp_path / "store"), Model(4)
    run = BulkPass(store, model).run(tiles(60))
    for _ in range(7):
        next(run)
    run.close()
    assert len(kept(store, 60)) == sum(model.batches)
    for _number, _rendered, digest in tiles(60):
        with store.process_lock(digest) as mine:
            assert mine


def test_what_another_one_has_in_hand_is_left_to_it(tmp_path):
    store, model = EmbeddingStore(tmp_path / "store"), Model(3)
    with store.process_lock(digest_of(4)):
        bulk = BulkPass(store, model)
        assert len(list(bulk.run(tiles(10)))) == 9
        assert bulk.claimed_by_others == [4]
