"""`napari-sam cache`: what it shows and what it deletes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.checks import (
    Run,
    assert_one_sentence,
)

pytestmark = pytest.mark.usefixtures("one_predictor")


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
