from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_sam import Segmenter
from napari_sam.core.geometry import Box, Plane
from napari_sam.embeddings.bulk import BATCHES_BEHIND
from napari_sam.embeddings.encoder import EncodeProgress, TileSweep, default_store
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import ImageError, OutputError
from napari_sam.testing import TIMEOUT

# Encodes a zarr image into a store with a predictor that needs no torch; each encode is noted in a file.
WORKER = """
import os, sys, time
import numpy as np, zarr
from napari_sam import Plane
from napari_sam.embeddings.encoder import TileSweep, TileEncoder
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.images.volume import Volume

class Predictor:
    digest, input_side, batch = "slow/1", 32, 1
    def encode(self, tiles):
        with open(sys.argv[3], "a") as note:
            note.write(f"{tiles[0].sum()} {tiles[0][3, 5, 0]} {tiles[0][9, 1, 0]}\\n")
        time.sleep(0.004)
        return [tile.astype(np.float16) for tile in tiles]
    def pack(self, embedding):
        return embedding.ravel()

volume = Volume.of(zarr.open(sys.argv[1], mode="r"))
store = EmbeddingStore(sys.argv[2])
encoder = TileEncoder(volume, Predictor(), lambda: volume.rendering((0, 255)), store)
planes = [Plane.of(volume.shape)]
for progress in encoder.encode_all(store, TileSweep(encoder, planes, [0, 1])):
    pass
store.tidy(older_than=0)
print(progress)
"""


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (250, 260)).astype(np.uint8)
    pixels[:70, :70] = 9
    array = zarr.create_array(tmp_path / "image.zarr", shape=pixels.shape, chunks=(64, 64), dtype=pixels.dtype)
    array[...] = pixels
    return tmp_path / "image.zarr"


def run(image, store, note):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(image), str(store), str(note)], stdout=subprocess.PIPE, text=True
    )


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def encoded(note):
    return note.read_text().splitlines() if note.exists() else []


@pytest.fixture
def uninterrupted(image, tmp_path):
    process = run(image, tmp_path / "whole", tmp_path / "whole.txt")
    out, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    tiles = encoded(tmp_path / "whole.txt")
    assert len(tiles) == len(set(tiles)) > 200
    assert "empty=0" not in out
    return contents(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_killed_at_any_moment_goes_on_and_ends_as_if_it_never_was(image, tmp_path, uninterrupted):
    store, note, rng = tmp_path / "killed", tmp_path / "killed.txt", random.Random(0)
    kills = 0
    for _ in range(6):
        process = run(image, store, note)
        before = len(encoded(note))
        while process.poll() is None and len(encoded(note)) == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.2))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills >= 3
    process = run(image, store, note)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert contents(store) == uninterrupted
    # Nothing that was in the store is encoded again: at most what was in hand, or about to be written, at each kill.
    assert len(encoded(note)) - len(set(encoded(note))) <= kills * (2 + BATCHES_BEHIND)


def test_two_runs_on_one_store_share_the_work(image, tmp_path, uninterrupted):
    notes = [tmp_path / "a.txt", tmp_path / "b.txt"]
    processes = [run(image, tmp_path / "both", note) for note in notes]
    for process in processes:
        process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0
    assert contents(tmp_path / "both") == uninterrupted
    one, other = (encoded(note) for note in notes)
    assert not set(one) & set(other)
    assert len(one) + len(other) == len(set(one) | set(other))


# -- in one process ----------------------------------------------------------------------------------------------------


@pytest.fixture
def discs():
    rows, cols = np.indices((300, 300)) % 100 - 50
    return np.where(rows**2 + cols**2 < 121, 200, 20).astype(np.uint8)


def test_what_was_encoded_is_found_by_another_segmenter_which_encodes_nothing(discs, make_predictor, tmp_path):
    first = Segmenter(discs, model=make_predictor(), contrast_limits=(0, 255), store=tmp_path / "s")
    expected = first.segment(points=[(150, 150)])
    predictor = make_predictor()
    again = Segmenter(discs, model=predictor, contrast_limits=(0, 255), store=tmp_path / "s")
    answer = again.segment(points=[(150, 150)])
    assert predictor.encoded == []
    assert [mask.box for mask in answer] == [mask.box for mask in expected]
    assert all(np.array_equal(a.low_res_logits, b.low_res_logits) for a, b in zip(answer, expected, strict=True))


def brighter(predictor):
    return {"contrast_limits": (0, 200)}


def other_weights(predictor):
    predictor.digest = "other weights/float32"
    return {}


def other_precision(predictor):
    predictor.digest = predictor.digest + "/bfloat16"
    return {}


def other_gamma(predictor):
    return {"gamma": 0.5}


@pytest.mark.parametrize("change", [brighter, other_weights, other_precision, other_gamma])
def test_a_store_made_in_another_way_is_never_used(change, discs, make_predictor, tmp_path):
    options = {"contrast_limits": (0, 255)}
    Segmenter(discs, model=make_predictor(), store=tmp_path / "s", **options).segment(points=[(150, 150)])
    predictor = make_predictor()
    options |= change(predictor)
    fresh = make_predictor()
    fresh.digest = predictor.digest
    kept = Segmenter(discs, model=predictor, store=tmp_path / "s", **options).segment(points=[(150, 150)])
    alone = Segmenter(discs, model=fresh, **options).segment(points=[(150, 150)])
    assert len(predictor.encoded) == len(fresh.encoded) > 0
    assert all(np.array_equal(a.low_res_logits, b.low_res_logits) for a, b in zip(kept, alone, strict=True))


def test_changed_pixels_are_never_answered_from_the_store(discs, make_predictor, tmp_path):
    Segmenter(discs, model=make_predictor(), contrast_limits=(0, 255), store=tmp_path / "s").segment(
        points=[(150, 150)]
    )
    changed = discs.copy()
    changed[140:160, 190:260] = 200
    predictor = make_predictor()
    answer = Segmenter(changed, model=predictor, contrast_limits=(0, 255), store=tmp_path / "s").segment(
        points=[(150, 225)]
    )
    assert len(predictor.encoded) > 0
    assert answer.best.area > 500


def test_encoding_says_how_far_it_is_and_what_it_left_out(discs, make_predictor, tmp_path):
    discs[:150] = 20
    predictor = make_predictor()
    segmenter = Segmenter(discs, model=predictor, contrast_limits=(0, 255), store=tmp_path / "s")
    steps = list(segmenter.encode(levels=[0, 1]))
    last = steps[-1]
    assert [step.done for step in steps] == list(range(1, last.total + 1))
    assert last.encoded == len(predictor.encoded)
    assert last.empty > 0
    # The field repeats itself every 100 pixels, so some tiles look alike: they are encoded once.
    assert last.encoded + last.known + last.empty == last.total
    again = list(segmenter.encode(levels=[0, 1]))[-1]
    assert again == EncodeProgress(last.total, last.total, 0, last.encoded + last.known, last.empty)


def test_only_the_box_and_the_planes_that_were_asked_for_are_encoded(make_predictor, counting_array, tmp_path):
    array = counting_array(np.random.default_rng(0).integers(0, 255, (5, 640, 640)).astype(np.uint8))
    segmenter = Segmenter(array, model=make_predictor(), contrast_limits=(0, 255), store=tmp_path / "s")
    last = list(segmenter.encode(planes=[1, 3], box=(300, 300, 340, 340)))[-1]
    grid = segmenter.encoder.grid(segmenter.plane(1))
    tiles = list(grid.tiles_over(0, Box(300, 300, 340, 340)))
    assert last.total == 2 * len(tiles) < 20
    assert {plane.index[0] for plane, _ in segmenter.encoder._digests} == {1, 3}


def test_a_run_that_is_stopped_leaves_what_it_did(discs, make_predictor, tmp_path):
    segmenter = Segmenter(discs, model=make_predictor(), contrast_limits=(0, 255), store=tmp_path / "s")
    run = segmenter.encode()
    done = [next(run) for _ in range(5)]
    run.close()
    assert EmbeddingStore(tmp_path / "s").count >= done[-1].encoded > 0
    assert list(segmenter.encode())[-1].known >= done[-1].encoded


def test_without_a_store_there_is_nothing_to_encode_into(discs, make_predictor):
    with pytest.raises(ImageError, match="store=PATH"):
        Segmenter(discs, model=make_predictor()).encode()


def test_a_store_for_reading_only_is_refused_before_anything_is_encoded(discs, make_predictor, tmp_path):
    predictor = make_predictor()
    store = EmbeddingStore(tmp_path / "s", read_only=True)
    with pytest.raises(OutputError, match="read-only"):
        list(Segmenter(discs, model=predictor, store=store).encode())
    assert predictor.encoded == []


def test_a_click_goes_on_when_the_store_is_full_and_says_why(discs, make_predictor, tmp_path, monkeypatch):
    def full(*_):
        raise OutputError("Embeddings cannot be written: make room.")

    segmenter = Segmenter(discs, model=make_predictor(), contrast_limits=(0, 255), store=tmp_path / "s")
    monkeypatch.setattr(EmbeddingStore, "put", full)
    assert segmenter.segment(points=[(150, 150)]).best.area > 0
    assert "make room" in segmenter.encoder.trouble
    with pytest.raises(OutputError, match="make room"):
        list(segmenter.encode())


def test_memory_is_bounded_by_what_is_read_ahead_and_not_by_the_image(make_predictor, tmp_path):
    class Recording:
        shape, dtype = (100_000, 640), np.dtype(np.uint8)
        begun = 0

        def __getitem__(self, key):
            Recording.begun += 1
            rows, cols = (np.arange(*part.indices(n)) for part, n in zip(key, self.shape, strict=True))
            return (rows[:, None] * 7 + cols[None] * 3).astype(np.uint8)

    segmenter = Segmenter(Recording(), model=make_predictor(), contrast_limits=(0, 255), store=tmp_path / "s")
    run = segmenter.encode()
    for _ in range(3):
        next(run)
    assert Recording.begun < 20
    run.close()


def test_the_environment_of_tests_keeps_away_from_the_users_cache():
    assert Path(os.environ["NAPARI_SAM_CACHE"]).parent != Path.home()


def test_a_sweep_counts_what_it_yields(make_predictor, counting_array):
    array = counting_array(np.zeros((3, 700, 500), np.uint8))
    segmenter = Segmenter(array, model=make_predictor(), contrast_limits=(0, 255))
    for box in (None, Box(100, 90, 400, 91), Box(900, 900, 990, 990)):
        sweep = TileSweep(segmenter.encoder, segmenter.planes(), [-1, 0, 2, 9], box)
        assert len(list(sweep)) == len(set(sweep)) == len(sweep)
    assert len(sweep) == 0


def test_a_sweep_over_terapixels_is_counted_without_making_its_tiles(make_predictor, counting_array):
    segmenter = Segmenter(counting_array(shape=(10**6, 10**6)), model=make_predictor(), contrast_limits=(0, 255))
    sweep = TileSweep(segmenter.encoder, segmenter.planes(), [0])
    assert len(sweep) == len(range(0, 10**6 - 64 + 32, 32)) ** 2
    assert next(iter(sweep))[1].read == Box(0, 0, 64, 64)


@pytest.mark.parametrize("slow", [True, False])
def test_where_no_store_is_named_the_model_chooses_it_by_how_long_it_encodes(slow, discs, make_predictor):
    predictor = make_predictor()
    predictor.encode_is_slow = slow
    store = Segmenter(discs, model=predictor, store=default_store).encoder.store
    assert (store is not None and not store.read_only) == slow


def test_a_function_chooses_the_store_for_the_loaded_model(discs, make_predictor, tmp_path):
    asked, predictor = [], make_predictor()

    def choose(model):
        asked.append(model)
        return EmbeddingStore(tmp_path / "chosen")

    segmenter = Segmenter(discs, model=predictor, store=choose)
    assert asked == [predictor]
    assert segmenter.encoder.store.path == tmp_path / "chosen"
    assert list(segmenter.encode())[-1].encoded > 0


def test_tiles_that_were_encoded_into_a_store_are_found_by_the_encoder_that_had_none(discs, make_predictor, tmp_path):
    predictor = make_predictor()
    encoder = Segmenter(discs, model=predictor, contrast_limits=(0, 255)).encoder
    plane = Plane.of(discs.shape)
    list(encoder.encode_all(EmbeddingStore(tmp_path / "store"), TileSweep(encoder, [plane], [0])))
    encoded = len(predictor.encoded)
    tile = encoder.grid(plane).tile_at(0, 150, 150)
    assert encoder.is_ready(plane, tile)
    encoder.embedding(plane, tile)
    assert len(predictor.encoded) == encoded
