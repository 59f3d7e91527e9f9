"""`napari-sam evaluate`: the table that it writes, and manifests that it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from skimage.data import coins
from tests.cli.checks import (
    Run,
    assert_one_sentence,
    contents,
    text_file,
)
from tests.evaluation.found import FoundMasks

from napari_sam.core.geometry import Box, Plane
from napari_sam.segmenter import Segmenter

pytestmark = pytest.mark.usefixtures("one_predictor")


SUBSET_KEYS = {
    *("n", "miou", "best_of_3", "box_miou", "noc80", "noc85", "noc90", "predicted_miou"),
    *("off_center_miou", "off_center_loss", "boundary_f", "box_boundary_f", "seconds_first_click", "seconds_click"),
    *("dense_foreground_iou", "dense_border_f", "dense_center_error"),
}
# Of these the mean row has no mean over the subsets.
MEDIANS = {"seconds_first_click", "seconds_click"}
PROGRESS = re.compile(r".*\d+/\d+ [-\d]+:[-\d]+:[-\d]+\s*\n")
ESTIMATE_KEYS = {"iou_spearman", "iou_calibration_error", "iou_bias"}


def _manifest(folder: Path, entries: Any) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A manifest of real coins: labelled one by one, as one class, and as a small volume with a part to ignore."""
    crop = coins()[92:220, 160:300]
    parts, count = ndimage.label(ndimage.binary_opening(ndimage.gaussian_filter(crop, 1.5) > 115, iterations=2))
    assert count >= 2
    Image.fromarray(crop).save(tmp_path / "image.png")
    Image.fromarray(parts.astype(np.uint8)).save(tmp_path / "instances.png")
    Image.fromarray(((parts > 0) * 255).astype(np.uint8)).save(tmp_path / "classes.png")
    tifffile.imwrite(tmp_path / "volume.tif", np.stack([crop // 2, crop]), photometric="minisblack")
    volume = np.stack([np.zeros_like(parts), parts]).astype(np.uint8)
    volume[:, :4] = 255
    tifffile.imwrite(tmp_path / "volume_labels.tif", volume, photometric="minisblack")
    return _manifest(
        tmp_path,
        [
            {"image": "image.png", "mask": "instances.png", "subset": "one by one", "kind": "instance", "shape": [1]},
            {"image": "image.png", "mask": "classes.png", "subset": "class", "kind": "semantic"},
            {
                "image": "volume.tif",
                "mask": "volume_labels.tif",
                "subset": "volume",
                "kind": "volume",
                "ignore_label": 255,
            },
        ],
    )


def test_evaluate_writes_the_table_in_the_agreed_form(run: Run, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    arguments = ("--max-clicks", 2, "--objects-per-subset", 1, "--seed", 3)
    result = run("evaluate", labelled, "--json", out, *arguments)
    assert result.code == 0, result.err
    table = json.loads(out.read_text())
    assert table.keys() == {"model", "subsets", "mean"}
    assert table["model"] == "compact"
    assert table["subsets"].keys() == {"one by one", "class", "volume"}
    for row in table["subsets"].values():
        assert row.keys() == SUBSET_KEYS
        assert row["n"] == 1
        assert len(row["miou"]) == 2
        assert all(0 <= value <= 1 for value in (*row["miou"], row["best_of_3"], row["box_miou"]))
        assert row["best_of_3"] >= row["miou"][0]
        assert 1 <= row["noc80"] <= row["noc85"] <= row["noc90"] <= 3
        assert len(row["boundary_f"]) == 2
        assert all(0 < value <= 1 for value in (*row["boundary_f"], row["box_boundary_f"], row["off_center_miou"]))
        assert row["off_center_loss"] == pytest.approx(row["miou"][0] - row["off_center_miou"], abs=2e-4)
        assert row["seconds_first_click"] > 0
        assert row["seconds_click"] > 0
        assert 0 <= row["dense_center_error"] < 1, "the middle of a coin"
        assert row["miou"][0] >= 0.6, "one click on a coin"
    estimates = {key + suffix for key in ESTIMATE_KEYS for suffix in ("", "_first")}
    assert table["mean"].keys() == SUBSET_KEYS | estimates
    for key in SUBSET_KEYS - {"n"} - MEDIANS:
        if table["mean"][key] is None:  # Weights without a head for foreground and border.
            assert key in {"dense_foreground_iou", "dense_border_f"}
            continue
        expected = np.mean([row[key] for row in table["subsets"].values()], axis=0)
        np.testing.assert_allclose(table["mean"][key], expected, atol=1e-4)
    assert "one by one" in result.out
    for column in ("NoC85", "NoC90", "off-center", "boundary F, 1 click", "s per click", "center error, radii"):
        assert column in result.out
    assert f"{table['mean']['box_boundary_f']:.3f}" in result.out
    assert f"{table['mean']['iou_bias']:+.3f}" in result.out
    refused = run("evaluate", labelled, "--json", out)
    assert refused.code != 0
    assert "--overwrite" in assert_one_sentence(refused.err)
    assert json.loads(out.read_text()) == table


def test_evaluate_measures_only_what_a_split_keeps_out_with_baselines_beside_it(
    run: Run, labelled: Path, tmp_path: Path
) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"kept_out": ["volume.tif"]}))
    (tmp_path / "image.png").unlink()  # What is not kept out is not even read.
    out = tmp_path / "table.json"
    arguments = ("--max-clicks", 1, "--objects-per-subset", 2, "--split", split, "--baselines")
    result = run("evaluate", labelled, "--json", out, *arguments)
    assert result.code == 0, result.err
    table = json.loads(out.read_text())
    assert table["subsets"].keys() == table["baselines"]["subsets"].keys() == {"volume"}
    classical = table["baselines"]["subsets"]["volume"]
    assert classical["n"] == table["subsets"]["volume"]["n"] == 2
    assert classical["flood_miou"] > 0.5, "a coin is brighter than its ground"
    assert table["baselines"]["mean"]["flood_miou"] == classical["flood_miou"]
    assert "walker" in result.out
    assert f"{classical['flood_miou']:.3f}" in result.out, "no figure is cut, however narrow the terminal"
    assert "\u2026" not in result.out


def test_a_split_of_other_images_is_refused(run: Run, labelled: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"kept_out": ["other.png"]}))
    result = run("evaluate", labelled, "--json", tmp_path / "table.json", "--split", split)
    assert result.code != 0
    assert "its paths must be the manifest's" in assert_one_sentence(result.err)
    missing = run("evaluate", labelled, "--json", tmp_path / "table.json", "--split", tmp_path / "none.json")
    assert missing.code != 0
    assert "none.json cannot be read" in assert_one_sentence(missing.err)
    assert not (tmp_path / "table.json").exists()


def _wrong_shape(folder: Path) -> Path:
    Image.fromarray(coins()).save(folder / "image.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "mask.png")
    return _manifest(folder, [_entry()])


def _entry(**changes: Any) -> dict[str, Any]:
    return {"image": "image.png", "mask": "mask.png", "subset": "mine", "kind": "instance", **changes}


def _pair(folder: Path, side: int = 60, **changes: Any) -> Path:
    """Return a manifest of an image whose labels hold one square."""
    Image.fromarray(coins()).save(folder / "image.png")
    mask = np.zeros(coins().shape, np.uint8)
    mask[5 : 5 + side, 5 : 5 + side] = 1
    Image.fromarray(mask).save(folder / "mask.png")
    return _manifest(folder, [_entry(**changes)])


BAD_MANIFESTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "missing.json", "cannot be read"),
    "a folder": (lambda folder: folder, "cannot be read"),
    "text": (lambda folder: text_file(folder, "manifest.json"), "unknown form"),
    "an object": (lambda folder: _manifest(folder, {"images": []}), "unknown form"),
    "a number": (lambda folder: _manifest(folder, 7), "unknown form"),
    "entries without masks": (
        lambda folder: _manifest(folder, [{"image": "a.png", "subset": "x", "kind": "instance"}]),
        "mask",
    ),
    "an unknown kind": (lambda folder: _pair(folder, kind="panoptic"), "kind"),
    "a volume that is flat": (lambda folder: _pair(folder, kind="volume"), ""),
    "no images": (lambda folder: _manifest(folder, []), "manifest"),
    "no object that is large enough": (lambda folder: _pair(folder, side=6), "40 pixels"),
    "an image that is missing": (lambda folder: _manifest(folder, [_entry()]), "no file"),
    "labels of another shape": (_wrong_shape, "shape"),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_a_bad_manifest_is_one_sentence_and_writes_no_table(run: Run, tmp_path: Path, name: str) -> None:
    make, words = BAD_MANIFESTS[name]
    manifest = make(tmp_path)
    before = contents(tmp_path)
    result = run("evaluate", manifest, "--json", tmp_path / "table.json", "--max-clicks", 1)
    assert result.code != 0
    assert words in assert_one_sentence(PROGRESS.sub("", result.err))
    assert contents(tmp_path) == before


def test_evaluate_with_an_unknown_model_or_output(run: Run, labelled: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("--json", tmp_path / "table.json", "--model", "sam9000"), "compact"),
        (("--json", tmp_path / "table.csv"), ".json"),
    ):
        result = run("evaluate", labelled, *arguments)
        assert result.code != 0
        assert words in assert_one_sentence(result.err)
    assert not list(tmp_path.glob("table*"))


# Everything that the model finds

EVERYTHING_KEYS = {"images", "objects", "msa", "f1_50", "ap50", "pq", "seconds_per_megapixel", "watershed"}


@pytest.fixture
def finds_bright_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a segmenter find the bright parts of a plane, of which the coins of `labelled` are a few pixels larger."""

    def everything(self: Segmenter, *, plane: Plane) -> FoundMasks:
        pixels = self.volume.read(plane, Box.of_shape(plane.shape_in(self.shape)))
        parts, count = ndimage.label(ndimage.gaussian_filter(pixels.squeeze(), 1.5) > 105)
        return FoundMasks(tuple(parts == part + 1 for part in range(count)), np.full(count, 0.9))

    monkeypatch.setattr(Segmenter, "everything", everything, raising=False)


@pytest.mark.usefixtures("finds_bright_parts")
def test_everything_is_measured_in_the_agreed_form(run: Run, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    result = run("evaluate", labelled, "--everything", "--json", out)
    assert result.code == 0, result.err
    table = json.loads(out.read_text())
    assert table.keys() == {"model", "subsets", "mean"}
    assert table["model"] == "compact"
    assert table["subsets"].keys() == {"one by one", "class", "volume"}
    for row in (*table["subsets"].values(), table["mean"]):
        assert row.keys() == EVERYTHING_KEYS
        assert row["watershed"].keys() == {"msa", "f1_50"}
        figures = [row[key] for key in ("msa", "f1_50", "ap50", "pq")] + list(row["watershed"].values())
        assert all(0 < figure <= 1 for figure in figures)
        assert row["pq"] < row["f1_50"]
        assert row["seconds_per_megapixel"] > 0
    assert [row["images"] for row in table["subsets"].values()] == [1, 1, 1]
    assert table["mean"]["objects"] == sum(row["objects"] for row in table["subsets"].values())
    for text in ("one by one", "mSA", "AP50", "watershed F1", f"{table['mean']['pq']:.3f}"):
        assert text in result.out


@pytest.mark.usefixtures("finds_bright_parts")
def test_a_few_images_of_each_subset_and_only_what_a_split_keeps_out(run: Run, labelled: Path, tmp_path: Path) -> None:
    entries = json.loads(labelled.read_text())
    manifest = _manifest(tmp_path, [entry | {"subset": "one subset"} for entry in entries])
    out, split = tmp_path / "table.json", tmp_path / "split.json"
    assert run("evaluate", manifest, "--everything", "--images-per-subset", 2, "--json", out).code == 0
    assert json.loads(out.read_text())["mean"]["images"] == 2
    split.write_text(json.dumps({"kept_out": ["volume.tif"]}))
    arguments = ("--everything", "--split", split, "--json", out, "--overwrite")
    assert run("evaluate", manifest, *arguments).code == 0
    assert json.loads(out.read_text())["mean"]["images"] == 1


def test_options_that_have_no_effect_are_refused(run: Run, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    for option in (("--max-clicks", 8), ("--objects-per-subset", 3), ("--off-center-clicks", 0), ("--baselines",)):
        result = run("evaluate", labelled, "--json", out, "--everything", *option)
        assert result.code != 0
        assert f"{option[0]} has no effect with --everything" in assert_one_sentence(result.err)
    result = run("evaluate", labelled, "--json", out, "--images-per-subset", 2)
    assert result.code != 0
    assert "--images-per-subset needs --everything" in assert_one_sentence(result.err)
    assert not out.exists()


@pytest.mark.usefixtures("finds_bright_parts")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: _pair(folder, side=0), "names no object:"),
        (lambda folder: _manifest(folder, []), "names no object:"),
        (lambda folder: _manifest(folder, [_entry()]), "no file"),
        (_wrong_shape, "shape"),
        (lambda folder: _pair(folder, annotation=1), "annotation"),
    ],
)
def test_without_objects_or_images_there_is_no_table_of_everything(
    run: Run, tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    out = tmp_path / "table.json"
    result = run("evaluate", make(tmp_path), "--everything", "--json", out)
    assert result.code != 0
    assert words in assert_one_sentence(PROGRESS.sub("", result.err))
    assert not out.exists()


def test_a_search_by_example_is_measured_in_the_agreed_form(run: Run, tmp_path: Path) -> None:
    """Coins, found by two of them."""
    crop = coins()[92:220, 20:300]
    parts, count = ndimage.label(ndimage.binary_opening(ndimage.gaussian_filter(crop, 1.5) > 115, iterations=2))
    assert count >= 4
    Image.fromarray(crop).save(tmp_path / "image.png")
    Image.fromarray(parts.astype(np.uint8)).save(tmp_path / "labels.png")
    entry = {"image": "image.png", "mask": "labels.png", "subset": "coins", "kind": "instance"}
    out = tmp_path / "table.json"
    manifest = _manifest(tmp_path, [entry])
    result = run("evaluate", manifest, "--find", "--examples-per-image", 2, "--json", out)
    assert result.code == 0, result.err
    table = json.loads(out.read_text())
    assert table.keys() == {"model", "subsets", "mean"}
    figures = {"other_image_f1_50", "nearest_colour_f1_50", "everything_f1_50"}
    for row in (table["subsets"]["coins"], table["mean"]):
        assert row.keys() == {"images", "examples", "f1_50"} | figures
        assert row["f1_50"].keys() == {"0", "5", "10", "20"}
        assert (row["images"], row["examples"]) == (1, 2)
        assert 0 < row["f1_50"]["0"] <= row["f1_50"]["20"] <= 1
        assert row["other_image_f1_50"] is None, "there is no other image"
    for text in ("coins", "F1, 20 answers", "nearest color", f"{table['mean']['f1_50']['0']:.3f}"):
        assert text in result.out
    refused = run(
        "evaluate", _manifest(tmp_path, [entry | {"kind": "semantic"}]), "--find", "--json", tmp_path / "b.json"
    )
    assert refused.code == 1
    assert "two others" in assert_one_sentence(PROGRESS.sub("", refused.err))
    assert not (tmp_path / "b.json").exists()


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """A manifest of one volume with one object in five planes."""
    labels = np.zeros((6, 64, 64), np.uint8)
    labels[1:, 20:40, 22:44] = 1
    tifffile.imwrite(tmp_path / "volume.tif", np.where(labels > 0, 200, 20).astype(np.uint8))
    tifffile.imwrite(tmp_path / "objects.tif", labels)
    entry = {"image": "volume.tif", "mask": "objects.tif", "subset": "boxes", "kind": "volume"}
    path = tmp_path / "volumes.json"
    path.write_text(json.dumps([entry]))
    return path


def test_volumes_are_measured_in_the_agreed_form(run: Run, volumes: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    assert run("evaluate", volumes, "--volumes", "--objects-per-subset", 2, "--json", out).code == 0
    table = json.loads(out.read_text())
    row = table["subsets"]["boxes"]
    keys = {"objects", "volume_iou", "plane_iou_16", "end_planes_missed", "spearman", "ms_per_plane"}
    assert keys | {"box_baseline", "interpolation"} <= set(row)
    assert set(table["mean"]) == set(row)
    assert set(row["volume_iou"]) == set(row["box_baseline"]["volume_iou"]) == {"1", "2", "3", "5"}


def test_options_of_other_measurements_are_refused_with_volumes(
    run: Run, volumes: Path, labelled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "table.json"
    for options, words in (
        (("--volumes", "--everything"), "leave out one of them"),
        (("--find", "--everything"), "--everything and --find are two measurements"),
        (("--find", "--objects-per-subset", 3), "--objects-per-subset has no effect with --find"),
        (("--examples-per-image", 3), "--examples-per-image needs --find"),
        (("--volumes", "--max-clicks", 3), "--max-clicks has no effect with --volumes"),
        (("--volumes", "--images-per-subset", 3), "--images-per-subset has no effect with --volumes"),
        (("--everything", "--first", "click"), "--first has no effect with --everything"),
        (("--first", "click"), "--first needs --volumes"),
    ):
        result = run("evaluate", volumes, "--json", out, *options)
        assert result.code == 1
        assert words in assert_one_sentence(result.err)
    result = run("evaluate", labelled, "--volumes", "--json", out)
    assert result.code == 1
    assert "names no object in a volume, of 4 planes or more: add images to it." in result.err
    assert not out.exists()
