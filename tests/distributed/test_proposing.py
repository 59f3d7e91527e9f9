"""A search on a cluster finds what one in this process finds, byte for byte, whatever happens to the workers."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from tests.distributed.conftest import local_cluster
from tests.everything.scenes import SIZES, assert_each_is_found_once, discs, picture

from napari_sam import Segmenter
from napari_sam.distributed import shared_image
from napari_sam.distributed.cluster import Cluster
from napari_sam.everything.found import FoundObjects
from napari_sam.tasks.everything import found_in, opened_sweep, sweep_into
from napari_sam.testing import BlobFinder

Connect = Callable[..., Cluster]
SHAPE = (480, 560)
LABELS = discs(SHAPE, [(60, 60), (168, 168), (168, 300), (312, 168), (400, 500), (240, 420)])


class Mortal(BlobFinder):
    """Kills its process at the third tile, once.

    Parameters
    ----------
    trace
        A file that says that it happened.
    """

    digest = "fake-blobs/mortal"  # Workers keep models by their digests.

    def __init__(self, trace: Path) -> None:
        super().__init__()
        self.trace = trace

    def encode(self, tiles: np.ndarray) -> list:
        if len(self.encoded) == 2 and not self.trace.exists():
            self.trace.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(tiles)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "image.tif", picture(LABELS))
    return tmp_path / "image.tif"


def segmenter_of(image: Path, model: BlobFinder | None = None, cluster: Cluster | None = None) -> Segmenter:
    return Segmenter(image, model=model or BlobFinder(), contrast_limits=(0, 255), scheduler=cluster)


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.npz")}


def assert_equal(one: FoundObjects, other: FoundObjects) -> None:
    for name, array in one.proposals.arrays.items():
        np.testing.assert_array_equal(array, other.proposals.arrays[name])


@pytest.fixture
def alone(image: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of the tiles of a run in this process."""
    segmenter = segmenter_of(image)
    store, sweep = opened_sweep(tmp_path / "alone", segmenter, segmenter.plane(), sizes=SIZES)
    list(sweep_into(store, sweep))
    assert_each_is_found_once(found_in(store, sweep, segmenter.plane()), LABELS)
    return files_of(store.path)


def run_into(folder: Path, segmenter: Segmenter) -> tuple[dict[str, bytes], int]:
    """Run on the cluster of a segmenter; return the files, and how many tiles were done now."""
    store, sweep = opened_sweep(folder, segmenter, segmenter.plane(), sizes=SIZES)
    *_, last = sweep_into(store, sweep, runner=segmenter.proposing_runner(sweep, store))
    assert last.done == last.total
    return files_of(store.path), last.encoded


def test_a_run_of_two_workers_leaves_the_files_of_one_process(
    scheduler: str, connect: Connect, image: Path, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    found, encoded = run_into(tmp_path / "run", segmenter_of(image, cluster=connect(scheduler)))
    assert found == alone
    assert encoded == len(alone), "each tile once"


def test_a_run_of_which_a_worker_is_killed_leaves_the_same_files(
    scheduler: str, connect: Connect, image: Path, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    model = Mortal(tmp_path / "killed")
    found, encoded = run_into(tmp_path / "run", segmenter_of(image, model, connect(scheduler)))
    assert model.trace.exists()
    assert found == alone
    assert encoded <= len(alone), "less where a worker wrote a tile and could not say so any more"


def test_a_run_that_was_stopped_goes_on_with_what_is_left(
    scheduler: str, connect: Connect, image: Path, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    segmenter = segmenter_of(image, cluster=connect(scheduler))
    store, sweep = opened_sweep(tmp_path / "run", segmenter, segmenter.plane(), sizes=SIZES)
    steps = sweep_into(store, sweep, runner=segmenter.proposing_runner(sweep, store))
    *_, last = itertools.islice(steps, 5)
    steps.close()
    found, encoded = run_into(tmp_path / "run", segmenter)
    assert found == alone
    assert encoded <= len(alone) - last.encoded


def test_workers_that_do_not_see_the_store_return_what_they_propose(
    scheduler: str, connect: Connect, image: Path, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    segmenter = segmenter_of(image, cluster=connect(scheduler))
    store, sweep = opened_sweep(tmp_path / "run", segmenter, segmenter.plane(), sizes=SIZES)
    *_, last = sweep_into(store, sweep, runner=segmenter.proposing_runner(sweep))
    assert last.encoded == last.total
    assert files_of(store.path) == alone


def test_a_script_finds_the_same_with_a_cluster_and_within_a_mask(
    scheduler: str, connect: Connect, image: Path
) -> None:
    within = np.zeros(SHAPE, bool)
    within[150:330, 150:330] = True
    here, there = segmenter_of(image), segmenter_of(image, cluster=connect(scheduler))
    assert_equal(there.everything(sizes=SIZES, within=within), here.everything(sizes=SIZES, within=within))
    assert here.predictor.encoded
    assert there.predictor.encoded == []


class Counted(BlobFinder):
    """A model of one test, of which workers are asked what they have encoded."""

    digest = "fake-blobs/counted"


def encoded_there(digest: str) -> int:
    """Return how many tiles this worker has encoded by a model."""
    model = shared_image._models.get(digest.encode())
    return 0 if model is None else len(model.encoded)


def test_of_a_sparse_image_workers_encode_only_tiles_with_pixels(
    scheduler: str, connect: Connect, tmp_path: Path
) -> None:
    # Of the others no chunk is stored, so that they hold the fill value.
    array = zarr.create_array(tmp_path / "sparse.zarr", shape=(2000, 2000), chunks=(64, 64), dtype=np.uint8)
    array[: SHAPE[0], : SHAPE[1]] = np.where(LABELS > 0, 200, 20)
    cluster = connect(scheduler)
    segmenter = Segmenter(
        tmp_path / "sparse.zarr", model=Counted(), contrast_limits=(0, 255), scheduler=cluster, store=tmp_path / "store"
    )
    *_, last = segmenter.everything_steps(sizes=SIZES)
    assert_each_is_found_once(last.found, np.pad(LABELS, ((0, 2000 - SHAPE[0]), (0, 2000 - SHAPE[1]))))
    filled = sum(
        tile.read.top < SHAPE[0] and tile.read.left < SHAPE[1]
        for tile in segmenter.sweep(plane=segmenter.plane(), sizes=SIZES).tiles
    )
    assert last.total > 5 * filled
    encoded = sum(cluster.client.run(encoded_there, Counted.digest).values())
    assert filled <= encoded <= 2 * filled, "each once, and once at twice the resolution"
    *_, progress = segmenter.encode()
    assert progress.encoded + progress.known + progress.empty == progress.done == progress.total
    assert progress.empty > 0.9 * progress.total
    after = sum(cluster.client.run(encoded_there, Counted.digest).values())
    assert after == encoded + progress.encoded


def test_the_tiles_of_an_array_are_sent_to_the_workers(scheduler: str, connect: Connect) -> None:
    volume = np.stack([np.full(SHAPE, 20, np.uint8), picture(LABELS)])
    within = np.zeros(SHAPE, bool)
    within[:330] = True
    options = {"sizes": SIZES, "within": within, "plane": 1}
    here, there = (
        Segmenter(volume, model=BlobFinder(), contrast_limits=(0, 255), rgb=False, spacing=(3, 1, 1), scheduler=where)
        for where in (None, connect(scheduler))
    )
    found = here.everything(**options)
    assert len(found)
    assert_equal(there.everything(**options), found)
    assert here.predictor.encoded
    assert there.predictor.encoded == []


def test_when_the_cluster_goes_away_the_other_tiles_of_an_array_are_searched_here(connect: Connect) -> None:
    said: list[str] = []
    with local_cluster(1) as cluster:
        connected = connect(cluster.scheduler_address, warn=said.append)
        array = Segmenter(picture(LABELS), model=BlobFinder(), contrast_limits=(0, 255), scheduler=connected)
        steps = array.everything_steps(sizes=SIZES)
        for _ in range(3):
            next(steps)
    *_, last = steps
    assert_each_is_found_once(last.found, LABELS)
    assert said[0].startswith("Objects are searched on this computer from now on. The scheduler has gone away")


def test_a_tile_that_another_process_works_on_is_done_at_the_end(
    scheduler: str, connect: Connect, image: Path, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    segmenter = segmenter_of(image, cluster=connect(scheduler))
    store, sweep = opened_sweep(tmp_path / "run", segmenter, segmenter.plane(), sizes=SIZES)
    store.begin(sweep.levels)
    with store.claimed(sweep.tiles[0]) as is_mine:
        assert is_mine
        runner = segmenter.proposing_runner(sweep, store)
        *_, last = sweep_into(store, sweep, waits=False, runner=runner)
    assert last.done == last.total - 1
    found, encoded = run_into(tmp_path / "run", segmenter)
    assert (found, encoded) == (alone, 1)
