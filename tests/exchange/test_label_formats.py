"""Results on disk: whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam.errors import OutputError
from napari_sam.exchange.label_formats import LABEL_SUFFIXES, as_label_dtype, write_json, write_labels
from napari_sam.files.outputs import check_output
from napari_sam.images.axes.calibration import Calibration

LABELS = np.arange(600 * 700, dtype=np.uint32).reshape(600, 700)
OLD = np.full((4, 5), 7, np.uint16)


def read(path: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(path, mode="r")[...]) if path.suffix == ".zarr" else tifffile.imread(path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["labels.tif", "labels.tiff", "labels.TIF", "labels.zarr"])
@pytest.mark.parametrize("shape", [(600, 700), (3, 40, 50)])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_labels_come_back_as_they_were_written(
    tmp_path: Path, name: str, shape: tuple[int, ...], dtype: type[np.unsignedinteger[Any]]
) -> None:
    labels = LABELS.ravel()[: np.prod(shape)].reshape(shape).astype(dtype)
    write_labels(tmp_path / name, labels)
    found = read(tmp_path / name)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, labels)
    assert names(tmp_path) == [name]


def test_a_tif_is_compressed(tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.tif", np.zeros((1000, 1000), np.uint16))
    assert (tmp_path / "labels.tif").stat().st_size < 100_000


def test_the_same_labels_make_the_same_tif_and_others_have_another_identity(tmp_path: Path) -> None:
    stack, calibration = LABELS.reshape(6, 100, 700), Calibration("zyx", (2.0, 0.5, 0.5), unit="um")
    identities = []
    for name, labels in {"one": stack, "same": stack.copy(), "other": stack[::-1]}.items():
        write_labels(tmp_path / f"{name}.tif", labels, calibration)
        with tifffile.TiffFile(tmp_path / f"{name}.tif") as file:
            identities.append(re.findall('UUID="([^"]+)"', file.ome_metadata or ""))
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "same.tif").read_bytes()
    assert identities[0]
    assert identities[0] != identities[2]


def test_zarr_chunks_are_planes_of_at_most_512(tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.zarr", np.zeros((2, 600, 40), np.uint16))
    assert zarr.open_array(tmp_path / "labels.zarr", mode="r").chunks == (1, 512, 40)


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_an_older_result_is_replaced_completely(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels{suffix}"
    write_labels(path, LABELS)
    write_labels(path, OLD)
    np.testing.assert_array_equal(read(path), OLD)
    assert names(tmp_path) == [path.name]


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    data = {"name": "cell", "values": [1, 2.5, None], "umlaut": "Größe"}
    write_json(tmp_path / "objects.json", data)
    assert json.loads((tmp_path / "objects.json").read_text()) == data
    assert names(tmp_path) == ["objects.json"]


# Writing that fails


def _half_a_tif(path: Path, *_: Any, **__: Any) -> None:
    Path(path).write_bytes(b"half")
    raise OSError(28, "No space left on device")


def _half_a_zarr(path: Path, *_: Any, **__: Any) -> None:
    Path(path, "c").mkdir(parents=True)
    Path(path, "c", "0").write_bytes(b"half")
    raise OSError(28, "No space left on device")


@pytest.fixture(params=["labels.tif", "labels.zarr"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A result that stands there already."""
    path = tmp_path / request.param
    write_labels(path, OLD)
    return path


def test_a_disk_that_fills_up_leaves_the_older_result_and_nothing_else(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tifffile, "imwrite", _half_a_tif)
    monkeypatch.setattr(zarr, "create_array", _half_a_zarr)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
        write_labels(old, LABELS)
    np.testing.assert_array_equal(read(old), OLD)
    assert names(old.parent) == [old.name]


def test_an_interruption_leaves_the_older_result_and_nothing_else(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path, *_: Any, **__: Any) -> None:
        (Path(path).mkdir if old.suffix == ".zarr" else Path(path).touch)()
        raise KeyboardInterrupt

    monkeypatch.setattr(tifffile, "imwrite", interrupt)
    monkeypatch.setattr(zarr, "create_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_labels(old, LABELS)
    np.testing.assert_array_equal(read(old), OLD)
    assert names(old.parent) == [old.name]


def test_a_move_into_place_that_fails_leaves_the_older_result(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new result is complete, but the first attempt to move it, or the old one, is refused: a file is in use."""
    attempts = []

    def refused_once(genuine: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def move(self: Path, target: Path) -> Path:
            if old in (self, target):
                attempts.append(target)
                if len(attempts) == 1:
                    raise PermissionError(13, "Permission denied")
            return genuine(self, target)

        return move

    monkeypatch.setattr(Path, "replace", refused_once(Path.replace))
    monkeypatch.setattr(Path, "rename", refused_once(Path.rename))
    with pytest.raises(OutputError, match="Permission denied"):
        write_labels(old, LABELS)
    assert attempts
    np.testing.assert_array_equal(read(old), OLD)
    assert names(old.parent) == [old.name]


def test_a_first_result_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tifffile, "imwrite", _half_a_tif)
    with pytest.raises(OutputError):
        write_labels(tmp_path / "labels.tif", LABELS)
    assert names(tmp_path) == []


def test_json_that_cannot_be_made_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "objects.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_json(path, {"an array": np.zeros(3)})
    assert path.read_text() == "old"
    assert names(tmp_path) == [path.name]


def test_a_folder_is_not_taken_for_an_older_tif(tmp_path: Path) -> None:
    """A folder that happens to be called like the output may hold anything; it is not deleted."""
    folder = tmp_path / "labels.tif"
    folder.mkdir()
    (folder / "years of work").write_text("precious")
    with pytest.raises(OutputError):
        write_labels(folder, LABELS)
    assert names(folder) == ["years of work"]


# Places


def test_missing_folders_are_made_when_writing_and_not_before(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b" / "labels.tif", LABEL_SUFFIXES)
    assert names(tmp_path) == []
    write_labels(tmp_path / "a" / "b" / "labels.tif", LABELS)
    np.testing.assert_array_equal(read(tmp_path / "a" / "b" / "labels.tif"), LABELS)


@pytest.mark.parametrize("name", ["labels.png", "labels", "labels.tif.bak", ".zarr"])
def test_unknown_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"use one of \.tif, \.tiff, \.zarr"):
        check_output(tmp_path / name, LABEL_SUFFIXES)


@pytest.mark.parametrize("name", ["labels.tif", "labels.zarr"])
def test_what_exists_is_refused_unless_it_may_be_overwritten(tmp_path: Path, name: str) -> None:
    write_labels(tmp_path / name, OLD)
    with pytest.raises(OutputError, match="exists already"):
        check_output(tmp_path / name, LABEL_SUFFIXES)
    check_output(tmp_path / name, LABEL_SUFFIXES, overwrite=True)
    np.testing.assert_array_equal(read(tmp_path / name), OLD)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    for place in ("file/labels.tif", "file/deeper/labels.tif"):
        with pytest.raises(OutputError, match="cannot be written to"):
            check_output(tmp_path / place, LABEL_SUFFIXES)
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        check_output(tmp_path / "locked" / "labels.tif", LABEL_SUFFIXES)


# Types


@pytest.mark.parametrize(("highest", "dtype"), [(1, np.uint16), (65535, np.uint16), (65536, np.uint32)])
def test_labels_take_the_smallest_type_that_holds_them(highest: int, dtype: type[np.unsignedinteger[Any]]) -> None:
    labels = np.array([[0, highest]], np.uint32)
    converted = as_label_dtype(labels)
    assert converted.dtype == dtype
    np.testing.assert_array_equal(converted, labels)


def test_labels_without_pixels_have_a_type_too() -> None:
    assert as_label_dtype(np.zeros((0, 5), np.uint32)).dtype == np.uint16
