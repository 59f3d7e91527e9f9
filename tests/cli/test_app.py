"""The commands around the others: help, info and the demo."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from tests.cli.checks import (
    Run,
    assert_objects_describe,
    assert_one_sentence,
)

import napari_sam
from napari_sam.cli import app as cli

pytestmark = pytest.mark.usefixtures("one_predictor")


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
