"""`napari-sam encode`: what it stores, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tifffile
from skimage.data import coins
from tests.cli.checks import (
    Run,
    assert_one_sentence,
)

from napari_sam.embeddings.store import EmbeddingStore

pytestmark = pytest.mark.usefixtures("one_predictor")


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
    assert "level -1 is used instead" in result.err
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
