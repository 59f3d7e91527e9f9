"""The commands with `--scheduler`: the same outputs as without, and one sentence where there is no scheduler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.everything.scenes import discs, picture

from napari_sam.cli import models as cli_models
from napari_sam.distributed import cluster as connecting
from napari_sam.testing import BlobFinder

Run = Callable[..., Any]
LABELS = discs((300, 320), [(60, 60), (60, 200), (150, 130), (240, 60), (240, 260)])
OPTIONS = ("--contrast", "0,255")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> BlobFinder:
    """The model of every command: a fake, which is sent to the workers."""
    fake = BlobFinder()
    monkeypatch.setattr(cli_models, "load", lambda *_, **__: fake)
    return fake


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "discs.tif", picture(LABELS))
    return tmp_path / "discs.tif"


def test_everything_writes_the_same_labels(
    run: Run, model: BlobFinder, image: Path, tmp_path: Path, scheduler: str
) -> None:
    command = ("everything", image, "--sizes", "20,40", *OPTIONS)
    assert run(*command, "--out", tmp_path / "here.tif").code == 0
    assert model.encoded
    model.encoded.clear()
    result = run(*command, "--out", tmp_path / "there.tif", "--scheduler", scheduler)
    assert (result.code, model.encoded) == (0, [])
    assert "5 object(s) written" in result.out
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "there.tif"), tifffile.imread(tmp_path / "here.tif"))


def test_encode_fills_the_store(run: Run, model: BlobFinder, image: Path, tmp_path: Path, scheduler: str) -> None:
    command = ("encode", image, "--store", tmp_path / "store", *OPTIONS)
    result = run(*command, "--scheduler", scheduler)
    assert (result.code, model.encoded) == (0, [])
    assert "tiles encoded" in result.out
    again = run(*command)
    assert again.out.startswith("0 of ")
    assert model.encoded == []


def test_export_writes_the_same_tables_and_one_that_fails_is_named(run: Run, tmp_path: Path, scheduler: str) -> None:
    (tmp_path / "labels").mkdir()
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / "labels" / f"{name}.tif", LABELS.astype(np.uint16))
    tifffile.imwrite(tmp_path / "labels" / "c.tif", LABELS.astype(np.float32) + 0.5)
    command = ("export", tmp_path / "labels")
    for folder, options in (("here", ()), ("there", ("--scheduler", scheduler))):
        (tmp_path / folder).mkdir()
        result = run(*command, "--out", tmp_path / folder / "*.csv", *options)
        assert result.code == 1
        assert "2 of 3 image(s) done, 1 failed" in result.out
        assert "c.tif" in result.err
    for name in ("a.csv", "b.csv"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_a_scheduler_that_is_not_there_is_one_sentence_and_nothing_is_written(
    run: Run, model: BlobFinder, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 0.5)
    result = run("everything", image, "--out", tmp_path / "labels.tif", "--scheduler", "tcp://127.0.0.1:1")
    assert result.code == 1
    assert result.err.count("\n") <= 2
    assert "There is no scheduler at tcp://127.0.0.1:1" in result.err.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == [image.name]
