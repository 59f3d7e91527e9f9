"""Embeddings that a cluster encodes are those that one process encodes, in a folder that all of it shares."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tifffile
from tests.everything.scenes import discs, picture

from napari_sam import Segmenter
from napari_sam.distributed.cluster import Cluster
from napari_sam.distributed.shared_image import SharedImage, SharedStore
from napari_sam.embeddings.encoder import EncodeProgress
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import ImageError, ModelError, OutputError
from napari_sam.testing import FakePredictor

Connect = Callable[..., Cluster]
PIXELS = picture(discs((300, 300), [(60, 60), (150, 140)]))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "image.tif", PIXELS)
    return tmp_path / "image.tif"


def encoded(image: Path, store: Path, cluster: Cluster | None = None) -> EncodeProgress:
    segmenter = Segmenter(image, model=FakePredictor(), contrast_limits=(0, 255), store=store, scheduler=cluster)
    *_, last = segmenter.encode(levels=[0, 1])
    return last


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_cluster_encodes_what_one_process_encodes(
    scheduler: str, connect: Connect, image: Path, tmp_path: Path
) -> None:
    alone = encoded(image, tmp_path / "alone")
    cluster = connect(scheduler)
    together = encoded(image, tmp_path / "together", cluster)
    assert together.done == together.total == alone.total
    assert together.encoded + together.known == alone.encoded + alone.known
    assert together.empty == alone.empty > 0
    assert files_of(tmp_path / "together") == files_of(tmp_path / "alone")
    again = encoded(image, tmp_path / "together", cluster)
    assert (again.encoded, again.done) == (0, again.total)


def test_tiles_that_another_process_encodes_are_left_to_it_until_it_ends(
    scheduler: str, connect: Connect, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EmbeddingStore(tmp_path / "store")
    segmenter = Segmenter(
        image, model=FakePredictor(), contrast_limits=(0, 255), store=store, scheduler=connect(scheduler)
    )
    plane = segmenter.plane()
    _, digest = segmenter.encoder._rendered(plane, segmenter.encoder.grid(plane).tile(0, 1, 1))
    lock = store.process_lock(digest)
    assert lock.__enter__()
    waited: list[bool] = []

    def released(_: EmbeddingStore) -> None:
        waited.append(True)
        if len(waited) == 2:
            lock.__exit__(None, None, None)

    monkeypatch.setattr(EmbeddingStore, "wait_for_others", released)
    *_, last = segmenter.encode()
    assert len(waited) >= 2
    assert last.done == last.total
    assert store.has(digest, FakePredictor.digest)


@pytest.fixture
def shared(image: Path) -> SharedImage:
    segmenter = Segmenter(image, model=FakePredictor(), contrast_limits=(0, 255))
    return SharedImage.of(image, segmenter._read_as, segmenter.encoder)


def test_a_machine_with_another_image_of_the_name_is_told(shared: SharedImage, image: Path) -> None:
    tifffile.imwrite(image, PIXELS + 1)
    with pytest.raises(ImageError, match=r"another image at .* that all machines share"):
        shared.open()


def test_a_machine_with_other_weights_is_told(image: Path, compact) -> None:
    segmenter = Segmenter(image, model=compact)
    shared = SharedImage.of(image, segmenter._read_as, segmenter.encoder)
    assert shared.model.name == "compact"
    assert shared.open().predictor.digest == compact.digest
    other = type(shared.model)("0" * 40 + "/float32", "compact", "float32")
    with pytest.raises(ModelError, match="other weights of the model compact: copy the same file"):
        other.load()


def test_a_machine_that_does_not_see_the_folder_of_the_store_is_told(tmp_path: Path) -> None:
    mark = "1" * 40
    store = EmbeddingStore(tmp_path / "store")
    with store.process_lock(mark):
        assert SharedStore(tmp_path / "store", mark).open().path == store.path
        shutil.rmtree(tmp_path / "store")
        with pytest.raises(OutputError, match=r"does not see the folder .* by --store"):
            SharedStore(tmp_path / "store", mark).open()
