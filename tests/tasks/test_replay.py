"""Work that is kept, gone on with and done again: by the scripting API and by the command."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from skimage.data import coins

from napari_sam import models
from napari_sam.core.cleaning import Cleaning
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask, iou
from napari_sam.errors import LabelsError, OutputError
from napari_sam.journal.discovery import find_journal
from napari_sam.journal.journal import open_journal
from napari_sam.journal.semantic import ClassMap, update_semantic, write_semantic
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.targets import LabelTarget
from napari_sam.segmenter import Segmenter
from napari_sam.tasks.replay import overlap_of, replay_prompts

COIN, OTHER_COIN, THIRD_COIN = (124, 205), (193, 212), (56, 99)


def disc(shape, row, col, radius):
    rows, cols = np.indices(shape)
    return (rows - row) ** 2 + (cols - col) ** 2 <= radius**2


@pytest.fixture
def discs():
    """Two discs and a bar."""
    image = np.full((300, 340), 12, np.uint8)
    image[disc(image.shape, 80, 90, 11)] = 220
    image[disc(image.shape, 200, 230, 25)] = 160
    image[125:165, 20:220] = 240
    return image


SMALL, LARGE, BAR = (80, 90), (200, 230), (145, 120)


@pytest.fixture
def open_segmenter(fake_predictor):
    opened = []

    def make(image, **options) -> Segmenter:
        opened.append(Segmenter(image, model=fake_predictor, **options))
        return opened[-1]

    yield make
    for segmenter in opened:
        segmenter.close()


def test_without_a_journal_all_is_as_before_and_the_rest_says_what_it_needs(open_segmenter, discs):
    segmenter = open_segmenter(discs)
    assert segmenter.accept(segmenter.segment(points=[SMALL])) == 1
    assert segmenter.undo().area > 0
    for act in (
        segmenter.redo,
        lambda: segmenter.objects,
        lambda: segmenter.reopen(1),
        lambda: segmenter.delete(1),
        lambda: segmenter.classify(1, "cell"),
        lambda: segmenter.accept(segmenter.segment(points=[SMALL]), class_name="cell"),
    ):
        with pytest.raises(LabelsError, match="There is no journal"):
            act()
    assert not segmenter.labels.any()


def test_an_object_is_kept_with_what_it_was_segmented_by(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal", gamma=0.5)
    first = segmenter.segment(points=[SMALL, (140, 120)], labels=[1, 0])
    segmenter.segment(points=[LARGE], downsample=2)
    large = segmenter.segment(points=[LARGE], downsample=2)[2]
    # Accepted in another order than segmented.
    assert segmenter.accept(first, class_name="seed") == 1
    assert segmenter.accept(large, overlap="overwrite") == 2
    small, big = segmenter.objects
    assert (small.label_class.name, small.area, big.label_class) == ("seed", first.best.area, None)
    assert np.array_equal(small.prompts.points, [SMALL, (140, 120)])
    assert small.prompts.labels.tolist() == [True, False]
    made = big.parts[0].made
    assert (made.candidate, made.downsample, made.model, made.model_digest) == ("large", 2, "fake", "fake/1")
    assert (made.level, made.tile) == (large.tile.level, large.tile.read)
    assert made.rendering == segmenter.encoder.rendering
    assert made.rendering.gamma == 0.5
    assert small.parts[0].made.candidate == "best"
    assert np.array_equal(big.mask.pixels, large.pixels)
    assert big.iou_prediction == large.iou_prediction


def test_an_object_is_reopened_corrected_deleted_and_all_of_it_undone(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal")
    states = [segmenter.labels.copy()]

    def did() -> None:
        states.append(segmenter.labels.copy())

    label = segmenter.accept(segmenter.segment(points=[SMALL]))
    did()
    segmenter.accept(segmenter.segment(points=[BAR]))
    did()
    prompts = segmenter.reopen(label)
    again = segmenter.segment(points=[*prompts.points.tolist(), LARGE], labels=[*prompts.labels.tolist(), 1])
    assert segmenter.accept(again[2], label=label) == label
    did()
    assert np.array_equal(segmenter.labels == label, again[2].to_array(discs.shape) & (states[2] != 2))
    segmenter.classify(label, "pair")
    did()
    segmenter.delete(label)
    did()
    assert set(np.unique(segmenter.labels)) == {0, 2}
    while segmenter.undo():
        states.pop()
        assert np.array_equal(segmenter.labels, states[-1])
    assert len(states) == 1
    while segmenter.redo():
        pass
    assert [row.label for row in segmenter.objects] == [2]


def test_a_mask_from_elsewhere_is_reopened_as_a_mask(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal")
    label = segmenter.accept(Mask(Box(3, 4, 9, 9), np.ones((6, 5), bool)))
    prompts = segmenter.reopen(label)
    assert prompts.mask.box == prompts.box == Box(3, 4, 9, 9)
    assert np.isnan(segmenter.objects[0].iou_prediction)


def test_masks_are_cleaned_before_they_are_written(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal")
    pixels = np.ones((9, 9), bool)
    pixels[4, 4] = pixels[0, 1] = pixels[1, :2] = False
    mask = Mask(Box(0, 0, 9, 9), pixels)
    segmenter.accept(mask, cleaning=Cleaning(fill_holes=None, minimum_size=5))
    assert segmenter.labels[4, 4] == 1
    assert segmenter.labels[0, 0] == 0
    with pytest.raises(LabelsError, match="empty"):
        segmenter.accept(mask, cleaning=Cleaning(minimum_size=1000))


def test_opening_the_image_again_goes_on(open_segmenter, discs):
    segmenter = open_segmenter(discs, journal=True)
    for at in (SMALL, LARGE, BAR):
        segmenter.accept(segmenter.segment(points=[at]))
    segmenter.undo()
    before = segmenter.labels.copy()
    with pytest.raises(OutputError, match="in use"):
        open_segmenter(discs, journal=True)
    segmenter.close()
    # Another array of the same pixels, and labels in memory that are gone.
    again = open_segmenter(discs.copy(), journal=True)
    assert np.array_equal(again.labels, before)
    assert again.redo().label == 3
    again.close()
    other = discs.copy()
    other[0, 0] += 1
    assert open_segmenter(other, journal=True).objects == []


def test_labels_given_in_memory_get_the_objects_back_where_they_hold_nothing(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal")
    segmenter.accept(segmenter.segment(points=[SMALL]))
    segmenter.close()
    empty, other = np.zeros(discs.shape, np.uint8), np.zeros(discs.shape, np.uint8)
    other[0, 0] = 7
    open_segmenter(discs, labels=empty, journal=tmp_path / "a.journal").close()
    assert np.array_equal(empty, segmenter.labels)
    open_segmenter(discs, labels=other, journal=tmp_path / "a.journal").close()
    assert other.sum() == 7
    with pytest.raises(LabelsError, match="shape"):
        open_segmenter(np.zeros((9, 9), np.uint8), journal=tmp_path / "a.journal")


def test_the_journal_lies_beside_labels_on_disk(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, labels=tmp_path / "a.ome.zarr", journal=True)
    label = segmenter.accept(segmenter.segment(points=[SMALL]))
    segmenter.close()
    assert (tmp_path / "a.ome.zarr.journal" / "journal.sqlite").exists()
    again = open_segmenter(discs, labels=tmp_path / "a.ome.zarr", journal=True)
    assert [row.label for row in again.objects] == [label]
    again.undo()
    assert not np.asarray(again.labels[...]).any()
    plain = zarr.create_array(tmp_path / "b.zarr", shape=discs.shape, dtype="u2")
    assert find_journal(again.volume, None, plain).name == "b.zarr.journal"
    assert find_journal(again.volume, "a.tif", None) != find_journal(again.volume, "b.tif", None)


def test_done_again_by_the_same_model_it_is_the_same(open_segmenter, discs, make_predictor, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal")
    segmenter.accept(segmenter.segment(points=[SMALL])[0])
    segmenter.accept(segmenter.segment(points=[BAR]))
    segmenter.accept(segmenter.segment(points=[LARGE], downsample=4)[2], label=1)
    segmenter.delete(2)
    segmenter.accept(segmenter.segment(box=(60, 70, 100, 110)))
    segmenter.accept(Mask(Box(280, 0, 290, 10), np.ones((10, 10), bool)))
    segmenter.close()
    target = LabelTarget(np.zeros(discs.shape, np.uint16))
    outcomes = list(
        replay_prompts(open_journal(tmp_path / "a.journal"), Segmenter(discs, model=make_predictor()), target)
    )
    assert [(one.name, one.iou, one.error) for one in outcomes] == [("1", 1, None), ("3", 1, None), ("4", None, None)]
    assert np.array_equal(target.array, segmenter.labels)


def test_the_overlap_of_two_masks():
    one, two = Mask(Box(0, 0, 4, 4), np.ones((4, 4), bool)), Mask(Box(2, 2, 6, 6), np.ones((4, 4), bool))
    assert overlap_of(one, two) == 4 / 28


@pytest.mark.parametrize("kind", ["numpy", "zarr", "pyramid"])
def test_semantic_labels_of_the_same_objects(open_segmenter, discs, tmp_path, kind):
    shape = discs.shape
    labels = {
        "numpy": lambda: np.zeros(shape, np.uint16),
        "zarr": lambda: zarr.create_array(tmp_path / "l.zarr", shape=shape, dtype="u2", chunks=(64, 64)),
        "pyramid": lambda: LabelPyramid.create(tmp_path / "l.ome.zarr", shape, chunks=(64, 64)),
    }[kind]()
    segmenter = open_segmenter(discs, labels=labels, journal=tmp_path / "a.journal")
    one, two, three = (segmenter.accept(segmenter.segment(points=[at])) for at in (SMALL, LARGE, BAR))
    segmenter.classify(one, "seed")
    segmenter.classify(two, "stone")
    instances = np.asarray(segmenter.labels[...])
    semantic = zarr.create_array(tmp_path / "s.zarr", shape=shape, dtype="u1", chunks=(32, 32))
    write_semantic(segmenter.labels, semantic, ClassMap.of(segmenter.objects))
    expected = np.where(instances == one, 1, np.where(instances == two, 2, 0))
    assert np.array_equal(semantic[...], expected)
    segmenter.classify(three, "stone")
    found = next(row for row in segmenter.objects if row.label == three)
    update_semantic(segmenter.labels, semantic, ClassMap.of(segmenter.objects), found.plane, found.box)
    assert np.array_equal(semantic[...], np.where(instances == three, 2, expected))
    write_semantic(segmenter.labels, semantic, ClassMap.of([], others=5))
    assert np.array_equal(semantic[...], np.where(instances > 0, 5, 0))
    with pytest.raises(LabelsError, match="does not fit"):
        write_semantic(segmenter.labels, semantic, ClassMap.of([], others=256))
    with pytest.raises(LabelsError, match="make them equal"):
        write_semantic(segmenter.labels, np.zeros((3, 3), np.uint8), ClassMap.of([]))


@pytest.fixture(scope="module", autouse=True)
def _one_predictor_on_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_predictor", lru_cache(models.load_predictor))
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "coins.tif"
    tifffile.imwrite(path, coins())
    return path


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


def test_names_that_are_no_numbers_and_another_image_are_said(run, image, tmp_path):
    (tmp_path / "p.csv").write_text(f"object,row,col\n7,{COIN[0]},{COIN[1]}\nA,193,212\n")
    out = tmp_path / "labels.ome.zarr"
    code, _, err = run("segment", image, "--out", out, "--prompts", tmp_path / "p.csv", "--journal")
    assert code == 0
    assert "labels count from 1" in err
    tifffile.imwrite(tmp_path / "other.tif", np.zeros((303, 384), np.uint8))
    _, _, err = run("replay", out, "--image", tmp_path / "other.tif", "--out", tmp_path / "again.tif")
    assert "names another image" in err


def test_the_page_about_the_journal_runs_as_it_stands(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))
    page = (Path(__file__).parents[2] / "docs" / "guides" / "journal.md").read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    assert names["semantic"].max() == 1
    coin, other = names["coin"], names["other"]
    with Segmenter(coins(), journal=True) as again:
        assert [(item.label, item.label_class.name) for item in again.objects] == [(coin, "coin")]
        again.undo()
        assert [item.label for item in again.objects] == [coin, other]


def test_classes_of_a_prompt_file_are_those_of_the_objects(run, image, tmp_path):
    csv, labels = tmp_path / "prompts.csv", tmp_path / "labels.ome.zarr"
    csv.write_text("object,row,col,class\n1,30,30,nucleus\n2,70,70,\n")
    run("segment", image, "--prompts", csv, "--out", labels, "--journal")
    again = tmp_path / "again.csv"
    run("replay", labels, "--prompts", again)
    rows = [line.split(",") for line in again.read_text().splitlines()]
    at = rows[0].index("class")
    assert [row[at] for row in rows[1:]] == ["nucleus", ""]
