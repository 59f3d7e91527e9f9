"""Label images at URLs: whole or not at all, with their journal, and after a failure without the model once more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from tests.cli.checks import Run, assert_one_sentence
from tests.everything.scenes import discs, picture

from napari_sam.cli import models as cli_models
from napari_sam.files import publishing
from napari_sam.files.folders import cache_folder
from napari_sam.journal.journal import open_journal
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.testing import BlobFinder

fsspec = pytest.importorskip("fsspec")
LABELS = discs((300, 320), [(60, 60), (60, 200), (150, 130), (240, 60), (240, 260)])
URL = "memory://results/discs.ome.zarr"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> BlobFinder:
    """The model of every command: a fake, which says what it was asked."""
    fake = BlobFinder()
    monkeypatch.setattr(cli_models, "load", lambda *_, **__: fake)
    return fake


@pytest.fixture
def memory() -> Iterator[Any]:
    """A file system in memory, which is empty."""
    files = fsspec.filesystem("memory")
    yield files
    for path in files.ls("/", detail=False):
        files.rm(path, recursive=True)


@pytest.fixture
def command(tmp_path: Path) -> tuple[object, ...]:
    tifffile.imwrite(tmp_path / "discs.tif", picture(LABELS))
    return "everything", tmp_path / "discs.tif", "--contrast", "0,255", "--sizes", "20,40", "--out"


def levels_at(url: str) -> list[np.ndarray]:
    group = zarr.open_group(url, mode="r")
    return [np.asarray(group[level["path"]]) for level in group.attrs["ome"]["multiscales"][0]["datasets"]]


def test_labels_at_a_url_are_those_on_disk_and_have_their_journal(
    run: Run, model: BlobFinder, memory: Any, command: tuple[object, ...], tmp_path: Path
) -> None:
    result = run(*command, URL)
    assert (result.code, "Error" in result.err) == (0, False)
    assert f"They are at {URL} now." in result.out
    assert run(*command, tmp_path / "here.ome.zarr").code == 0
    here = LabelPyramid.open(tmp_path / "here.ome.zarr")
    for level, other in zip(levels_at(URL), here.levels, strict=True):
        np.testing.assert_array_equal(level, np.asarray(other))
    for name in (".ome.zarr", ".ome.zarr.journal"):
        memory.get(f"/results/discs{name}", str(tmp_path / f"copy{name}"), recursive=True)
    with open_journal(tmp_path / "copy.ome.zarr") as journal:
        assert len(journal.objects) == LABELS.max()


def test_labels_at_a_url_are_replaced_only_when_that_is_asked_for(
    run: Run, model: BlobFinder, memory: Any, command: tuple[object, ...]
) -> None:
    assert run(*command, URL).code == 0
    model.encoded.clear()
    refused = run(*command, URL)
    assert assert_one_sentence(refused.err) == f"Error: {URL} exists already: choose another name, or pass --overwrite."
    assert model.encoded == [], "it is refused before any work"
    memory.pipe("/results/discs.ome.zarr/left/over", b"1")
    assert run(*command, URL, "--overwrite").code == 0
    assert not memory.exists("/results/discs.ome.zarr/left/over")
    assert levels_at(URL)[0].max() == LABELS.max()


def test_labels_that_could_not_be_copied_are_copied_by_the_same_command(
    run: Run, model: BlobFinder, memory: Any, command: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    put = type(memory).put_file

    def refuse(self: Any, local: str, remote: str, **options: Any) -> None:
        if not remote.endswith(publishing.HEADS):
            put(self, local, remote, **options)
        else:
            raise PermissionError("no right to write")

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "put_file", refuse)
        result = run(*command, URL)
    assert result.code == 1
    assert "cannot be written to (no right to write)" in result.err
    assert memory.exists("/results/discs.ome.zarr")
    assert not memory.exists("/results/discs.ome.zarr/zarr.json"), "there are no labels yet for others"
    model.encoded.clear()
    assert run(*command, URL).code == 0
    assert model.encoded == [], "the proposals were kept"
    assert levels_at(URL)[0].max() == LABELS.max()
    assert not list(cache_folder().glob("outputs/*/*.ome.zarr"))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("memory://results/discs.tif", "memory://results/discs.tif cannot hold labels: let it end in .ome.zarr"),
        ("https://example.org/l.ome.zarr", "https://example.org/l.ome.zarr can only be read from: name a path"),
    ],
)
def test_urls_that_cannot_hold_labels_are_refused(
    run: Run, model: BlobFinder, command: tuple[object, ...], url: str, sentence: str
) -> None:
    result = run(*command, url)
    assert result.code == 1
    assert assert_one_sentence(result.err).startswith(f"Error: {sentence}")
    assert model.encoded == []
