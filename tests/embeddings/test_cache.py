from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.embeddings.cache import EmbeddingCache, tile_digest


@dataclass(frozen=True)
class Entry:
    number: int
    nbytes: int = 10


class Shelf:
    """A store used as the segmenter uses it, which remembers what had to be encoded."""

    def __init__(self, capacity: int) -> None:
        self.store: EmbeddingCache[Entry] = EmbeddingCache(capacity)
        self.encoded: list[int] = []

    def fetch(self, number: int, model: str = "model", nbytes: int = 10) -> Entry:
        digest = tile_digest(tile(number), model)
        entry = self.store.get(digest)
        if entry is None:
            self.encoded.append(number)
            entry = Entry(number, nbytes)
            self.store.put(digest, entry)
        return entry


def tile(number: int) -> np.ndarray:
    return np.full((8, 8, 3), number, np.uint8)


def test_a_tile_is_encoded_once():
    shelf = Shelf(100)
    assert shelf.fetch(1) is shelf.fetch(1)
    assert shelf.encoded == [1]
    assert (len(shelf.store), shelf.store.nbytes) == (1, 10)


def test_another_model_encodes_the_same_tile_again_and_both_are_kept():
    shelf = Shelf(100)
    for model in ("one/float32", "two/float32", "one/float16", "one/float32"):
        shelf.fetch(1, model)
    assert shelf.encoded == [1, 1, 1]
    assert len(shelf.store) == 3


def test_the_digest_depends_on_every_pixel_and_the_model_but_not_on_the_memory_layout():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    changed = pixels.copy()
    changed[7, 7, 2] ^= 1
    turned = np.swapaxes(pixels, 0, 1)
    digest = tile_digest(pixels, "model")
    assert digest == tile_digest(np.asfortranarray(pixels), "model")
    assert len({digest, tile_digest(changed, "model"), tile_digest(turned, "model"), tile_digest(pixels, "other")}) == 4


def test_the_least_recently_used_goes_first():
    shelf = Shelf(30)
    for number in (1, 2, 3, 1, 4):  # 1 is used again before 4 needs room, so 2 must go.
        shelf.fetch(number)
    for number in (1, 3, 4):
        shelf.fetch(number)
    assert shelf.encoded == [1, 2, 3, 4]
    shelf.fetch(2)
    assert shelf.encoded == [1, 2, 3, 4, 2]


def test_asking_for_what_is_not_there_changes_nothing():
    shelf = Shelf(30)
    shelf.fetch(1)
    assert shelf.store.get("unknown") is None
    assert len(shelf.store) == 1


def test_room_is_counted_in_bytes_and_not_in_entries():
    shelf = Shelf(100)
    for number in range(5):
        shelf.fetch(number, nbytes=20)
    shelf.fetch(5, nbytes=70)
    assert shelf.store.nbytes == 90
    assert len(shelf.store) == 2


def test_an_entry_larger_than_the_store_is_kept_until_the_next():
    shelf = Shelf(100)
    shelf.fetch(1, nbytes=60)
    shelf.fetch(2, nbytes=500)
    assert (len(shelf.store), shelf.store.nbytes) == (1, 500)
    shelf.fetch(2, nbytes=500)
    assert shelf.encoded == [1, 2]
    shelf.fetch(3)
    assert (len(shelf.store), shelf.store.nbytes) == (1, 10)


def test_putting_again_replaces_the_entry_and_its_bytes():
    store: EmbeddingCache[Entry] = EmbeddingCache(100)
    store.put("a", Entry(1, 30))
    store.put("b", Entry(2, 30))
    store.put("a", Entry(3, 50))
    assert store.get("a") == Entry(3, 50)
    assert (len(store), store.nbytes) == (2, 80)


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 120))
def test_the_store_holds_what_a_simple_model_of_it_holds(requests, capacity):
    shelf = Shelf(capacity)
    model: dict[int, int] = {}
    missed = []
    for number in requests:
        size = number * 7 + 1
        if number not in model:
            missed.append(number)
        model[number] = model.pop(number, size)
        while sum(model.values()) > capacity and len(model) > 1:
            model.pop(next(iter(model)))
        assert shelf.fetch(number, nbytes=size).number == number
        assert shelf.store.nbytes == sum(model.values())
        assert len(shelf.store) == len(model)
    assert shelf.encoded == missed


def test_many_threads_get_the_right_entries_and_the_sum_stays_right():
    shelf = Shelf(55)
    numbers = np.random.default_rng(0).integers(0, 12, 2000).tolist()
    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(shelf.fetch, numbers))
    assert [entry.number for entry in entries] == numbers
    assert len(shelf.store) == 5
    assert shelf.store.nbytes == 50
