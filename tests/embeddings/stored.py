"""Helpers of the tests of embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sam.embeddings.cache import tile_digest
from napari_sam.embeddings.store import EmbeddingStore

MODEL = "711730b5c66b4f0e/float32"


def digest_of(number, model=MODEL):
    return tile_digest(np.full((2, 2, 3), number, np.uint16).view(np.uint8), model)


def values_of(number, count=50):
    return np.random.default_rng(number).normal(size=count).astype(np.float16)


def filled(path, numbers, **options):
    store = EmbeddingStore(path, **options)
    for number in numbers:
        store.put(digest_of(number), MODEL, values_of(number))
    return store


def file_of(path, number):
    (file,) = path.glob(f"*/{int(digest_of(number)[:15], 16)}.0")
    return file


def files_in(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


def kept(store, numbers):
    return [number for number in numbers if store.has(digest_of(number), MODEL)]


def assert_holds(store, numbers):
    for number in numbers:
        np.testing.assert_array_equal(store.get(digest_of(number), MODEL), values_of(number))
