"""Paths that the user names: what may be read, and outputs that never replace an input."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from napari_sam.errors import ImageError, OutputError, PromptError
from napari_sam.files import paths
from napari_sam.files.outputs import check_output, replacing
from napari_sam.files.paths import check_apart, check_input, check_name, exists, read_text, shortened


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file under several names and a zarr group with an array in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.tif").write_bytes(b"pixels")
    (tmp_path / "link.tif").symlink_to("image.tif")
    os.link("image.tif", "hard.tif")
    for folder in (Path("scan.zarr"), Path("scan.zarr/0")):
        folder.mkdir()
        (folder / "zarr.json").write_text("{}")
    Path("folder").mkdir()
    Path("same").symlink_to("folder", target_is_directory=True)
    Path("folder/prompts.csv").write_text("row,col\n1,1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "out", "words"),
    [
        ("image.tif", "image.tif", "is the image itself"),
        ("image.tif", "./folder/../image.tif", "is the image itself"),
        ("image.tif", "link.tif", "is the image itself"),
        ("link.tif", "image.tif", "is the image itself"),
        ("image.tif", "hard.tif", "is the image itself"),
        ("folder/prompts.csv", "same/prompts.csv", "is the image itself"),
        ("scan.zarr", "scan.zarr", "is the image itself"),
        ("scan.zarr", "scan.zarr/labels.zarr", "lies inside the image"),
        ("scan.zarr/0", "scan.zarr/1.zarr", "lies inside the image"),
        ("scan.zarr/0", "scan.zarr", "lies inside the image"),
        ("folder/prompts.csv", "folder", "csv lies inside .*folder: choose"),
        ("folder/prompts.csv", "same", "csv lies inside .*same: choose"),
    ],
)
def test_an_output_is_never_an_input_by_any_of_its_names(work: Path, source: str, out: str, words: str) -> None:
    with pytest.raises(OutputError, match=words):
        check_apart({"image": source}, {"--out": out})
    with pytest.raises(OutputError, match=words):
        check_apart({"image": (work / source).as_uri()}, {"--out": work / out})


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("image.tif", "labels.tif"),
        ("image.tif", "folder/image.tif"),
        ("folder/prompts.csv", "folder/labels.tif"),
        ("scan.zarr", "scan.zarr.labels.zarr"),
        ("folder", "folder/labels.tif"),
        ("https://example.org/scan.zarr", "scan.zarr"),
        (None, "image.tif"),
        ("image.tif", None),
    ],
)
def test_outputs_beside_the_inputs_are_taken(work: Path, source: str | None, out: str | None) -> None:
    check_apart({"image": source}, {"--out": out})


def test_labels_that_are_added_to_may_lie_in_the_image(work: Path) -> None:
    inside = work / "scan.zarr" / "labels" / "cells.ome.zarr"
    check_apart({"image": "scan.zarr"}, {"--out": inside}, extended=["--out"])
    with pytest.raises(OutputError, match="is the image itself"):
        check_apart({"image": "scan.zarr"}, {"--out": "scan.zarr"}, extended=["--out"])


@pytest.mark.parametrize(("one", "two"), [("a.zarr", "./a.zarr"), ("a.zarr", "a.zarr/a.json"), ("a/b.zarr", "a")])
def test_two_outputs_are_never_the_same_nor_in_each_other(work: Path, one: str, two: str) -> None:
    with pytest.raises(OutputError, match="--store and --out both write to"):
        check_apart({}, {"--out": one, "--store": two})


def test_names_that_differ_in_case_are_one_file_where_the_disk_says_so(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = {"--out": "Zellen-\u00e4.zarr", "--json": "zellen-A\u0308.ZARR"}
    check_apart({}, outputs)
    monkeypatch.setattr(paths, "_ignores_case", lambda path: True)
    with pytest.raises(OutputError, match="--json and --out both write to"):
        check_apart({}, outputs)


def test_a_pipe_or_a_device_is_refused_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        for path, name in (
            (tmp_path / "pipe.csv", "a pipe"),
            (tmp_path / "socket", "a socket"),
            (Path("/dev/null"), "a device"),
        ):
            with pytest.raises(ImageError, match=f"is {name} and not a file"):
                check_input(path, "image", ImageError)
    with pytest.raises(PromptError, match="is a pipe and not a file"):
        read_text(tmp_path / "pipe.csv", "prompt file", PromptError)


def test_names_that_no_file_can_have_are_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path, words in [
        (tmp_path / "loop", "leads back to itself"),
        (tmp_path / ("n" * 300), "longer than this disk allows"),
        (tmp_path / "a\0b", "null character"),
    ]:
        with pytest.raises(ImageError, match=words) as caught:
            check_input(path, "image", ImageError)
        assert len(str(caught.value)) < 400
    for path in (tmp_path / ("n" * 300), tmp_path / ("ä" * 130), tmp_path / ("n" * 300) / "a.tif", tmp_path / "a\0b"):
        assert not exists(path)
        with pytest.raises(OutputError, match=r"longer than this disk allows|null character"):
            check_output(path)
    check_name(tmp_path / ("n" * 251 + ".tif"))
    check_input(tmp_path / "missing", "image", ImageError)
    assert exists(tmp_path / "loop")


def test_a_link_that_leads_nowhere_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "labels.tif").symlink_to("elsewhere.tif")
    with pytest.raises(OutputError, match="exists already"):
        check_output(tmp_path / "labels.tif")


def test_text_is_read_with_and_without_a_byte_order_mark_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for raw in ("für".encode(), b"\xef\xbb\xbf" + "für".encode()):
        path.write_bytes(raw)
        assert read_text(path, "file", PromptError) == "für"
    for raw in ("für".encode("latin-1"), "für".encode("utf-16"), b"\x80\x00"):
        path.write_bytes(raw)
        with pytest.raises(PromptError, match="no text in UTF-8"):
            read_text(path, "file", PromptError)
    path.write_text("123456")
    with pytest.raises(PromptError, match="larger than"):
        read_text(path, "file", PromptError, max_bytes=5)
    for missing in (tmp_path, tmp_path / "b.csv", path / "c.csv"):
        with pytest.raises(PromptError, match="cannot be read"):
            read_text(missing, "file", PromptError)


def test_a_long_path_is_shown_with_its_ends() -> None:
    assert shortened("short.tif") == "short.tif"
    text = shortened("a" * 500 + ".tif")
    assert text.endswith(".tif")
    assert len(text) < 200


@pytest.mark.parametrize("url", ["file:///tmp/l.tif", "https://example.org/l.ome.zarr", "s3://bucket/l.zarr"])
def test_a_url_is_no_place_for_an_output(url):
    with pytest.raises(OutputError, match="written to disk"):
        check_output(Path(url))


@pytest.mark.skipif(os.name != "posix", reason="pipes in folders are of POSIX")
def test_a_pipe_is_never_replaced_by_an_output(tmp_path):
    pipe = tmp_path / "l.tif"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="a pipe or a device"):
        check_output(pipe, overwrite=True)
    with pytest.raises(OutputError, match="a pipe or a device"), replacing(pipe):
        pass
    assert pipe.is_fifo()
