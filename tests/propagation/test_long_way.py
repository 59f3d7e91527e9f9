"""An object that is followed a long way through a lazy zarr, over tiles and levels."""

from __future__ import annotations

import weakref
from collections import Counter

import numpy as np
import pytest
import zarr
from skimage.draw import disk
from zarr.storage import MemoryStore

from napari_sam import Segmenter
from napari_sam.core.masks import iou, mask_of
from napari_sam.models import load_predictor

PLANES, SIDE = 40, 192
# Answers of the last planes, from which following could go on.
MOST_HELD = 10


@pytest.fixture(scope="module")
def truth():
    pixels = np.zeros((PLANES, SIDE, SIDE), bool)
    for z in range(PLANES):
        pixels[z][disk((36 + 2.4 * z, 50 + 2 * z), 10 + 0.3 * z, shape=(SIDE, SIDE))] = True
    return pixels


@pytest.fixture(scope="module")
def image(truth):
    noise = np.random.default_rng(0).integers(0, 30, truth.shape)
    array = zarr.create_array(MemoryStore(), shape=truth.shape, chunks=(1, 64, 64), dtype=np.uint8)
    array[...] = 60 + 90 * truth + noise
    return array


def test_an_object_that_crosses_tiles_and_levels_is_not_cut_and_each_tile_is_encoded_once(image, truth, monkeypatch):
    predictor = load_predictor("compact", "cpu")
    encoded: Counter[bytes] = Counter()
    encode = predictor.encode
    monkeypatch.setattr(predictor, "encode", lambda tiles: encoded.update(map(bytes, tiles)) or encode(tiles))
    segmenter = Segmenter(image, model=predictor, rgb=False)
    cache = segmenter.encoder._memory
    cache.capacity = 2**24
    label = segmenter.accept(mask_of(truth[0]), plane=0)
    held = []
    for step in segmenter.propagate_steps(label):
        mask = step.followed[label].mask
        assert iou(mask.to_array((SIDE, SIDE)), truth[step.at]) > 0.9, step.at
        held.append(weakref.ref(mask.pixels))
        assert cache.nbytes <= cache.capacity
    assert len(held) == PLANES - 1
    del step, mask
    assert sum(pixels() is not None for pixels in held) <= MOST_HELD
    places = list(segmenter.encoder._digests)
    tiles = {tile for _, tile in places}
    assert len(tiles) >= 5
    assert len({tile.level for tile in tiles}) >= 2
    assert sum(encoded.values()) == len(encoded) == len(places)
