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
from napari_sam.propagation import prompt_follower
from napari_sam.propagation.prompt_follower import PromptFollower

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


def test_an_object_that_has_changed_is_compared_with_a_nearer_plane_and_a_resumed_run_does_the_same(
    image, truth, monkeypatch, tmp_path
):
    monkeypatch.setattr(prompt_follower, "FAR", 4)
    monkeypatch.setattr(prompt_follower, "MOST_CHANGE", 0.15)
    compared: list[tuple[int, int]] = []
    seen = PromptFollower._seen

    def noted(self, label, at, *others):
        compared.append((at, self._states[label].reference_at))
        return seen(self, label, at, *others)

    monkeypatch.setattr(PromptFollower, "_seen", noted)

    def followed(folder, stop):
        """Follow the object, and once more if it is stopped after some planes; return its labels."""
        for _ in range(1 if stop is None else 2):
            labels = folder / "labels.ome.zarr"
            with Segmenter(image, model="compact", rgb=False, labels=labels, journal=True) as segmenter:
                segmenter.keep_answers(folder / "answers")
                if not segmenter.journal.objects:
                    segmenter.accept(mask_of(truth[0]), plane=0)
                steps = segmenter.propagate_steps(1, planes=(0, 24))
                for step in steps:
                    if step.at == stop:
                        steps.close()
                        break
                found = np.array(segmenter.labels)
            stop = None
        return found

    (tmp_path / "whole").mkdir()
    whole = followed(tmp_path / "whole", None)
    references = dict(compared)
    assert len(set(references.values())) >= 3
    assert all(at - reference <= 24 for at, reference in references.items())
    compared.clear()
    (tmp_path / "stopped").mkdir()
    # A resumed run may begin on another tile than it had got to: some pixels of the outline differ.
    assert iou(followed(tmp_path / "stopped", 19) > 0, whole > 0) > 0.999
    assert dict(compared) == references
    assert len(compared) == len(references)  # No plane was followed twice.
