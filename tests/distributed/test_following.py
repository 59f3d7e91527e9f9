"""Objects that a cluster follows are written as those that one process follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from napari_sam import Segmenter
from napari_sam.distributed.cluster import Cluster
from napari_sam.distributed.shared_image import SharedImage
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.options import ImageOptions
from napari_sam.testing import FakePredictor

Connect = Callable[..., Cluster]
DEPTH, SIDE = 5, 96


def volume() -> np.ndarray:
    """Return a volume of two bright columns that lean."""
    pixels = np.full((DEPTH, SIDE, SIDE), 20, np.uint8)
    for z in range(DEPTH):
        pixels[z, 10 + z : 34 + z, 12:36] = 200
        pixels[z, 56 - z : 80 - z, 50:76] = 150
    return pixels


def followed(
    image: Path, cluster: Cluster | None = None, store: Path | None = None
) -> tuple[np.ndarray, dict[int, list[int]], FakePredictor]:
    model = FakePredictor()
    segmenter = Segmenter(
        image,
        model=model,
        contrast_limits=(0, 255),
        axes=(1, 2),
        rgb=False,
        scheduler=cluster,
        spacing=(1, 1, 1),
        store=store,
    )
    for point in ((24, 24), (66, 62)):
        segmenter.accept(segmenter.segment(points=[point], plane=2).best)
    written = segmenter.propagate(axis=0, engine="prompts")
    return np.asarray(segmenter.labels), written, model


def test_a_cluster_follows_what_one_process_follows(scheduler: str, connect: Connect, tmp_path: Path) -> None:
    image = tmp_path / "volume.tif"
    tifffile.imwrite(image, volume(), photometric="minisblack")
    labels, written, here = followed(image)
    assert set(written) == {1, 2}
    assert sum(map(len, written.values())) > 2, "something was followed"
    again, also, there = followed(image, connect(scheduler))
    assert also == written
    np.testing.assert_array_equal(again, labels)
    assert here.encoded
    assert there.encoded == []


def test_workers_that_follow_fill_the_store_and_read_from_it(scheduler: str, connect: Connect, tmp_path: Path) -> None:
    image, store = tmp_path / "volume.tif", tmp_path / "store"
    tifffile.imwrite(image, volume(), photometric="minisblack")
    cluster = connect(scheduler)
    labels, written, _ = followed(image, cluster, store)
    kept = EmbeddingStore(store).count
    again, also, here = followed(image, store=store)
    assert here.encoded == [], "what the workers have encoded is there"
    assert kept == EmbeddingStore(store).count >= DEPTH
    assert also == written
    np.testing.assert_array_equal(again, labels)


def test_workers_do_without_a_store_that_they_do_not_see(tmp_path: Path) -> None:
    image = tmp_path / "volume.tif"
    tifffile.imwrite(image, volume(), photometric="minisblack")
    segmenter = Segmenter(image, model=FakePredictor(), store=tmp_path / "elsewhere")
    shared = SharedImage.of(image, ImageOptions(), segmenter.encoder)
    (tmp_path / "elsewhere").rmdir()
    assert shared.open().store is None
    assert not (tmp_path / "elsewhere").exists()
