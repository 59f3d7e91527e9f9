"""`napari-sam export`: label images with their journals to files of other programs."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile
from tests.cli.checks import assert_one_sentence

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.journal.journal import Journal
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid


@pytest.fixture
def labels(tmp_path):
    """Two objects, one of them a nucleus, beside their journal."""
    path = tmp_path / "cells.ome.zarr"
    target = LabelArray(LabelPyramid.create(path, (40, 50), spacing=(0.5, 0.5), unit="micrometer"))
    with Journal(path.with_name("cells.ome.zarr.journal"), target) as journal:
        for top, name in ((4, "nucleus"), (24, None)):
            mask = Mask(Box(top, 10, top + 8, 20), np.ones((8, 10), bool), 0.8, 0.9)
            journal.accept(Plane.of((40, 50)), mask, class_name=name)
    return path


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_is_written_with_the_units_of_the_labels(run, labels, tmp_path):
    code, out, err = run("export", labels, "--out", tmp_path / "table.csv", "--json", tmp_path / "done.json")
    assert (code, err) == (0, "")
    assert out == f"2 object(s) written to {tmp_path / 'table.csv'} as CSV table\n"
    rows = rows_of(tmp_path / "table.csv")
    assert [(row["label"], row["class"], row["area_um2"]) for row in rows] == [
        ("1", "nucleus", "20.0"),
        ("2", "", "20.0"),
    ]
    done = json.loads((tmp_path / "done.json").read_text())
    assert done == {"path": str(tmp_path / "table.csv"), "format": "CSV table", "objects": 2}


def test_the_image_adds_intensities(run, labels, tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", np.full((40, 50), 7, np.uint8))
    code, _, _ = run("export", labels, "--image", tmp_path / "image.tif", "--out", tmp_path / "table.csv")
    assert code == 0
    assert [row["mean"] for row in rows_of(tmp_path / "table.csv")] == ["7.0", "7.0"]


def test_objects_are_chosen_by_class_and_by_label(run, labels, tmp_path):
    assert run("export", labels, "--out", tmp_path / "a.geojson", "--class", "nucleus").code == 0
    assert run("export", labels, "--out", tmp_path / "b.geojson", "--labels", "2", "--crs", "pixels").code == 0
    found = [json.loads((tmp_path / name).read_text())["features"] for name in ("a.geojson", "b.geojson")]
    assert [[feature["properties"]["object"] for feature in features] for features in found] == [[1], [2]]


def test_squared_and_simplified_outlines(run, labels, tmp_path):
    assert run("export", labels, "--out", tmp_path / "a.geojson", "--simplify", "1.5", "--squared").code == 0
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [len(feature["geometry"]["coordinates"][0]) for feature in features] == [5, 5]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--out", "x.docx"], "unknown ending"),
    (["--out", "x.csv", "--labels", "9"], "There is no object 9"),
    (["--out", "x.csv", "--labels", "one"], "--labels 'one' is not understood"),
    (["--out", "x.csv", "--class", "tree"], "No object has the class 'tree'"),
    (["--out", "x.geojson", "--crs", "wgs84"], "lies on no map"),
    (["--out", "x.csv", "--simplify", "-2"], "from 0 on"),
    (["--out", "cells.ome.zarr", "--overwrite"], "journal of its own"),
    (["--out", "x.csv", "--json", "x.csv"], "unknown ending"),
])  # fmt: skip
def test_refusals_are_one_sentence_and_leave_nothing(run, labels, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    code, out, err = run("export", labels, *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_outputs_and_inputs_stay_apart(run, labels, tmp_path):
    out = tmp_path / "x.json"
    assert "both write to" in run("export", labels, "--out", out, "--json", out).err
    inside = labels / "0" / "table.csv"
    assert "lies inside" in run("export", labels, "--out", inside).err


def test_labels_that_exist_are_kept_without_overwrite(run, labels, tmp_path):
    run("export", labels, "--out", tmp_path / "table.csv", "--labels", "1")
    code, _, err = run("export", labels, "--out", tmp_path / "table.csv")
    assert (code, len(rows_of(tmp_path / "table.csv"))) == (1, 1)
    assert "pass --overwrite" in err
    assert run("export", labels, "--out", tmp_path / "table.csv", "--overwrite").code == 0
    assert len(rows_of(tmp_path / "table.csv")) == 2


@pytest.fixture
def many(tmp_path):
    """The folder of three label images, of which the second is broken, beside the folder of their images."""
    folder, images = tmp_path / "labels", tmp_path / "images"
    folder.mkdir()
    images.mkdir()
    for number, name in enumerate("abc", 1):
        labels = np.zeros((20, 30), np.uint16)
        labels[2:8, 2 : 4 + number] = number
        tifffile.imwrite(folder / f"{name}.tif", labels)
        tifffile.imwrite(images / f"{name}.tif", np.full((20, 30), 10 * number, np.uint8))
    (folder / "b.tif").write_bytes((folder / "b.tif").read_bytes()[:100])
    LabelPyramid.create(folder / "d.ome.zarr", (9, 9))
    return folder


def test_label_images_of_a_folder_are_exported_each_with_its_image(run, many, tmp_path):
    given = ("export", many, "--out", tmp_path / "out" / "*_t.csv", "--json", tmp_path / "done.json")
    code, out, err = run(*given)
    assert code == 1
    assert "3 of 4 image(s) done, 1 failed" in out
    assert "b.tif" in err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_t.csv", "c_t.csv", "d_t.csv"]
    done = json.loads((tmp_path / "done.json").read_text())
    assert [each["objects"] for each in done["images"]] == [1, 1, 0]
    assert [each["image"] for each in done["failed"]] == [str(many / "b.tif")]

    again = run(
        "export", many / "[ac].tif", "--image", tmp_path / "images" / "*.tif", "--out", tmp_path / "i" / "*.csv"
    )
    assert again.code == 0
    assert [rows_of(tmp_path / "i" / f"{name}.csv")[0]["mean"] for name in "ac"] == ["10.0", "30.0"]


def test_exports_that_are_there_are_left_out_or_replaced_on_request(run, many, tmp_path):
    files = [many / "a.tif", many / "c.tif"]
    out = tmp_path / "out" / "*.csv"
    assert run("export", files[0], "--out", out).code == 0
    refused = run("export", *files, "--out", out)
    assert refused.code == 1
    assert "--resume" in refused.err
    resumed = run("export", *files, "--out", out, "--resume")
    assert resumed.code == 0
    assert "1 of 2 image(s) done, 1 image(s) have outputs and were left out" in resumed.out
    assert run("export", *files, "--out", out, "--overwrite").code == 0


def test_several_label_images_are_not_written_to_one_file(run, many, tmp_path):
    refused = run("export", many, "--out", tmp_path / "table.csv")
    assert refused.code == 1
    assert "is one file and there are several label images: name them by --out 'folder/*.csv'" in refused.err


@pytest.fixture
def movie(tmp_path):
    """Three objects through four frames, and the table of which come from which."""
    labels = np.zeros((4, 20, 20), np.uint16)
    labels[:2, 4:8, 4:8] = 1
    labels[2:, 2:5, 4:8] = 2
    labels[2:, 8:11, 4:8] = 3
    tifffile.imwrite(tmp_path / "movie.ome.tif", labels, metadata={"axes": "TYX"})
    (tmp_path / "parents.csv").write_text("Child, parent\n2,1\n3,1\n")
    return tmp_path / "movie.ome.tif"


def test_a_table_says_which_tracks_come_from_which(run, movie, tmp_path):
    out = tmp_path / "movie.tracks.csv"
    assert run("export", movie, "--out", out, "--parents", tmp_path / "parents.csv").code == 0
    assert {(row["track_id"], row["parent"]) for row in rows_of(out)} == {("1", ""), ("2", "1"), ("3", "1")}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("a,b\n1,2\n", "no columns child and parent"),
        ("child,parent\n2,one\n", "Line 2 of"),
        ("child,parent\n2\n", "Line 2 of"),
        ("child,parent\n2,1\n2,3\n", "a second parent"),
        ("child,parent\n9,1\n", "no object 9"),
        (None, "cannot be read"),
    ],
)
def test_a_table_of_parents_that_cannot_be_is_refused_in_one_sentence(run, movie, tmp_path, table, words):
    given = tmp_path / "parents.csv"
    given.unlink()
    if table is not None:
        given.write_text(table)
    code, _, err = run("export", movie, "--out", tmp_path / "movie.tracks.csv", "--parents", given)
    assert code == 1
    assert words in assert_one_sentence(err)
    assert not (tmp_path / "movie.tracks.csv").exists()
