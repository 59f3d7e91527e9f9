"""`napari-sam replay`: labels, prompts and classes of a journal, and work that people and commands share."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam.core.masks import iou
from napari_sam.journal.journal import open_journal
from napari_sam.journal.packing.objects import NewObject
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.segmenter import Segmenter

pytestmark = pytest.mark.usefixtures("one_predictor")

COIN, OTHER_COIN, THIRD_COIN = (124, 205), (193, 212), (56, 99)


@pytest.fixture
def work(image, tmp_path, compact) -> Path:
    """The journal of two coins beside their labels."""
    segmenter = Segmenter(image, model=compact, labels=tmp_path / "coins.ome.zarr", journal=True)
    segmenter.accept(segmenter.segment(points=[COIN]), class_name="small")
    segmenter.accept(segmenter.segment(points=[THIRD_COIN]))
    segmenter.undo()
    segmenter.accept(segmenter.segment(box=(173, 190, 214, 235)), class_name="large")
    segmenter.close()
    return tmp_path / "coins.ome.zarr.journal"


def test_replay_gives_the_same_pixels_in_every_form(run, image, work, tmp_path):
    labels = LabelPyramid.open(tmp_path / "coins.ome.zarr")[...]
    assert set(np.unique(labels)) == {0, 1, 2}
    for given in (work, work / "entries.jsonl", tmp_path / "coins.ome.zarr"):
        code, out, err = run("replay", given, "--image", image, "--out", tmp_path / "again.tif", "--overwrite")
        assert (code, err) == (0, "")
        assert "2 object(s) written" in out
        assert np.array_equal(tifffile.imread(tmp_path / "again.tif"), labels)
    run("replay", work, "--out", tmp_path / "again.zarr")
    assert np.array_equal(zarr.open_array(tmp_path / "again.zarr")[...], labels)
    run("replay", work, "--out", tmp_path / "again.ome.zarr", "--image", image)
    assert np.array_equal(LabelPyramid.open(tmp_path / "again.ome.zarr")[...], labels)
    run("replay", work, "--out", tmp_path / "more.ome.zarr")
    assert np.array_equal(LabelPyramid.open(tmp_path / "more.ome.zarr")[...], labels)


def test_replay_by_another_model_tells_how_near_it_comes(run, image, work, tmp_path):
    labels = LabelPyramid.open(tmp_path / "coins.ome.zarr")[...]
    code, out, err = run("replay", work, "--image", image, "--out", tmp_path / "a.tif", "--model", "compact")
    assert (code, err) == (0, "")
    assert float(re.search(r"mean IoU (\d\.\d+)", out)[1]) > 0.99
    assert np.mean(tifffile.imread(tmp_path / "a.tif") == labels) > 0.999


def test_replay_says_that_the_journal_was_made_with_other_weights_of_the_model(run, image, tmp_path, compact):
    labels = tmp_path / "coins.ome.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "digest", f"{'0' * 64}/float32")
        segmenter = Segmenter(image, model=compact, labels=labels, journal=True)
        segmenter.accept(segmenter.segment(points=[COIN]))
        segmenter.close()
    code, out, err = run("replay", labels, "--image", image, "--out", tmp_path / "a.tif", "--model", "compact")
    assert code == 0
    assert err == "The journal was made with other weights of compact: the masks can differ.\n"
    assert "1 object(s) segmented by compact" in out


def test_replay_writes_prompts_that_segment_takes(run, image, work, tmp_path):
    labels = LabelPyramid.open(tmp_path / "coins.ome.zarr")[...]
    for name in ("p.csv", "p.geojson"):
        assert run("replay", work, "--prompts", tmp_path / name)[0] == 0
        code, out, _ = run("segment", image, "--prompts", tmp_path / name, "--out", tmp_path / f"{name}.tif")
        assert (code, "2 object(s) written" in out) == (0, True)
        again = tifffile.imread(tmp_path / f"{name}.tif")
        for label in (1, 2):
            assert iou(again == label, labels == label) > 0.99


def test_replay_writes_classes(run, work, tmp_path):
    labels = LabelPyramid.open(tmp_path / "coins.ome.zarr")[...]
    code, out, _ = run("replay", work, "--semantic", tmp_path / "classes.tif")
    assert code == 0
    assert "1 is small, 2 is large" in out
    assert np.array_equal(tifffile.imread(tmp_path / "classes.tif"), labels)


def test_replay_of_objects_that_were_accepted_together(run, image, tmp_path, compact):
    with Segmenter(image, model=compact, labels=tmp_path / "coins.ome.zarr", journal=True) as segmenter:
        answers = [segmenter.segment(points=[at]) for at in (COIN, OTHER_COIN, THIRD_COIN)]
        segmenter.accept_all([NewObject(answer.best, answer.prompts) for answer in answers], class_name="coin")
        labels = segmenter.labels[...]
    work = tmp_path / "coins.ome.zarr.journal"
    for more in ((), ("--model", "compact")):
        code, out, err = run("replay", work, "--image", image, "--out", tmp_path / "a.tif", "--overwrite", *more)
        assert (code, err, out.startswith("3 object(s)")) == (0, "", True)
        assert np.mean(tifffile.imread(tmp_path / "a.tif") == labels) > 0.999
    for name in ("p.csv", "p.geojson"):
        assert run("replay", work, "--prompts", tmp_path / name)[0] == 0
        code, out, _ = run("segment", image, "--prompts", tmp_path / name, "--out", tmp_path / f"{name}.tif")
        assert (code, "3 object(s) written" in out) == (0, True)
        assert np.mean(tifffile.imread(tmp_path / f"{name}.tif") == labels) > 0.99
    assert run("replay", work, "--semantic", tmp_path / "classes.tif")[0] == 0
    assert np.array_equal(tifffile.imread(tmp_path / "classes.tif"), labels > 0)


def test_replay_says_what_is_wrong_in_one_sentence(run, image, work, tmp_path):
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((20, 20), np.uint8))
    (tmp_path / "bad.journal").mkdir()
    (tmp_path / "bad.journal" / "entries.jsonl").write_bytes(b"nothing\nat all\n")
    out = ("--out", tmp_path / "new.tif")
    for arguments, said in [
        ((work,), "There is nothing to write"),
        ((tmp_path / "missing.journal", *out), "There is no journal"),
        ((tmp_path / "bad.journal", *out), "is not a journal"),
        ((work, "--image", tmp_path / "small.tif", *out), r"of an image of shape \(303, 384\)"),
        ((work, "--image", tmp_path / "gone.tif", *out), "gone.tif"),
        ((work, "--model", "compact", *out), "needs the image"),
        ((work, "--image", image, "--out", image, "--overwrite"), "is the image itself"),
        ((work, "--out", tmp_path / "new.png"), "unknown ending"),
        ((work, "--prompts", tmp_path / "new.txt"), "is no prompt file"),
        ((work, "--out", image), "exists already"),
    ]:
        code, _, err = run("replay", *arguments)
        assert code == 1
        lines = err.strip().splitlines()
        assert len(lines) == 1
        assert re.match(f"Error: .*{said}", lines[0]), err
        assert not (tmp_path / "new.tif").exists()


def test_a_night_and_a_day_are_one_work(run, image, tmp_path, compact):
    (tmp_path / "p.csv").write_text(f"object,row,col\n5,{COIN[0]},{COIN[1]}\n8,{THIRD_COIN[0]},{THIRD_COIN[1]}\n")
    out = tmp_path / "labels.ome.zarr"
    night = ("segment", image, "--prompts", tmp_path / "p.csv", "--out", out, "--journal")
    assert run(*night)[0] == 0
    day = Segmenter(image, model=compact, labels=out, journal=True)
    assert [(row.label, row.prompts.points.tolist()) for row in day.objects] == [(5, [[*COIN]]), (8, [[*THIRD_COIN]])]
    day.delete(5)
    day.accept(day.segment(points=[OTHER_COIN]))
    expected = LabelPyramid.open(out)[...]
    day.close()
    (tmp_path / "p.csv").write_text("object,row,col\n1,125,336\n")
    code, _, err = run(*night, "--append")
    assert (code, err) == (0, "")
    labels = LabelPyramid.open(out)[...]
    assert set(np.unique(labels)) == {0, 8, 9, 10}
    assert np.array_equal(labels[expected > 0], expected[expected > 0])
    assert [row.label for row in open_journal(out).objects] == [8, 9, 10]
    assert run("replay", out, "--out", tmp_path / "again.tif")[0] == 0
    assert np.array_equal(tifffile.imread(tmp_path / "again.tif"), labels)


def test_names_that_are_no_numbers_and_another_image_are_said(run, image, tmp_path):
    (tmp_path / "p.csv").write_text(f"object,row,col\n7,{COIN[0]},{COIN[1]}\nA,193,212\n")
    out = tmp_path / "labels.ome.zarr"
    code, _, err = run("segment", image, "--out", out, "--prompts", tmp_path / "p.csv", "--journal")
    assert code == 0
    assert "labels count from 1" in err
    tifffile.imwrite(tmp_path / "other.tif", np.zeros((303, 384), np.uint8))
    _, _, err = run("replay", out, "--image", tmp_path / "other.tif", "--out", tmp_path / "again.tif")
    assert "names another image" in err


def test_classes_of_a_prompt_file_are_those_of_the_objects(run, image, tmp_path):
    csv, labels = tmp_path / "prompts.csv", tmp_path / "labels.ome.zarr"
    csv.write_text("object,row,col,class\n1,30,30,nucleus\n2,70,70,\n")
    run("segment", image, "--prompts", csv, "--out", labels, "--journal")
    again = tmp_path / "again.csv"
    run("replay", labels, "--prompts", again)
    rows = [line.split(",") for line in again.read_text().splitlines()]
    at = rows[0].index("class")
    assert [row[at] for row in rows[1:]] == ["nucleus", ""]
