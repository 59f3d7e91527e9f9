"""The window lets a cluster encode, says what is wrong with an address, and goes on alone."""

from __future__ import annotations

import pytest
from tests.distributed.conftest import local_cluster

from napari_sam.distributed import cluster as connecting
from napari_sam.errors import ClusterError


@pytest.fixture
def working(viewer, make_controller):
    controller = make_controller(viewer)
    controller.session.set_image(viewer.layers["coins"])
    return controller


def test_tiles_are_encoded_by_workers_until_the_cluster_goes_away(working, viewer, monkeypatch):
    build = lambda: working.jobs.builder(viewer.layers["coins"])(lambda _: None)  # noqa: E731
    with local_cluster(1) as cluster:
        working.session.set_scheduler(cluster.scheduler_address)
        segmenter = build()
        here = segmenter.predictor.on_this_computer
        encode, encoded = here.encode, []
        monkeypatch.setattr(here, "encode", lambda tiles: [encoded.append(tiles), *encode(tiles)][1:])
        plane = segmenter.plane()
        grid = segmenter.encoder.grid(plane)
        segmenter.encoder.embedding(plane, grid.tile(0, 0, 0))
        assert encoded == []
    with pytest.warns(UserWarning, match="encoded on this computer from now on"):
        segmenter.encoder.embedding(plane, grid.tile(-1, 0, 0))
    assert len(encoded) == 1
    working.session.set_scheduler(None)
    alone = build()
    assert alone.cluster is None
    assert alone.predictor is here


def test_an_address_without_a_scheduler_is_one_sentence(working, viewer, monkeypatch):
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 0.5)
    working.session.set_scheduler("tcp://127.0.0.1:1")
    with pytest.raises(ClusterError, match="There is no scheduler at"):
        working.jobs.builder(viewer.layers["coins"])(lambda _: None)
