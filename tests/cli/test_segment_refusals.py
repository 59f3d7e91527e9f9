"""`napari-sam segment` where it writes nothing: the one sentence that it says, and that nothing has changed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image
from skimage.data import coins
from tests.cli.checks import (
    COIN,
    COIN_BOX,
    Run,
    assert_one_sentence,
    box,
    contents,
    point,
    text_file,
)

from napari_sam.labels.array import LabelArray
from napari_sam.testing import TIMEOUT

pytestmark = pytest.mark.usefixtures("one_predictor")


class _Code:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.marker,)


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


def made_folder(path: Path) -> Path:
    path.mkdir()
    return path


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
    "text called .tif": (lambda folder: text_file(folder, "text.tif"), POINT, "cannot be read as an image"),
    "text called .png": (lambda folder: text_file(folder, "text.png"), POINT, "cannot be read as an image"),
    "text": (lambda folder: text_file(folder, "text.txt"), POINT, "cannot be read as an image"),
    "truncated tif": (lambda folder: _cut(_tif(folder, coins())), POINT, "cannot be read as an image"),
    "truncated png": (_cut_png, POINT, "cannot be read as an image"),
    "truncated stack": (_cut_stack, POINT, "cannot be read as an image"),
    "empty file": (lambda folder: _cut(text_file(folder, "empty.tif"), 0), POINT, "cannot be read as an image"),
    "folder without an image": (lambda folder: made_folder(folder / "empty"), POINT, "cannot be read as an image"),
    "zarr group of two arrays": (_group, POINT, "other, raw"),
    "unknown model": (None, (*POINT, "--model", "sam9000"), "compact"),
    "text as model": (None, lambda folder: (*POINT, "--model", text_file(folder, "model.pth")), "checkpoint"),
    "text as safetensors": (
        None,
        lambda folder: (*POINT, "--model", text_file(folder, "model.safetensors")),
        "safetensors",
    ),
    "code in the model": (None, lambda folder: (*POINT, "--model", _pickle(folder, "model.pth")), "never executed"),
    "SAM as model": (None, lambda folder: (*POINT, "--model", _sam(folder)), "SAM"),
    "image as model": (None, lambda folder: (*POINT, "--model", folder / "coins.tif"), "not a checkpoint"),
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

    monkeypatch.setattr(LabelArray, "write", refuse)
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


def test_a_plane_too_large_for_memory_names_the_mend(run: Run, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "huge.zarr", shape=(100_000, 100_000), chunks=(512, 512), dtype="u2")
    result = run("segment", tmp_path / "huge.zarr", "--box", "5000,5000,5100,5100", "--out", tmp_path / "l.tif")
    assert ".ome.zarr" in assert_one_sentence(result.err)
    assert not (tmp_path / "l.tif").exists()


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


def test_a_click_where_the_image_holds_nothing_says_so(run: Run, tmp_path: Path) -> None:
    pixels = coins().astype(np.float32)
    pixels[:30] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", pixels)
    result = run("segment", tmp_path / "nan.tif", "--point", "5,60", "--out", tmp_path / "l.tif")
    assert "no data at (5, 60)" in assert_one_sentence(result.err)
    assert run("segment", tmp_path / "nan.tif", "--point", "124,205", "--out", tmp_path / "l.tif").code == 0
