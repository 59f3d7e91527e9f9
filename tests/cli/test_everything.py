"""`napari-sam everything`: labels of one image or of many, without the model where it is not needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from tests.cli.checks import Run, assert_objects_describe, assert_one_sentence, contents, text_file
from tests.everything.scenes import discs, picture, segmenter_of

from napari_sam.cli import models as cli_models
from napari_sam.everything.proposal_store import ProposalStore
from napari_sam.files.process_locks import process_lock
from napari_sam.journal.journal import open_journal
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.testing import BlobFinder

SHAPE = (300, 320)
LABELS = discs(SHAPE, [(60, 60), (60, 200), (150, 130), (240, 60), (240, 260)])
OTHERS = discs(SHAPE, [(90, 90), (200, 220)])
OPTIONS = ("--contrast", "0,255", "--sizes", "20,40")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> BlobFinder:
    """The model of every command: a fake, which says what it was asked."""
    fake = BlobFinder()
    monkeypatch.setattr(cli_models, "load", lambda *_, **__: fake)
    return fake


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "discs.tif", picture(LABELS))
    return tmp_path / "discs.tif"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two images, and a file that is none."""
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images/a.tif", picture(LABELS))
    tifffile.imwrite(tmp_path / "images/b.tif", picture(OTHERS))
    text_file(tmp_path / "images", "notes.txt")
    return tmp_path / "images"


def pixels_in(path: Path) -> np.ndarray:
    if path.name.endswith(".ome.zarr"):
        return np.asarray(LabelPyramid.open(path))
    return tifffile.imread(path) if path.suffix == ".tif" else np.asarray(zarr.open_array(path, mode="r"))


def assert_same_objects(found: np.ndarray, truth: np.ndarray) -> None:
    """Check that two label images hold the same objects, whatever their numbers."""
    assert len(np.unique(found)) == len(np.unique(truth))
    for label in np.unique(truth)[1:]:
        (value, count) = np.unique(found[truth == label], return_counts=True)
        best = value[count.argmax()]
        assert best
        assert ((found == best) & (truth == label)).sum() / ((found == best) | (truth == label)).sum() > 0.85


@pytest.mark.parametrize("name", ["l.ome.zarr", "l.tif", "l.zarr"])
def test_one_image_is_labeled_in_the_format_of_the_name(run: Run, model: Any, image: Path, name: str) -> None:
    out = image.with_name(name)
    result = run("everything", image, "--out", out, *OPTIONS)
    assert result.code == 0, result.err
    assert "5 object(s)" in result.out
    assert_same_objects(pixels_in(out), LABELS)


def test_the_json_describes_each_object_as_that_of_segment_does(run: Run, model: Any, image: Path) -> None:
    out, table = image.with_name("l.ome.zarr"), image.with_name("l.json")
    result = run("everything", image, "--out", out, "--json", table, *OPTIONS)
    assert result.code == 0, result.err
    said = json.loads(table.read_text())
    assert said["seconds"] > 0
    assert (said["image"], said["model"], said["plane"]) == (str(image), "compact", [])
    assert_objects_describe(said["objects"], pixels_in(out))
    for entry in said["objects"]:
        assert entry["prompts"]["points"], entry
        assert entry["prompts"]["box"], entry
    run("segment", image, "--point", "60,60", "--json", image.with_name("s.json"), "--contrast", "0,255", "--out",
        image.with_name("s.tif"))  # fmt: skip
    (by_click,) = json.loads(image.with_name("s.json").read_text())["objects"]
    assert by_click.keys() <= said["objects"][0].keys()


def test_every_object_of_a_pyramid_is_in_its_journal_and_the_run_is_one_entry(
    run: Run, model: Any, image: Path
) -> None:
    out = image.with_name("l.ome.zarr")
    assert run("everything", image, "--out", out, *OPTIONS).code == 0
    (journal,) = image.parent.glob("*.journal")
    read = open_journal(journal)
    assert len(read.entries) == 1
    assert len(read.objects) == 5
    with segmenter_of(picture(LABELS), labels=LabelPyramid.open(out), journal=journal) as segmenter:
        assert segmenter.reopen(1).points.shape == (1, 2)
        segmenter.undo()
    assert not pixels_in(out).any()


def test_a_folder_is_labeled_image_by_image_and_what_has_labels_is_left_out(
    run: Run, model: BlobFinder, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    table = tmp_path / "t.json"
    first = run("everything", folder, "--out", out, "--json", table, *OPTIONS)
    assert first.code == 0, first.err
    assert_same_objects(pixels_in(out / "a.ome.zarr"), LABELS)
    assert_same_objects(pixels_in(out / "b.ome.zarr"), OTHERS)
    said = json.loads(table.read_text())
    assert [Path(each["image"]).name for each in said["images"]] == ["a.tif", "b.tif"]
    assert [len(each["objects"]) for each in said["images"]] == [5, 2]
    before = contents(out)
    mirrored = OTHERS[::-1]  # The same pixels would not be encoded again.
    tifffile.imwrite(folder / "c.tif", picture(mirrored))
    model.encoded.clear()
    second = run("everything", folder, "--out", out, *OPTIONS)
    assert second.code == 0, second.err
    assert "2 image(s)" in second.out
    after = contents(out)
    assert {name: after[name] for name in before} == before
    assert_same_objects(pixels_in(out / "c.ome.zarr"), mirrored)
    assert model.encoded


@pytest.mark.parametrize("pattern", ["images/*.tif", "images/[ab].tif"])
def test_a_pattern_names_the_images(run: Run, model: Any, folder: Path, tmp_path: Path, pattern: str) -> None:
    result = run("everything", tmp_path / pattern, "--out", tmp_path / "labels", *OPTIONS)
    assert result.code == 0, result.err
    assert {path.name for path in (tmp_path / "labels").glob("*.ome.zarr")} == {"a.ome.zarr", "b.ome.zarr"}


def test_a_pattern_of_zarr_folders_names_them_too(run: Run, model: Any, tmp_path: Path) -> None:
    for name, labels in (("a.zarr", LABELS), ("b.zarr", OTHERS)):
        zarr.create_array(tmp_path / name, data=picture(labels))
    result = run("everything", tmp_path / "*.zarr", "--out", tmp_path / "labels", *OPTIONS)
    assert result.code == 0, result.err
    assert_same_objects(pixels_in(tmp_path / "labels/b.ome.zarr"), OTHERS)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(run: Run, model: Any, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a[1].tif", picture(OTHERS))
    result = run("everything", tmp_path / "a[1].tif", "--out", tmp_path / "l.tif", *OPTIONS)
    assert result.code == 0, result.err
    assert_same_objects(pixels_in(tmp_path / "l.tif"), OTHERS)


@pytest.mark.parametrize("sizes", [("--sizes", "20,40"), ()])
def test_another_threshold_runs_no_model(run: Run, model: BlobFinder, image: Path, sizes: tuple[str, ...]) -> None:
    out = image.with_name("l.ome.zarr")
    options = ("--contrast", "0,255", *sizes)
    assert run("everything", image, "--out", out, *options).code == 0
    asked = len(model.encoded), len(model.windows)
    assert min(asked) > 0
    none = run("everything", image, "--out", out, *options, "--overwrite", "--confidence", "0.95")
    assert none.code == 0, none.err
    assert not pixels_in(out).any()
    again = run("everything", image, "--out", out, *options, "--overwrite", "--confidence", "0.2")
    assert again.code == 0, again.err
    assert_same_objects(pixels_in(out), LABELS)
    assert (len(model.encoded), len(model.windows)) == asked
    assert run("everything", image, "--out", out, "--contrast", "0,200", *sizes, "--overwrite").code == 0
    assert len(model.encoded) > asked[0], "another contrast is another search"


def test_an_image_whose_pixels_changed_is_searched_again(run: Run, model: BlobFinder, image: Path) -> None:
    out = image.with_name("l.ome.zarr")
    assert run("everything", image, "--out", out, *OPTIONS).code == 0
    tifffile.imwrite(image, picture(OTHERS))
    assert run("everything", image, "--out", out, *OPTIONS, "--overwrite").code == 0
    assert_same_objects(pixels_in(out), OTHERS)


def test_only_a_region_or_what_a_mask_marks_is_searched(run: Run, model: BlobFinder, image: Path) -> None:
    out, mask = image.with_name("l.tif"), image.with_name("mask.tif")
    assert run("everything", image, "--out", out, *OPTIONS, "--region", "40,40,80,220").code == 0
    assert_same_objects(pixels_in(out), np.where(LABELS <= 2, LABELS, 0))
    within = np.zeros(SHAPE, np.uint8)
    within[140:160, 120:140] = 3
    tifffile.imwrite(mask, within)
    model.encoded.clear()
    assert run("everything", image, "--out", out, "--overwrite", *OPTIONS, "--within", mask).code == 0
    assert_same_objects(pixels_in(out), np.where(LABELS == 3, 1, 0))


def test_sizes_filter_what_is_written(run: Run, model: Any, image: Path) -> None:
    mixed = np.where(discs(SHAPE, [(150, 250)], 8) > 0, 6, LABELS)
    tifffile.imwrite(image, picture(mixed))
    out = image.with_name("l.tif")
    assert run("everything", image, "--out", out, "--contrast", "0,255", "--sizes", "10,40").code == 0
    assert_same_objects(pixels_in(out), mixed)
    assert run("everything", image, "--out", out, "--contrast", "0,255", "--sizes", "24,40", "--overwrite").code == 0
    assert_same_objects(pixels_in(out), LABELS)


def test_all_planes_of_a_volume_are_labeled_or_the_one_that_is_named(run: Run, model: Any, tmp_path: Path) -> None:
    volume = np.stack([picture(LABELS), picture(OTHERS)])
    tifffile.imwrite(tmp_path / "v.tif", volume, photometric="minisblack")
    out = tmp_path / "l.ome.zarr"
    result = run("everything", tmp_path / "v.tif", "--out", out, "--json", tmp_path / "t.json", *OPTIONS)
    assert result.code == 0, result.err
    labels = pixels_in(out)
    assert_same_objects(labels[0], LABELS)
    assert_same_objects(labels[1], OTHERS)
    assert len(np.unique(labels)) == 8, "no number is given twice"
    said = json.loads((tmp_path / "t.json").read_text())
    assert [entry["plane"] for entry in said["objects"]] == [[0]] * 5 + [[1]] * 2
    assert run("everything", tmp_path / "v.tif", "--plane", "1", "--out", tmp_path / "one.tif", *OPTIONS).code == 0
    assert_same_objects(pixels_in(tmp_path / "one.tif"), OTHERS)


def test_an_image_without_objects_has_empty_labels(run: Run, model: Any, image: Path) -> None:
    tifffile.imwrite(image, np.full(SHAPE, 20, np.uint8))
    out = image.with_name("l.ome.zarr")
    result = run("everything", image, "--out", out, "--json", image.with_name("t.json"), "--contrast", "0,255")
    assert result.code == 0, result.err
    assert not pixels_in(out).any()
    assert json.loads(image.with_name("t.json").read_text())["objects"] == []


def test_what_is_there_is_not_replaced_without_being_told(run: Run, model: Any, image: Path) -> None:
    out = image.with_name("l.ome.zarr")
    assert run("everything", image, "--out", out, *OPTIONS).code == 0
    before = contents(image.parent)
    result = run("everything", image, "--out", out, *OPTIONS)
    assert result.code != 0
    assert "--overwrite" in assert_one_sentence(result.err)
    assert contents(image.parent) == before


BAD = {
    "no image": (["missing.tif", "--out", "l.tif"], "missing.tif"),
    "no match": (["*.png", "--out", "labels"], "*.png"),
    "text": (["notes.txt", "--out", "l.tif"], "notes.txt"),
    "one output for many": (["discs.tif", "two.tif", "--out", "l.tif"], "folder"),
    "a file as folder": (["discs.tif", "two.tif", "--out", "notes.txt"], "folder"),
    "two of one name": (["discs.tif", "more/discs.tif", "--out", "labels"], "rename"),
    "the image itself": (["discs.tif", "--out", "discs.tif", "--overwrite"], "discs.tif"),
    "a region outside": (["discs.tif", "--out", "l.tif", "--region", "900,900,950,950"], "outside"),
    "half a region": (["discs.tif", "--out", "l.tif", "--region", "1,2,3"], "R0,C0,R1,C1"),
    "falling sizes": (["discs.tif", "--out", "l.tif", "--sizes", "40,20"], "diameter"),
    "words as sizes": (["discs.tif", "--out", "l.tif", "--sizes", "small,large"], "--sizes"),
    "a mask of another size": (["discs.tif", "--out", "l.tif", "--within", "small.tif"], "same size"),
    "an empty mask": (["discs.tif", "--out", "l.tif", "--within", "none.tif"], "empty"),
    "no mask": (["discs.tif", "--out", "l.tif", "--within", "missing.tif"], "missing.tif"),
    "a plane that is not there": (["discs.tif", "--out", "l.tif", "--plane", "3"], "plane"),
    "an ending that nobody knows": (["discs.tif", "--out", "l.tif", "--json", "l.csv"], ".json"),
    "JSON that is there": (["discs.tif", "--out", "l.tif", "--json", "here.json"], "--overwrite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(
    run: Run, model: Any, image: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    Path("more").mkdir()
    for path in ("two.tif", "more/discs.tif"):
        tifffile.imwrite(path, picture(OTHERS))
    tifffile.imwrite("small.tif", np.ones((9, 9), np.uint8))
    tifffile.imwrite("none.tif", np.zeros(SHAPE, np.uint8))
    Path("here.json").write_text("{}")
    text_file(image.parent, "notes.txt")
    before = contents(image.parent), sorted(image.parent.rglob("*"))
    arguments, words = BAD[name]
    result = run("everything", *arguments, "--contrast", "0,255")
    assert result.code != 0
    assert words in assert_one_sentence(result.err)
    assert (contents(image.parent), sorted(image.parent.rglob("*"))) == before


def test_a_bad_image_among_many_is_named_and_the_others_are_labeled(
    run: Run, model: Any, folder: Path, tmp_path: Path
) -> None:
    text_file(folder, "b.tif")
    result = run("everything", folder, "--out", tmp_path / "labels", *OPTIONS)
    assert result.code == 1
    assert "b.tif" in result.err
    assert "Traceback" not in result.err
    assert_same_objects(pixels_in(tmp_path / "labels/a.ome.zarr"), LABELS)
    assert [path.name for path in (tmp_path / "labels").glob("*.ome.zarr")] == ["a.ome.zarr"]


def test_a_damaged_tile_of_an_earlier_run_is_done_again(run: Run, model: BlobFinder, image: Path) -> None:
    out = image.with_name("l.ome.zarr")
    assert run("everything", image, "--out", out, *OPTIONS).code == 0
    before = pixels_in(out)
    tiles = sorted(image.with_name("l.ome.zarr.proposals").rglob("*.npz"))
    asked = len(model.encoded)
    tiles[0].write_bytes(b"no archive")
    tiles[1].unlink()
    assert run("everything", image, "--out", out, *OPTIONS, "--overwrite").code == 0
    np.testing.assert_array_equal(pixels_in(out), before)
    assert len(model.encoded) - asked <= 2 * 2, "each once more at twice the resolution"


@pytest.mark.usefixtures("one_predictor")
def test_the_embedded_model_finds_discs_by_the_command(run: Run, image: Path) -> None:
    result = run("everything", image, "--out", image.with_name("l.tif"), "--sizes", "20,40")
    assert result.code == 0, result.err
    assert_same_objects(pixels_in(image.with_name("l.tif")), LABELS)


def test_two_images_of_one_name_get_their_full_names(run, model, folder, tmp_path):
    tifffile.imwrite(folder / "a.tiff", picture(OTHERS))
    code, _, error = run("everything", folder, "--out", tmp_path / "labels", *OPTIONS)
    assert code == 0, error
    names = {path.name for path in (tmp_path / "labels").iterdir() if path.name.endswith(".ome.zarr")}
    assert names == {"a.tif.ome.zarr", "a.tiff.ome.zarr", "b.ome.zarr"}


def test_an_image_whose_last_tile_another_process_does_comes_after_the_others(
    run: Run, model: BlobFinder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "labels"
    assert run("everything", folder, "--out", out, *OPTIONS).code == 0
    before = contents(out)
    for name in ("a", "b"):
        shutil.rmtree(out / f"{name}.ome.zarr")
        shutil.rmtree(out / f"{name}.ome.zarr.journal")
    tile = sorted((out / "a.ome.zarr.proposals").rglob("*.npz"))[0]
    tile.unlink()
    other = process_lock(tile.parent / "claims" / tile.stem)
    assert other.__enter__()
    labeled: list[set[str]] = []

    def released(_: ProposalStore) -> None:
        labeled.append({path.name for path in out.glob("*.ome.zarr")})
        other.__exit__(None, None, None)

    monkeypatch.setattr(ProposalStore, "wait_for_others", released)
    result = run("everything", folder, "--out", out, *OPTIONS)
    assert result.code == 0, result.err
    assert labeled == [{"b.ome.zarr"}]
    after = contents(out)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if "journal" not in name)
