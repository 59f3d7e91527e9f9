"""The command: what it writes, and the one sentence that it says when it writes nothing."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image
from scipy import ndimage
from skimage.data import coins

import napari_sam
from napari_sam import models
from napari_sam.cli import app as cli
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.labels.array import LabelStore
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.testing import TIMEOUT

COIN, OTHER_COIN, BESIDE_THE_COIN = (124, 205), (193, 212), (124, 160)
COIN_BOX = (102, 182, 146, 227)


Run = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def _one_predictor_on_one_thread() -> Iterator[None]:
    """Load each model once, and do not let torch's threads wait for each other on a busy machine."""
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


def point(at: tuple[int, int], sign: str = "") -> tuple[str, str]:
    return "--point", f"{at[0]},{at[1]}{sign}"


def box(edges: tuple[int, ...]) -> tuple[str, str]:
    return "--box", ",".join(map(str, edges))


def tight_box(pixels: np.ndarray) -> list[int]:
    rows, cols = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return [int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1]


def assert_objects_describe(objects: list[dict[str, Any]], labels: np.ndarray) -> None:
    """Check that the objects of the JSON are those of the label image, one by one."""
    assert [entry["label"] for entry in objects] == [label for label in np.unique(labels) if label]
    for entry in objects:
        pixels = labels == entry["label"]
        assert entry["area"] == np.count_nonzero(pixels)
        assert entry["box"] == tight_box(pixels)
        assert 0 <= entry["iou_prediction"] <= 1
        assert 0 <= entry["stability_score"] <= 1


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_one_sentence(err: str) -> str:
    """Check that the command said one sentence, and return it."""
    assert "Traceback" not in err
    lines = err.strip().splitlines()
    assert len(lines) == 1, f"more than one line: {err}"
    assert lines[0].startswith("Error: ")
    assert lines[0].endswith((".", "?"))
    assert not re.search(r"[.!?]\s+[A-Z]", lines[0]), f"more than one sentence: {err}"
    return lines[0]


# segment


def test_a_point_gives_one_object_in_a_label_image(run: Run, image: Path, tmp_path: Path) -> None:
    out, described = tmp_path / "labels.tif", tmp_path / "objects.json"
    result = run("segment", image, *point(COIN), "--out", out, "--json", described)
    assert (result.code, result.err) == (0, "")
    assert str(out) in result.out
    labels = tifffile.imread(out)
    assert labels.shape == coins().shape
    assert labels.dtype == np.uint16
    assert set(np.unique(labels)) == {0, 1}
    assert labels[COIN] == 1
    assert labels[OTHER_COIN] == 0
    assert 0.85 < np.count_nonzero(labels) / 1206 < 1.1, "the coin has 1206 pixels"
    written = json.loads(described.read_text())
    assert written.keys() == {"image", "model", "plane", "objects"}
    assert written["image"] == str(image)
    assert written["model"] == "compact"
    assert written["plane"] == []
    assert_objects_describe(written["objects"], labels)


def test_all_points_are_one_object_and_the_sign_counts(run: Run, image: Path, tmp_path: Path) -> None:
    labels = {}
    for sign in (",+", ",-"):
        out = tmp_path / f"labels{sign}.tif"
        assert run("segment", image, *point(COIN), *point(BESIDE_THE_COIN, sign), "--out", out).code == 0
        labels[sign] = tifffile.imread(out)
        assert labels[sign].max() == 1
        assert labels[sign][COIN] == 1
    assert labels[",+"][BESIDE_THE_COIN] == 1
    assert labels[",-"][BESIDE_THE_COIN] == 0


def test_each_box_is_one_object_and_the_points_are_another(run: Run, image: Path, tmp_path: Path) -> None:
    out, described = tmp_path / "labels.tif", tmp_path / "objects.json"
    second = (104, 249, 135, 296)
    result = run(
        *("segment", image, *point(OTHER_COIN), *box(COIN_BOX), *box(second), "--out", out, "--json", described)
    )
    assert result.code == 0, result.err
    labels = tifffile.imread(out)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert (labels[OTHER_COIN], labels[COIN], labels[119, 271]) == (1, 2, 3)
    objects = json.loads(described.read_text())["objects"]
    assert_objects_describe(objects, labels)
    assert objects[0]["prompts"] == {"points": [list(OTHER_COIN)], "labels": [1]}
    assert objects[1]["prompts"] == {"box": list(COIN_BOX)}


def test_objects_that_overlap_are_described_as_they_were_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later object keeps off an earlier one, so its box and area are those of what is left of it."""
    image = tmp_path / "flat.tif"
    tifffile.imwrite(image, np.zeros((40, 60), np.uint8))
    # The answers are the boxes themselves, so that what overlaps is known.
    monkeypatch.setattr("napari_sam.segmenter.Segmenter.segment", _segment_exactly_the_box)
    out, described = tmp_path / "labels.tif", tmp_path / "objects.json"
    assert (
        run("segment", image, *box((5, 5, 25, 25)), *box((5, 15, 25, 45)), "--out", out, "--json", described).code == 0
    )
    labels = tifffile.imread(out)
    objects = json.loads(described.read_text())["objects"]
    assert [entry["area"] for entry in objects] == [400, 400]
    assert_objects_describe(objects, labels)


def test_a_prompt_whose_object_is_taken_already_is_left_out_and_named(run: Run, image: Path, tmp_path: Path) -> None:
    out, described = tmp_path / "labels.tif", tmp_path / "objects.json"
    result = run("segment", image, *box(COIN_BOX), *box(COIN_BOX), "--out", out, "--json", described)
    assert result.code == 0
    assert "Left out" in result.err
    assert len(result.err.strip().splitlines()) == 1
    objects = json.loads(described.read_text())["objects"]
    assert len(objects) == 1
    assert_objects_describe(objects, tifffile.imread(out))


def test_candidates_small_and_large(run: Run, image: Path, tmp_path: Path) -> None:
    areas = {}
    for name in ("small", "medium", "large"):
        out = tmp_path / f"{name}.tif"
        assert run("segment", image, *box(COIN_BOX), "--candidate", name, "--out", out).code == 0
        areas[name] = np.count_nonzero(tifffile.imread(out))
    assert areas["small"] < areas["medium"] < areas["large"]


def test_zarr_output_equals_tif_output(run: Run, image: Path, tmp_path: Path) -> None:
    for name in ("labels.tif", "labels.zarr"):
        assert run("segment", image, *box(COIN_BOX), "--out", tmp_path / name).code == 0
    store = zarr.open_array(tmp_path / "labels.zarr", mode="r")
    assert store.dtype == np.uint16
    np.testing.assert_array_equal(store[...], tifffile.imread(tmp_path / "labels.tif"))


def test_one_plane_of_a_volume(run: Run, tmp_path: Path) -> None:
    image, out, described = tmp_path / "volume.tif", tmp_path / "labels.tif", tmp_path / "objects.json"
    tifffile.imwrite(image, np.stack([coins()[::-1], coins(), coins()[:, ::-1]]), photometric="minisblack")
    result = run("segment", image, *point(COIN), "--plane", "1", "--out", out, "--json", described)
    assert result.code == 0, result.err
    labels = tifffile.imread(out)
    assert labels.shape == coins().shape
    assert 0.85 < np.count_nonzero(labels) / 1206 < 1.15
    assert json.loads(described.read_text())["plane"] == [1]
    mirrored = (COIN[0], coins().shape[1] - 1 - COIN[1])
    out = tmp_path / "last.tif"
    assert (
        run("segment", image, *point(mirrored), "--plane", "-1", "--out", out, "--json", tmp_path / "last.json").code
        == 0
    )
    assert tifffile.imread(out)[mirrored] == 1
    assert json.loads((tmp_path / "last.json").read_text())["plane"] == [2]


def test_png_zarr_and_rgb_images_are_read(run: Run, tmp_path: Path) -> None:
    rgb = np.repeat(coins()[..., None], 3, axis=-1)
    Image.fromarray(rgb).save(tmp_path / "image.png")
    zarr.create_array(tmp_path / "image.zarr", data=coins())
    for name in ("image.png", "image.zarr"):
        out = tmp_path / f"{name}-labels.tif"
        result = run("segment", tmp_path / name, *box(COIN_BOX), "--out", out)
        assert result.code == 0, result.err
        labels = tifffile.imread(out)
        assert labels.shape == coins().shape
        assert labels[COIN] == 1


def test_a_checkpoint_file_as_model(run: Run, image: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    path, out, described = tmp_path / "mine.pth", tmp_path / "labels.tif", tmp_path / "objects.json"
    torch.save(load_file(models.REGISTRY["compact"].path), path)
    result = run("segment", image, *box(COIN_BOX), "--model", path, "--out", out, "--json", described)
    assert result.code == 0, result.err
    assert tifffile.imread(out)[COIN] == 1
    assert json.loads(described.read_text())["model"] == str(path)


def test_missing_folders_of_the_output_are_made(run: Run, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder" / "labels.tif"
    assert run("segment", image, *box(COIN_BOX), "--out", out).code == 0
    assert out.exists()


@pytest.mark.parametrize("name", ["labels.tif", "labels.zarr", "objects.json"])
def test_nothing_is_overwritten_unless_that_is_wanted(run: Run, image: Path, tmp_path: Path, name: str) -> None:
    if name.endswith(".zarr"):
        zarr.create_array(tmp_path / name, data=np.full((3, 3), 7))
    else:
        (tmp_path / name).write_text("my work")
    before = contents(tmp_path)
    out = tmp_path / (name if name.startswith("labels") else "labels.tif")
    arguments = ("segment", image, *box(COIN_BOX), "--out", out, "--json", tmp_path / "objects.json")
    result = run(*arguments)
    assert result.code != 0
    assert "--overwrite" in assert_one_sentence(result.err)
    assert contents(tmp_path) == before
    result = run(*arguments, "--overwrite")
    assert result.code == 0, result.err
    labels = zarr.open_array(out, mode="r")[...] if out.suffix == ".zarr" else tifffile.imread(out)
    assert_objects_describe(json.loads((tmp_path / "objects.json").read_text())["objects"], labels)


def test_a_failure_leaves_the_older_output_even_where_it_may_be_overwritten(
    run: Run, image: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.tif"
    out.write_text("my work")
    result = run("segment", image, "--point", "9999,3", "--out", out, "--overwrite")
    assert result.code != 0
    assert out.read_text() == "my work"


# Bad input of segment


class _Code:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.marker,)


def _text(folder: Path, name: str) -> Path:
    (folder / name).write_text("This is no image and no model.\n" * 30)
    return folder / name


def _tif(folder: Path, pixels: np.ndarray) -> Path:
    tifffile.imwrite(folder / "odd.tif", pixels, photometric="minisblack")
    return folder / "odd.tif"


def _cut(path: Path, kept: float = 0.5) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    return path


def _cut_png(folder: Path) -> Path:
    Image.fromarray(coins()).save(folder / "cut.png")
    return _cut(folder / "cut.png")


def _cut_stack(folder: Path) -> Path:
    """Return a compressed stack of which only the first pages are left."""
    path = folder / "stack.tif"
    tifffile.imwrite(path, np.stack([coins()] * 6), photometric="minisblack", compression="zlib")
    return _cut(path)


def _group(folder: Path) -> Path:
    group = zarr.create_group(folder / "group.zarr")
    for name in ("raw", "other"):
        group.create_array(name, data=coins())
    return folder / "group.zarr"


def _pickle(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(pickle.dumps(_Code(folder / "executed"), protocol=2))
    return folder / name


def _sam(folder: Path) -> Path:
    torch.save({"image_encoder.blocks.0.norm1.weight": torch.zeros(3)}, folder / "sam.pth")
    return folder / "sam.pth"


POINT = point(COIN)
STACK = np.stack([coins()] * 3)

# name -> (image, further arguments, words that the sentence must hold)
BAD_SEGMENT: dict[str, tuple[Callable[[Path], object] | None, Any, str]] = {
    "no prompt": (None, (), "no prompt"),
    "point outside": (None, ("--point", "303,10"), "outside the image"),
    "point before the image": (None, ("--point", "-1,10"), "outside the image"),
    "point nowhere": (None, ("--point", "nan,10"), "outside the image"),
    "point of one number": (None, ("--point", "12"), "not understood"),
    "point of three numbers": (None, ("--point", "1,2,3"), "not understood"),
    "point of words": (None, ("--point", "here,there"), "not understood"),
    "point with another sign": (None, ("--point", "1,2,*"), "not understood"),
    "empty point": (None, ("--point", ""), "not understood"),
    "only negative points": (None, ("--point", "10,10,-", "--point", "20,20,-"), "negative"),
    "box of three numbers": (None, ("--box", "1,2,3"), "not understood"),
    "box of words": (None, ("--box", "a,b,c,d"), "not understood"),
    "box without numbers": (None, ("--box", "nan,0,5,5"), "four numbers"),
    "box of zero area": (None, ("--box", "10,10,10,40"), "no area"),
    "box upside down": (None, ("--box", "40,10,10,40"), "upside down"),
    "box from right to left": (None, ("--box", "10,40,40,10"), "upside down"),
    "box outside": (None, ("--box", "400,400,410,410"), "outside the image"),
    "one bad box among good ones": (None, (*box(COIN_BOX), "--box", "9,9,9,9"), "no area"),
    "plane of words": (None, (*POINT, "--plane", "top"), "not understood"),
    "plane of a fraction": (None, (*POINT, "--plane", "1.5"), "not understood"),
    "plane of a flat image": (None, (*POINT, "--plane", "1"), "plane number"),
    "plane out of range": (lambda folder: _tif(folder, STACK), (*POINT, "--plane", "3"), "planes 0 to 2"),
    "two planes for one axis": (lambda folder: _tif(folder, STACK), (*POINT, "--plane", "1,1"), "plane number"),
    "stack without a plane": (lambda folder: _tif(folder, STACK), POINT, "--plane 1"),
    "5-D without a plane": (
        lambda folder: _tif(folder, np.zeros((2, 2, 2, 50, 50), np.uint8)),
        ("--point", "9,9"),
        "--plane 1,1,1",
    ),
    "1 x 1": (lambda folder: _tif(folder, np.zeros((1, 1), np.uint8)), ("--point", "0,0"), "1 x 1"),
    "one row": (lambda folder: _tif(folder, np.zeros((1, 40), np.uint8)), ("--point", "0,9"), "1 x 40"),
    "complex pixels": (lambda folder: _tif(folder, np.zeros((40, 40), np.complex64)), ("--point", "9,9"), "complex"),
    "missing image": (lambda folder: folder / "missing.tif", POINT, "no file"),
    "text called .tif": (lambda folder: _text(folder, "text.tif"), POINT, "cannot be read as an image"),
    "text called .png": (lambda folder: _text(folder, "text.png"), POINT, "cannot be read as an image"),
    "text": (lambda folder: _text(folder, "text.txt"), POINT, "cannot be read as an image"),
    "truncated tif": (lambda folder: _cut(_tif(folder, coins())), POINT, "cannot be read as an image"),
    "truncated png": (_cut_png, POINT, "cannot be read as an image"),
    "truncated stack": (_cut_stack, POINT, "cannot be read as an image"),
    "empty file": (lambda folder: _cut(_text(folder, "empty.tif"), 0), POINT, "cannot be read as an image"),
    "folder without an image": (lambda folder: folder, POINT, "cannot be read as an image"),
    "zarr group of two arrays": (_group, POINT, "other, raw"),
    "unknown model": (None, (*POINT, "--model", "sam9000"), "compact"),
    "text as model": (None, lambda folder: (*POINT, "--model", _text(folder, "model.pth")), "checkpoint"),
    "text as safetensors": (
        None,
        lambda folder: (*POINT, "--model", _text(folder, "model.safetensors")),
        "safetensors",
    ),
    "code in the model": (None, lambda folder: (*POINT, "--model", _pickle(folder, "model.pth")), "never executed"),
    "SAM as model": (None, lambda folder: (*POINT, "--model", _sam(folder)), "SAM"),
    "image as model": (None, lambda folder: (*POINT, "--model", folder / "coins.tif"), "no checkpoint"),
    "unknown device": (None, (*POINT, "--device", "abacus"), "use one of auto"),
}


@pytest.mark.parametrize("name", BAD_SEGMENT)
def test_bad_input_is_one_sentence_and_changes_nothing(run: Run, image: Path, tmp_path: Path, name: str) -> None:
    make_image, arguments, words = BAD_SEGMENT[name]
    source = make_image(tmp_path) if make_image else image
    if callable(arguments):
        arguments = arguments(tmp_path)
    before = contents(tmp_path)
    result = run("segment", source, *arguments, "--out", tmp_path / "labels.tif", "--json", tmp_path / "objects.json")
    assert result.code != 0
    assert words in assert_one_sentence(result.err)
    assert result.out == ""
    assert contents(tmp_path) == before
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("labels.png", "use one of .tif"),
        ("labels", "use one of .tif"),
        ("coins.tif/labels.tif", "cannot be written to"),
        ("coins.tif/deeper/labels.zarr", "cannot be written to"),
    ],
)
def test_an_output_that_cannot_be_written(run: Run, image: Path, tmp_path: Path, out: str, words: str) -> None:
    before = contents(tmp_path)
    result = run("segment", image, *POINT, "--out", tmp_path / out)
    assert result.code != 0
    assert words in assert_one_sentence(result.err)
    assert contents(tmp_path) == before


def test_a_json_that_cannot_be_written_leaves_no_label_image_either(run: Run, image: Path, tmp_path: Path) -> None:
    for target, words in (("objects.txt", ".json"), ("coins.tif/objects.json", "cannot be written to")):
        result = run("segment", image, *POINT, "--out", tmp_path / "labels.tif", "--json", tmp_path / target)
        assert result.code != 0
        assert words in assert_one_sentence(result.err)
        assert sorted(contents(tmp_path)) == ["coins.tif"]


def test_a_disk_that_fills_up_leaves_no_half_of_the_results(
    run: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    result = run(
        "segment", image, *box(COIN_BOX), "--out", tmp_path / "labels.tif", "--json", tmp_path / "objects.json"
    )
    assert result.code != 0
    assert "No space left on device" in assert_one_sentence(result.err)
    assert sorted(contents(tmp_path)) == ["coins.tif"]


def test_prompts_without_any_mask_write_nothing(
    run: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_sam.errors import LabelsError

    def refuse(*_: object, **__: object) -> None:
        raise LabelsError("The mask is empty, so there is nothing to accept: move or add a prompt.")

    monkeypatch.setattr(LabelStore, "write", refuse)
    result = run("segment", image, *box(COIN_BOX), "--out", tmp_path / "labels.tif")
    assert result.code != 0
    assert "Error: No prompt gave a mask" in result.err
    assert sorted(contents(tmp_path)) == ["coins.tif"]


def _shell(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_sam.cli", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT, env=environment)


def test_a_truncated_stack_in_a_real_process_says_one_sentence(tmp_path: Path) -> None:
    """In a process of its own nobody swallows what libraries log or warn about."""
    result = _shell("segment", _cut_stack(tmp_path), *POINT, "--out", tmp_path / "labels.tif")
    assert result.returncode == 1
    assert "cannot be read as an image" in assert_one_sentence(result.stderr)


def test_code_in_a_model_in_a_real_process_says_one_sentence(tmp_path: Path, image: Path) -> None:
    """Python's own pickle protocol, about which torch warns."""
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps(_Code(tmp_path / "executed")))
    result = _shell("segment", image, *POINT, "--model", path, "--out", tmp_path / "labels.tif")
    assert result.returncode == 1
    assert "never executed" in assert_one_sentence(result.stderr)
    assert not (tmp_path / "executed").exists()


# The small commands


def test_models_is_a_table_with_size_and_licence(run: Run) -> None:
    result = run("models")
    assert (result.code, result.err) == (0, "")
    for word in ("compact", "BSD-3-Clause", "MiB", "licence"):
        assert word in result.out


def test_info_names_versions_devices_and_the_cache(run: Run) -> None:
    result = run("info")
    assert (result.code, result.err) == (0, "")
    rows = [line for line in result.out.splitlines() if "│" in line]
    told = {cells[1].strip(): cells[2].strip() for cells in (row.split("│") for row in rows)}
    assert told["napari-sam"] == napari_sam.__version__
    assert told["torch"] == torch.__version__
    assert told["numpy"] == np.__version__
    assert "cpu" in told["devices"]
    assert "MiB" in told["embeddings in memory"]
    assert told["cache folder"]


def test_help_lists_every_command(run: Run) -> None:
    result = run("--help")
    assert result.code == 0
    for command in ("segment", "evaluate", "models", "info", "demo"):
        assert command in result.out


def test_demo_segments_the_coins(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(cli, "_show_demo", shown.append)
    monkeypatch.setattr(cli, "DEMO_POINTS", cli.DEMO_POINTS[5:9])
    out = tmp_path / "demo_output"
    result = run("demo", "--out", out)
    assert result.code == 0, result.err
    assert shown == [out]
    assert sorted(path.name for path in out.iterdir()) == ["labels.tif", "objects.json"]
    labels = tifffile.imread(out / "labels.tif")
    assert labels.max() == 4
    assert all(labels[at] == i for i, at in enumerate(cli.DEMO_POINTS, 1))
    assert_objects_describe(json.loads((out / "objects.json").read_text())["objects"], labels)


def test_demo_into_a_folder_that_cannot_be_made(run: Run, image: Path, tmp_path: Path) -> None:
    result = run("demo", "--out", image / "demo")
    assert result.code != 0
    assert "cannot be written to" in assert_one_sentence(result.err)


# evaluate

SUBSET_KEYS = {"n", "miou", "best_of_3", "box_miou", "noc80", "noc90", "predicted_miou"}


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
        assert 1 <= row["noc80"] <= row["noc90"] <= 3
        assert row["miou"][0] >= 0.6, "one click on a coin"
    assert table["mean"].keys() >= SUBSET_KEYS - {"n"}
    for key in SUBSET_KEYS - {"n"}:
        expected = np.mean([row[key] for row in table["subsets"].values()], axis=0)
        np.testing.assert_allclose(table["mean"][key], expected, atol=1e-4)
    assert "one by one" in result.out
    assert "NoC90" in result.out
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
    "text": (lambda folder: _text(folder, "manifest.json"), "unknown form"),
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
    progress = re.compile(r".*\d+/\d+ [-\d]+:[-\d]+:[-\d]+\s*\n")
    assert words in assert_one_sentence(progress.sub("", result.err))
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


def _segment_exactly_the_box(_: object, *, box: Any, plane: Any) -> Any:
    from napari_sam import Box, Candidates, Mask

    where = Box(*map(int, box))
    mask = Mask(where, np.ones(where.pixel_shape, bool), iou_prediction=0.9, stability_score=0.8)
    return Candidates((mask, mask, mask), 1, plane)


# -- images of any size ------------------------------------------------------------------------------------------------


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Three planes of coins as a zarr array."""
    path = tmp_path / "volume.zarr"
    array = zarr.create_array(path, shape=(3, *coins().shape), chunks=(1, 128, 128), dtype="u1")
    array[...] = np.stack([coins()] * 3)
    return path


def test_encode_fills_a_store_goes_on_where_it_was_and_segment_uses_it(
    run: Run, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    arguments = ["encode", volume, "--store", store, "--plane", "1", "--level", "0:2", "--contrast", "0,255"]
    first = run(*arguments)
    assert first.code == 0, first.err
    done, total = (int(word) for word in re.findall(r"\d+", first.out)[:2])
    assert 0 < done <= total
    again = run(*arguments)
    assert again.out.startswith(f"0 of {total} tiles encoded; {done} were there")
    used = []
    monkeypatch.setattr(EmbeddingStore, "get", lambda self, *key: used.append(key))
    result = run(
        *("segment", volume, "--plane", "1", "--point", "51,155", "--out", tmp_path / "l.tif"),
        *("--store", store, "--contrast", "0,255"),
    )
    assert result.code == 0, result.err
    assert used


def test_embeddings_of_one_precision_are_not_taken_for_those_of_another(run: Run, volume: Path, tmp_path: Path) -> None:
    arguments = [
        "encode",
        volume,
        "--store",
        tmp_path / "s",
        "--plane",
        "0",
        "--box",
        "0,0,20,20",
        "--contrast",
        "0,255",
    ]
    assert run(*arguments, "--precision", "bfloat16").out.startswith("1 of 1 tiles encoded")
    assert run(*arguments, "--precision", "bfloat16").out.startswith("0 of 1 tiles encoded; 1 were there")
    assert run(*arguments, "--precision", "float32").out.startswith("1 of 1 tiles encoded")


def test_levels_that_are_not_there_are_left_out_and_said(run: Run, volume: Path, tmp_path: Path) -> None:
    arguments = ("encode", volume, "--store", tmp_path / "s", "--plane", "0", "--contrast", "0,255")
    result = run(*arguments, "--level", "0:9")
    assert result.code == 0, result.err
    assert "Only levels 0 to" in result.err
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, coins()[:100, :100])
    result = run("encode", small, "--store", tmp_path / "s", "--contrast", "0,255")
    assert result.code == 0, result.err
    assert "level -1 is taken" in result.err
    assert run(*arguments, "--level", "7").code == 1


def test_encode_of_a_box_is_less_work_than_of_the_plane(run: Run, volume: Path, tmp_path: Path) -> None:
    part = run("encode", volume, "--store", tmp_path / "s", "--plane", "0", "--box", "0,0,20,20", "--contrast", "0,255")
    assert part.out.startswith("1 of 1 tiles encoded")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--plane", "3"), "3 planes"),
        (("--plane", "2:1"), "A:B with A < B"),
        (("--level", "fine"), "not understood"),
        (("--box", "1,2,3"), "not understood"),
        (("--channels", "0"), "channels"),
        (("--spacing", "1,1"), "3 numbers"),
        (("--contrast", "9,3"), "low < high"),
        (("--precision", "float16"), "auto, float32, tf32, bfloat16"),
        (("--precision", "tf32"), "NVIDIA"),
        (("--device", "cpu", "--compile"), "leave it out"),
    ],
)
def test_encode_refuses_what_it_does_not_understand_in_one_sentence(
    run: Run, volume: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = run("encode", volume, "--store", tmp_path / "s", *arguments)
    assert words in assert_one_sentence(result.err)
    assert result.code == 1
    assert not (tmp_path / "s").exists()


def test_cache_shows_what_is_kept_and_clears_it_and_nothing_else(run: Run, volume: Path, tmp_path: Path) -> None:
    store = tmp_path / "s"
    run("encode", volume, "--store", store, "--plane", "0", "--box", "0,0,20,20", "--contrast", "0,255")
    shown = run("cache", "--store", store)
    assert "embeddings" in shown.out
    assert "KB" in shown.out
    assert run("cache", "--store", store, "--clear").code == 0
    assert not store.exists()
    foreign = tmp_path / "photographs"
    foreign.mkdir()
    (foreign / "me.jpg").write_bytes(b"dear")
    result = run("cache", "--store", foreign, "--clear")
    assert result.code == 1
    assert_one_sentence(result.err)
    assert (foreign / "me.jpg").read_bytes() == b"dear"


def test_labels_of_the_whole_volume_are_a_pyramid_that_can_be_added_to(run: Run, volume: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.ome.zarr"
    first = run("segment", volume, "--plane", "1", "--point", "51,155", "--out", out)
    assert first.code == 0, first.err
    assert run("segment", volume, "--plane", "2", "--point", "124,205", "--out", out).code == 1
    second = run("segment", volume, "--plane", "2", "--point", "124,205", "--out", out, "--append")
    assert second.code == 0, second.err
    labels = np.asarray(LabelPyramid.open(out)[...])
    assert [np.unique(plane).tolist() for plane in labels] == [[0], [0, 1], [0, 2]]
    assert "--append goes with" in run("segment", volume, "--point", "1,1", "--out", "l.tif", "--append").err


def test_a_mask_that_meets_another_is_left_out_where_only_empty_pixels_may_be_taken(
    run: Run, image: Path, tmp_path: Path
) -> None:
    boxes = ("--box", "26,130,78,182", "--box", "30,134,74,178")
    result = run("segment", image, *boxes, "--overlap", "empty", "--out", tmp_path / "l.tif")
    assert result.code == 0
    assert "1 object(s)" in result.out
    assert "Left out" in result.err


def test_a_plane_too_large_for_memory_names_the_mend(run: Run, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "huge.zarr", shape=(100_000, 100_000), chunks=(512, 512), dtype="u2")
    result = run("segment", tmp_path / "huge.zarr", "--box", "5000,5000,5100,5100", "--out", tmp_path / "l.tif")
    assert ".ome.zarr" in assert_one_sentence(result.err)
    assert not (tmp_path / "l.tif").exists()


def test_a_geotiff_gives_labels_that_lie_where_it_lies(run: Run, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed: pip install '.[geo]'")
    from affine import Affine

    place = Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 4_000_000.0)
    profile = {"driver": "GTiff", "height": 303, "width": 384, "count": 1, "dtype": "uint8", "nodata": 0}
    with rasterio.open(tmp_path / "g.tif", "w", crs="EPSG:32636", transform=place, **profile) as dataset:
        dataset.write(coins(), 1)
    result = run("segment", tmp_path / "g.tif", "--point", "51,155", "--out", tmp_path / "l.tif")
    assert result.code == 0, result.err
    with rasterio.open(tmp_path / "l.tif") as labels:
        assert labels.crs.to_epsg() == 32636
        assert labels.transform == place
        assert labels.nodata == 0
        assert 1000 < np.count_nonzero(labels.read(1)) < 6000


def test_an_image_is_never_taken_for_labels(run: Run, tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "raw.ome.zarr", mode="w")
    group.create_array("0", data=coins())
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": [], "datasets": [{"path": "0"}]}]}
    other = zarr.create_array(tmp_path / "image.zarr", data=coins())
    before = {path: path.read_bytes() for path in (tmp_path / "raw.ome.zarr").rglob("*") if path.is_file()}
    for image in ("raw.ome.zarr", "image.zarr"):
        for how in ("--append", "--overwrite"):
            arguments = ("--point", "51,155", "--out", tmp_path / "raw.ome.zarr", "--overlap", "overwrite")
            result = run("segment", tmp_path / image, *arguments, how)
            assert result.code == 1
            assert_one_sentence(result.err)
    assert before == {path: path.read_bytes() for path in (tmp_path / "raw.ome.zarr").rglob("*") if path.is_file()}
    assert np.array_equal(other[...], coins())


def test_a_tif_is_not_replaced_by_its_own_labels(run: Run, image: Path) -> None:
    before = image.read_bytes()
    result = run("segment", image, "--point", "51,155", "--out", image, "--overwrite")
    assert "the image itself" in assert_one_sentence(result.err)
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    "bad", [("--point", "900,60"), ("--plane", "99"), ("--box", "30,30,80,80", "--box", "900,900,990,990")]
)
def test_labels_on_disk_are_made_only_when_everything_went_well(
    run: Run, volume: Path, tmp_path: Path, bad: tuple[str, ...]
) -> None:
    out = tmp_path / "labels.ome.zarr"
    plane = () if "--plane" in bad else ("--plane", "1")
    prompt = ("--point", "51,155") if "--plane" in bad else ()
    assert run("segment", volume, *plane, *prompt, *bad, "--out", out).code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["volume.zarr"]
    good = ("segment", volume, "--plane", "1", "--point", "51,155", "--out", out)
    assert run(*good).code == 0
    assert run(*good).code == 1
    assert run(*good, "--overwrite").code == 0
    assert np.unique(np.asarray(LabelPyramid.open(out)[1])).tolist() == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.ome.zarr", "volume.zarr"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--box", "nan,10,50,50"), "four numbers"),
        (("--box", "50,50,10,10"), "upside down"),
        (("--box", "5000,5000,6000,6000"), "outside the image"),
        (("--level", "20"), "the levels -3 to 1"),
    ],
)
def test_encode_checks_its_box_and_levels(
    run: Run, volume: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = run("encode", volume, "--store", tmp_path / "s", "--contrast", "0,255", *arguments)
    assert words in result.err.splitlines()[-1]
    assert result.code == 1


def test_a_click_where_the_image_holds_nothing_says_so(run: Run, tmp_path: Path) -> None:
    pixels = coins().astype(np.float32)
    pixels[:30] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", pixels)
    result = run("segment", tmp_path / "nan.tif", "--point", "5,60", "--out", tmp_path / "l.tif")
    assert "no data at (5, 60)" in assert_one_sentence(result.err)
    assert run("segment", tmp_path / "nan.tif", "--point", "124,205", "--out", tmp_path / "l.tif").code == 0
