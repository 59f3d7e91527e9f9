"""A laptop lets a cluster encode and decodes by itself; without the cluster it goes on alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.distributed.conftest import local_cluster
from tests.everything.scenes import discs, picture

from napari_sam import Segmenter
from napari_sam.core.predictor import WindowPredictor
from napari_sam.distributed.cluster import Cluster
from napari_sam.embeddings.encoder import TileSweep
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.testing import TIMEOUT, BlobFinder, FakePredictor
from napari_sam.testing.predictors import SIDE

Connect = Callable[..., Cluster]
PIXELS = picture(discs((200, 200), [(60, 60), (150, 140)]))


class Meeting(FakePredictor):
    """Waits, once a file is there, for another process to encode at the same time, and notes that they met."""

    digest = "fake/meeting"  # Workers keep models by their digests.

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def encode(self, tiles: np.ndarray) -> list:
        if (self.folder / "go").exists():
            mine = self.folder / f"here-{os.getpid()}"
            mine.touch()
            end = time.monotonic() + TIMEOUT
            while not (self.folder / "met").exists() and time.monotonic() < end:
                if len(list(self.folder.glob("here-*"))) > 1:
                    (self.folder / "met").touch()
                time.sleep(0.01)
        return super().encode(tiles)


def answer(segmenter: Segmenter) -> np.ndarray:
    return np.stack([mask.to_array(PIXELS.shape) for mask in segmenter.segment(points=[(60, 60)]).masks])


def test_tiles_are_encoded_on_the_cluster_and_answers_are_the_same(scheduler: str, connect: Connect) -> None:
    here, there = FakePredictor(), FakePredictor()
    alone = answer(Segmenter(PIXELS, model=here, contrast_limits=(0, 255)))
    remote = Segmenter(PIXELS, model=there, contrast_limits=(0, 255), scheduler=connect(scheduler))
    np.testing.assert_array_equal(answer(remote), alone)
    assert here.encoded
    assert there.encoded == [], "nothing was encoded here"
    assert there.decoded, "but decoded"


def test_a_model_keeps_all_that_it_can_do(scheduler: str, connect: Connect) -> None:
    segmenter = Segmenter(PIXELS, model=BlobFinder(), scheduler=connect(scheduler))
    assert isinstance(segmenter.predictor, WindowPredictor)
    assert segmenter.predictor.digest == BlobFinder.digest


def test_many_tiles_are_sent_as_fast_as_workers_take_them(scheduler: str, connect: Connect, tmp_path: Path) -> None:
    # As the buttons Plane and Volume of the window do: an array that no worker can open.
    model = Meeting(tmp_path)
    segmenter = Segmenter(PIXELS, model=model, contrast_limits=(0, 255), scheduler=connect(scheduler))
    while segmenter.predictor.batch < 4:  # Until both workers have the model.
        segmenter.predictor.encode(np.zeros((2, SIDE, SIDE, 3), np.uint8))
    (tmp_path / "go").touch()
    store = EmbeddingStore(tmp_path / "store")
    *_, last = segmenter.encoder.encode_all(store, TileSweep(segmenter.encoder, [segmenter.plane()], [0]))
    assert last.done == last.total > 4
    assert last.encoded > 4
    assert model.encoded == []
    assert (tmp_path / "met").exists(), "two workers encode at the same time"


def test_when_the_cluster_goes_away_the_next_tile_is_encoded_here_and_said_so_once(connect: Connect) -> None:
    said: list[str] = []
    model = FakePredictor()
    alone = answer(Segmenter(PIXELS, model=FakePredictor(), contrast_limits=(0, 255)))
    with local_cluster(1) as cluster:
        segmenter = Segmenter(
            PIXELS,
            model=model,
            contrast_limits=(0, 255),
            scheduler=connect(cluster.scheduler_address, warn=said.append),
        )
        segmenter.encoder.embedding(segmenter.plane(), segmenter.encoder.grid(segmenter.plane()).tile(0, 0, 0))
        assert model.encoded == []
    np.testing.assert_array_equal(answer(segmenter), alone)
    assert model.encoded
    assert len(said) == 1
    assert said[0].startswith("Tiles are encoded on this computer from now on. The scheduler has gone away")


def test_a_model_that_cannot_be_sent_is_refused_before_any_work(scheduler: str, connect: Connect) -> None:
    model = FakePredictor()
    model.other = lambda: None  # type: ignore[attr-defined]  A function of a script cannot be sent.
    with pytest.raises(Exception, match="cannot be sent to workers"):
        Segmenter(PIXELS, model=model, scheduler=connect(scheduler))
