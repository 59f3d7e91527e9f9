"""A bucket holds image, embeddings and labels of a run, and claims on its tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.everything.scenes import discs, picture

from napari_sam import Segmenter
from napari_sam.cli import models as cli_models
from napari_sam.distributed.cluster import Cluster
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.files.claims import expiring_claim
from napari_sam.testing import BlobFinder, FakePredictor

moto = pytest.importorskip("moto.server")
fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs")

Connect = Callable[..., Cluster]
PIXELS = picture(discs((300, 300), [(60, 60), (150, 140)]))
# Of the libraries that talk to the server, in their own words.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of a bucket on a server of this computer."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("data")
        yield "s3://data"
    server.stop()


def put(url: str, pixels: np.ndarray) -> str:
    import zarr

    array = zarr.create_array(url, shape=pixels.shape, chunks=(64, 64), dtype=pixels.dtype)
    array[:] = pixels
    return url


def test_of_two_claims_on_an_object_one_is_granted(bucket: str) -> None:
    for _ in range(2):
        with expiring_claim(f"{bucket}/claims/1") as first, expiring_claim(f"{bucket}/claims/1") as second:
            assert (first, second) == (True, False)
    assert not fsspec.filesystem("s3").exists(f"{bucket}/claims/1")


def test_a_bucket_holds_image_embeddings_and_labels(bucket: str) -> None:
    import zarr

    image = put(f"{bucket}/image.zarr", PIXELS)
    labels = zarr.open_array(put(f"{bucket}/labels.zarr", np.zeros(PIXELS.shape, np.uint16)), mode="r+")
    store = f"{bucket}/embeddings"
    model = FakePredictor()
    segmenter = Segmenter(image, model=model, contrast_limits=(0, 255), store=store, labels=labels)
    *_, last = segmenter.encode(levels=[0, 1])
    assert last.done == last.total
    assert last.encoded == len(model.encoded) > 0
    *_, again = Segmenter(image, model=model, contrast_limits=(0, 255), store=store).encode(levels=[0, 1])
    assert (again.encoded, again.known) == (0, last.encoded + last.known)
    assert segmenter.accept(segmenter.segment(points=[(60, 60)]).best) == 1
    written = np.asarray(zarr.open_array(f"{bucket}/labels.zarr", mode="r")[:])
    assert written[60, 60] == 1
    assert (PIXELS[written > 0] == 200).mean() > 0.9
    names = {name.rsplit("/", 1)[1] for name in fsspec.filesystem("s3").ls("data")}
    assert {"image.zarr", "labels.zarr", "embeddings"} <= names


def test_a_run_has_image_embeddings_and_labels_in_a_bucket(
    bucket: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    import zarr

    model = BlobFinder()
    monkeypatch.setattr(cli_models, "load", lambda *_, **__: model)
    image, options = put(f"{bucket}/run.zarr", PIXELS), ("--contrast", "0,255", "--scheduler", scheduler)
    encoded = run("encode", image, "--store", f"{bucket}/run.embeddings", *options)
    assert encoded.code == 0, encoded.err
    labeled = run("everything", image, "--out", f"{bucket}/run.ome.zarr", "--sizes", "20,40", *options)
    assert labeled.code == 0, labeled.err
    assert model.encoded == [], "the workers did it"
    labels = np.asarray(zarr.open_group(f"{bucket}/run.ome.zarr", mode="r")["0"])
    assert len(np.unique(labels)) == 3
    assert (PIXELS[labels > 0] == 200).mean() > 0.9
    names = {name.rsplit("/", 1)[1] for name in fsspec.filesystem("s3").ls("data")}
    assert {"run.zarr", "run.embeddings", "run.ome.zarr", "run.ome.zarr.journal"} <= names
    again = run("everything", image, "--out", f"{bucket}/run.ome.zarr", "--sizes", "20,40", *options)
    assert again.code == 1
    assert "exists already" in again.err


def test_a_cluster_encodes_from_a_bucket_into_a_bucket(bucket: str, scheduler: str, connect: Connect) -> None:
    # In this order, so that the workers have the address of the server in their environment.
    image = put(f"{bucket}/shared.zarr", PIXELS)
    segmenter = Segmenter(
        image,
        model=FakePredictor(),
        contrast_limits=(0, 255),
        store=f"{bucket}/together",
        scheduler=connect(scheduler),
    )
    *_, last = segmenter.encode()
    assert last.done == last.total
    assert segmenter.predictor.encoded == []
    plane = segmenter.plane()
    _, digest = segmenter.encoder._rendered(plane, segmenter.encoder.grid(plane).tile(0, 1, 1))
    assert EmbeddingStore(f"{bucket}/together").has(digest, FakePredictor.digest)


def test_a_store_at_a_url_keeps_processes_apart(tmp_path: Path) -> None:
    one, other = (EmbeddingStore(f"memory://{tmp_path.name}/store") for _ in range(2))
    with one.process_lock("1" * 40) as first, other.process_lock("1" * 40) as second:
        assert (first, second) == (True, False)
