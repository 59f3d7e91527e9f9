"""`napari-sam segment --prompts`: the objects of a file, with and without a journal."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from skimage.data import coins

from napari_sam.journal.journal import open_journal
from napari_sam.labels.pyramid import LabelPyramid

pytestmark = pytest.mark.usefixtures("one_predictor")

COIN, OTHER_COIN, THIRD_COIN = (124, 205), (193, 212), (56, 99)


def test_a_prompt_file_is_segmented_object_by_object(run, image, tmp_path):
    (tmp_path / "p.csv").write_text(
        "object,row,col,label,top,left,bottom,right\n"
        f"7,{COIN[0]},{COIN[1]},1,,,,\n"
        "3,,,,173,190,214,235\n"
        "9,5000,5000,1,,,,\n"
        f"4,{THIRD_COIN[0]},{THIRD_COIN[1]},0,,,,\n"
    )
    out = tmp_path / "labels.tif"
    code, printed, err = run(
        "segment", image, "--prompts", tmp_path / "p.csv", "--out", out, "--json", tmp_path / "o.json"
    )
    assert code == 1
    assert "2 object(s) written" in printed
    assert [line.split(":")[0] for line in err.strip().splitlines()] == ["Object 9 failed", "Object 4 failed"]
    labels = tifffile.imread(out)
    assert set(np.unique(labels)) == {0, 3, 7}
    assert labels[COIN] == 7
    assert labels[OTHER_COIN] == 3
    described = json.loads((tmp_path / "o.json").read_text())
    assert [(one["object"], one["label"]) for one in described["objects"]] == [("7", 7), ("3", 3)]
    assert [one["object"] for one in described["failed"]] == ["9", "4"]
    assert described["objects"][0]["area"] == np.count_nonzero(labels == 7)


def test_a_prompt_file_goes_into_labels_on_disk_and_is_added_to_them(run, image, tmp_path):
    (tmp_path / "p.csv").write_text(f"object,row,col\n70000,{COIN[0]},{COIN[1]}\n")
    (tmp_path / "q.csv").write_text(f"object,row,col\n1,{THIRD_COIN[0]},{THIRD_COIN[1]}\n")
    out = tmp_path / "labels.ome.zarr"
    assert run("segment", image, "--prompts", tmp_path / "p.csv", "--out", out)[0] == 0
    assert LabelPyramid.open(out)[COIN] == 70000
    assert run("segment", image, "--prompts", tmp_path / "q.csv", "--out", out, "--append")[0] == 0
    labels = LabelPyramid.open(out)
    assert (labels[COIN], labels[THIRD_COIN]) == (70000, 70001)


def test_a_prompt_file_of_a_stack_names_its_planes(run, tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([coins(), np.flip(coins(), 0)]), metadata={"axes": "ZYX"})
    (tmp_path / "p.csv").write_text(
        f"object,row,col,plane\n1,{COIN[0]},{COIN[1]},0\n2,{302 - COIN[0]},{COIN[1]},1\n3,1,1,\n4,1,1,5\n"
    )
    code, _, err = run("segment", tmp_path / "stack.tif", "--prompts", tmp_path / "p.csv", "--out", tmp_path / "l.tif")
    assert (code, len(err.strip().splitlines())) == (1, 2)
    labels = tifffile.imread(tmp_path / "l.tif")
    assert labels.shape == (2, 303, 384)
    assert (labels[0][COIN], labels[1, 302 - COIN[0], COIN[1]]) == (1, 2)
    code, _, err = run(
        "segment", tmp_path / "stack.tif", "--prompts", tmp_path / "p.csv", "--plane", 1, "--out", tmp_path / "m.tif"
    )
    assert "Object 1 failed: It lies in plane 0" in err
    one = tifffile.imread(tmp_path / "m.tif")
    assert one.shape == (303, 384)
    assert np.array_equal(one == 2, labels[1] == 2)


@pytest.mark.parametrize("name", ["7", "coin"])
def test_an_object_of_a_prompt_file_lies_in_several_planes_also_after_it_was_resumed(run, tmp_path, name):
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([coins(), np.flip(coins(), 0)]), metadata={"axes": "ZYX"})
    flipped = 302 - COIN[0], COIN[1]
    rows = f"{name},{COIN[0]},{COIN[1]},0\n8,{THIRD_COIN[0]},{THIRD_COIN[1]},0\n{name},{flipped[0]},{flipped[1]},1\n"
    (tmp_path / "p.csv").write_text(f"object,row,col,z\n{rows}")
    out, files = tmp_path / "l.ome.zarr", ("--prompts", tmp_path / "p.csv", "--json", tmp_path / "o.json")
    for more in ((), ("--append",)):
        code, printed, _ = run(
            "segment", tmp_path / "stack.tif", *files, "--out", out, "--journal", "--overwrite", *more
        )
        assert code == 0
        assert "2 object(s) written" in printed
        first, other = json.loads((tmp_path / "o.json").read_text())["objects"]
        labels = LabelPyramid.open(out)
        label = int(labels[(0, *COIN)])
        assert label == (7 if name == "7" else 1)
        assert labels[(1, *flipped)] == label == first["label"] != other["label"]
        assert (first["object"], [part["plane"] for part in first["planes"]]) == (name, [[0], [1]])
        areas = [int(np.count_nonzero(labels[z] == label)) for z in range(2)]
        assert [part["area"] for part in first["planes"]] == areas
        assert first["area"] == sum(areas)
        assert other["planes"][0]["box"] == other["box"]
    journal = open_journal(out)
    assert {found.label: len(found.parts) for found in journal.objects} == {label: 2, other["label"]: 1}
    assert run("replay", out, "--prompts", tmp_path / "again.csv")[0] == 0
    code, _, _ = run(
        "segment", tmp_path / "stack.tif", "--prompts", tmp_path / "again.csv", "--out", tmp_path / "m.tif"
    )
    assert code == 0
    assert np.array_equal(tifffile.imread(tmp_path / "m.tif") == label, np.asarray(labels[:]) == label)


def test_prompts_on_the_map_find_their_object(run, tmp_path):
    pytest.importorskip("rasterio", reason="rasterio is not installed: pip install '.[geo]'")
    from napari_sam.images.axes.georeference import Georeference
    from napari_sam.images.rasters.gdal import read_georeference, write_labels_geotiff

    place = Georeference("EPSG:32633", (0.5, 0.0, 400_000.0, 0.0, -0.5, 5_400_000.0))
    write_labels_geotiff(tmp_path / "map.tif", coins(), place)
    x, y = 400_000 + 0.5 * (COIN[1] + 0.5), 5_400_000 - 0.5 * (COIN[0] + 0.5)
    feature = {
        "type": "Feature",
        "properties": {"object": 5},
        "geometry": {"type": "Point", "coordinates": [x, y]},
    }
    (tmp_path / "p.geojson").write_text(json.dumps(feature))
    code, _, err = run(
        "segment", tmp_path / "map.tif", "--prompts", tmp_path / "p.geojson", "--out", tmp_path / "labels.tif"
    )
    assert (code, err) == (0, "")
    labels = tifffile.imread(tmp_path / "labels.tif")
    assert labels[COIN] == 5
    assert read_georeference(tmp_path / "labels.tif").transform == place.transform


def test_prompt_files_that_cannot_be_used_are_told_in_one_sentence(run, image, tmp_path):
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "far.csv").write_text("object,row,col\n1,5000,5000\n")
    for arguments, said in [
        (("--prompts", tmp_path / "none.csv"), "There is no prompt file"),
        (("--prompts", tmp_path / "none.txt"), "is no prompt file"),
        (("--prompts", tmp_path / "bad.csv"), "has the columns a, b"),
        (("--prompts", tmp_path / "bad.csv", "--point", "1,1"), "from a file or from the command line"),
        (("--prompts", tmp_path / "far.csv"), "None of the 1 object"),
    ]:
        code, _, err = run("segment", image, *arguments, "--out", tmp_path / "new.tif")
        assert code == 1
        last = err.strip().splitlines()[-1]
        assert last.startswith("Error: ")
        assert said in last
        assert not (tmp_path / "new.tif").exists()


def test_a_journal_that_would_not_fit_is_not_left_beside_new_labels(run, image, tmp_path):
    (tmp_path / "p.csv").write_text(f"object,row,col\n5,{COIN[0]},{COIN[1]}\n")
    (tmp_path / "far.csv").write_text("object,row,col\n5,9000,0\n")
    out = tmp_path / "labels.tif"
    asked = ("segment", image, "--out", out, "--prompts")
    assert run(*asked, tmp_path / "far.csv", "--journal")[0] == 1
    assert not (tmp_path / "labels.tif.journal").exists()
    assert run(*asked, tmp_path / "p.csv", "--journal")[0] == 0
    assert [row.label for row in open_journal(out).objects] == [5]
    code, _, err = run(*asked, tmp_path / "p.csv", "--overwrite")
    assert code == 1
    assert "would not fit its new labels" in err
    assert run(*asked, tmp_path / "p.csv", "--overwrite", "--journal")[0] == 0
    assert len(open_journal(out).entries) == 1
    assert "name it by --prompts" in run("segment", image, "--out", out, *("--point", "1,1"), "--journal")[2]
    code, _, err = run("replay", out, "--out", out, "--overwrite")
    assert code == 1
    assert "has a journal of its own" in err


def test_a_click_does_not_go_past_the_journal_beside_the_labels(run, image, tmp_path):
    (tmp_path / "p.csv").write_text(f"object,row,col\n5,{COIN[0]},{COIN[1]}\n")
    out = tmp_path / "labels.ome.zarr"
    assert run("segment", image, "--out", out, "--prompts", tmp_path / "p.csv", "--journal")[0] == 0
    code, _, err = run("segment", image, "--out", out, "--append", "--point", "193,212")
    assert code == 1
    assert "give the prompts as a file" in err
    assert len(open_journal(out).objects) == 1
