"""Tracks: read back as the programs of the field read them, with gaps, divisions and objects that live on."""

from __future__ import annotations

import csv
import importlib.util

import numpy as np
import pytest
import tifffile

from napari_sam import Segmenter, export_labels
from napari_sam.core.masks import mask_of
from napari_sam.errors import LabelsError, OutputError
from napari_sam.exports.exporting import source_of
from napari_sam.exports.formats import suitable_formats
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource, Place
from napari_sam.exports.tracks import ctc
from napari_sam.images.axes.calibration import Calibration
from napari_sam.images.volume import Volume
from napari_sam.testing.predictors import FakePredictor

needs_geff = pytest.mark.skipif(importlib.util.find_spec("geff") is None, reason="geff is missing: pip install geff")
SHAPE = (6, 20, 30)


@pytest.fixture
def movie():
    """Shape (t, y, x): 1 divides into 2 and 3 and 2 divides; 5 is away for a frame; 7 buds 8 and lives on."""
    labels = np.zeros(SHAPE, np.uint16)
    labels[0:2, 2:6, 2:8] = 1
    labels[2:4, 2:4, 2:5] = 2
    labels[2:6, 2:4, 6:9] = 3
    labels[4:6, 2:3, 2:4] = 10
    labels[4:6, 5:6, 2:4] = 11
    labels[[0, 1, 3, 5], 8:10, 2:4] = 5
    labels[1:6, 12:16, 2:5] = 7
    labels[3:5, 12:14, 8:9] = 8
    labels[5, 19, 29] = 9
    return labels


PARENTS = {2: 1, 3: 1, 10: 2, 11: 2, 8: 7}


@pytest.fixture
def image(tmp_path, movie):
    """The path of an image whose file names its axes."""
    path = tmp_path / "movie.ome.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    metadata = {"axes": "TYX", "TimeIncrement": 30.0, "TimeIncrementUnit": "s", **sizes}
    tifffile.imwrite(path, movie.astype(np.uint8), ome=True, metadata=metadata)
    return path


def read_ctc(folder):
    """Return the masks and the table, checked as the challenge's own programs do."""
    masks = [tifffile.imread(path) for path in sorted(folder.glob("mask*.tif"))]
    assert all(mask.dtype == np.uint16 for mask in masks)
    masks = np.stack(masks)
    rows = np.loadtxt(folder / "res_track.txt", dtype=int, ndmin=2)
    table = {number: (begin, end, parent) for number, begin, end, parent in rows.tolist()}
    assert set(table) == set(np.unique(masks)) - {0}
    for number, (begin, end, parent) in table.items():
        there = np.flatnonzero((masks == number).any(axis=tuple(range(1, masks.ndim))))
        assert there.tolist() == list(range(begin, end + 1))
        assert parent == 0 or table[parent][1] < begin
    return masks, table


def test_masks_and_tracks_are_those_of_the_challenge(tmp_path, movie, image):
    exported = export_labels(movie, tmp_path / "01_RES", image=image, parents=PARENTS)
    assert exported.count == 9
    masks, table = read_ctc(tmp_path / "01_RES")
    assert np.array_equal(masks > 0, movie > 0)
    is_same = np.isin(movie, [1, 2, 3, 8, 9, 10, 11])
    assert np.array_equal(masks[is_same], movie[is_same])
    assert [table[number] for number in (1, 2, 3, 10, 11)] == [(0, 1, 0), (2, 3, 1), (2, 5, 1), (4, 5, 2), (4, 5, 2)]
    # One that is away, and one that lives on, begin again as their own daughters.
    assert (table[5], table[12], table[13]) == ((0, 1, 0), (3, 3, 5), (5, 5, 12))
    assert (table[7], table[14], table[8]) == ((1, 2, 0), (3, 5, 7), (3, 4, 7))


def test_volumes_through_time_are_stacks_whatever_the_order_of_the_axes(tmp_path, movie):
    labels = np.stack([movie, np.roll(movie, 5, axis=2)], axis=-1)  # t, y, x, z.
    source = ExportSource(labels, Place(Calibration("tyxz")), parents=PARENTS)
    (tmp_path / "out").mkdir()
    ctc.CellTrackingChallenge().write(source, tmp_path / "out" / "01_RES", ExportOptions())
    masks, _ = read_ctc(tmp_path / "out" / "01_RES")
    assert np.array_equal(masks > 0, labels.transpose(0, 3, 1, 2) > 0)


def test_only_results_are_replaced(tmp_path, movie, image):
    for parents in (PARENTS, {}):
        export_labels(movie, tmp_path / "01_RES", image=image, parents=parents, overwrite=True)
    assert all(parent in (0, 5, 10, 12) for _, _, parent in read_ctc(tmp_path / "01_RES")[1].values())
    (tmp_path / "01_RES" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is a folder and not a zarr array, so it is not replaced"):
        export_labels(movie, tmp_path / "01_RES", image=image, overwrite=True)
    assert (tmp_path / "01_RES" / "notes.txt").read_text() == "mine"


def test_labels_that_16_bits_do_not_hold_are_refused(tmp_path, movie, image):
    labels = movie.astype(np.uint32) + 70_000 * (movie > 0).astype(np.uint32)
    with pytest.raises(LabelsError, match="labels up to 65535"):
        export_labels(labels, tmp_path / "01_RES", image=image)
    assert not (tmp_path / "01_RES").exists()


@pytest.mark.parametrize("ending", ["_RES", ".geff", ".tracks.csv"])
def test_labels_without_time_are_refused_and_not_offered(tmp_path, movie, ending):
    form = next(form for form in suitable_formats(ExportSource(movie, Place(Calibration("tyx"))))
                if form.suffixes[0] == ending.lower())  # fmt: skip
    assert form not in suitable_formats(ExportSource(movie))
    if form.library is None:
        with pytest.raises(OutputError, match="no time axis: name the axes of their image"):
            export_labels(movie, tmp_path / f"a{ending}")


@pytest.mark.parametrize("parents", [{1: 2}, {3: 2}, {1: 1}])
def test_a_daughter_that_is_not_younger_is_refused(tmp_path, movie, image, parents):
    with pytest.raises(LabelsError, match="which does not begin before it: correct its parent"):
        export_labels(movie, tmp_path / "a.tracks.csv", image=image, parents=parents)


def test_parents_of_objects_that_are_not_exported_are_left_out(tmp_path, movie, image):
    export_labels(movie, tmp_path / "02_RES", image=image, parents={**PARENTS, 99: 1}, labels=[2, 10, 11])
    assert read_ctc(tmp_path / "02_RES")[1] == {2: (2, 3, 0), 10: (4, 5, 2), 11: (4, 5, 2)}


def test_a_tracks_layer_of_napari_takes_the_table(tmp_path, movie, image):
    layers = pytest.importorskip("napari.layers", reason="napari is not installed: pip install '.[gui]'")
    export_labels(movie, tmp_path / "a.tracks.csv", image=image, parents=PARENTS)
    with (tmp_path / "a.tracks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    data = np.array([[float(row[name]) for name in ("track_id", "t", "y", "x")] for row in rows])
    graph = {int(row["track_id"]): [int(row["parent"])] for row in rows if row["parent"]}
    layer = layers.Tracks(data, graph=graph)
    assert {child: parents[0] for child, parents in layer.graph.items()} == PARENTS
    for label, time, *center in layer.data.tolist():
        assert center == pytest.approx(np.argwhere(movie[int(time)] == label).mean(axis=0).tolist())
    assert len(rows) == sum(len(np.unique(frame)) - 1 for frame in movie)


@needs_geff
def test_a_graph_is_read_and_found_valid_by_its_own_library(tmp_path, movie, image):
    import geff
    from geff.validate.data import ValidationConfig, validate_data

    path = tmp_path / "a.geff"
    for _ in range(2):
        assert export_labels(movie, path, image=image, parents=PARENTS, overwrite=True).count == 9
    geff.validate_structure(path)
    memory = geff.core_io.read_to_memory(path)
    validate_data(memory, ValidationConfig(graph=True, tracklet=True, lineage=True))
    props = {name: found["values"] for name, found in memory["node_props"].items()}
    for label, time, y, x, size in zip(*(props[name] for name in ("label", "t", "y", "x", "size")), strict=True):
        at = np.argwhere(movie[time] == label)
        assert len(at) == size
        assert [y, x] == pytest.approx(at.mean(axis=0).tolist())
    edges = {(int(props["label"][a]), int(props["label"][b])) for a, b in memory["edge_ids"]}
    assert {(parent, child) for parent, child in edges if parent != child} == {(b, a) for a, b in PARENTS.items()}
    assert all(props["t"][a] < props["t"][b] for a, b in memory["edge_ids"])
    assert len(np.unique(props["lineage"])) == 4
    axes = {axis.name: axis for axis in memory["metadata"].axes}
    assert (axes["x"].scale, axes["x"].scaled_unit, axes["x"].unit) == (0.5, "micrometer", "pixel")
    assert (axes["t"].scale, axes["t"].scaled_unit, axes["t"].unit) == (30.0, "second", "frame")


@needs_geff
@pytest.mark.parametrize("ending", ["_RES", ".geff", ".tracks.csv"])
def test_a_movie_of_nothing_is_written(tmp_path, image, ending):
    path = tmp_path / f"01{ending}"
    assert export_labels(np.zeros(SHAPE, np.uint8), path, image=image).count == 0
    assert path.exists()


def test_a_source_of_an_open_image_has_its_time_axis(movie, image):
    assert source_of(movie, Volume.of(image), ExportOptions()).axes == "tyx"


def test_parents_in_the_journal_are_exported(tmp_path, movie, image):
    labels = np.zeros_like(movie)
    with Segmenter(image, labels=labels, journal=tmp_path / "j", model=FakePredictor()) as segmenter:
        for label in (1, 2, 3):
            for at in np.flatnonzero((movie == label).any((1, 2))):
                segmenter.accept(mask_of(movie[at] == label), label=label, plane=int(at))
        segmenter.set_parents({2: 1, 3: 1})
        segmenter.export(tmp_path / "01_RES")
    _, table = read_ctc(tmp_path / "01_RES")
    assert {number: parent for number, (_, _, parent) in table.items()} == {1: 0, 2: 1, 3: 1}
