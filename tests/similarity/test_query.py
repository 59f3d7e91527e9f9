"""Queries on disk: what is written is read, and anything else is refused in one sentence."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.similarity.scenes import LAYOUT, OtherFinder, SeeingFinder, descriptors_of, query_of

from napari_sam.errors import ModelError, NapariSamError, PromptError
from napari_sam.similarity.likeness import usual_quality
from napari_sam.similarity.query import FORMAT, LARGER, LITTLE_SMALLER, SMALL, SMALLER, Query


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "cells.sam"
    query_of([0.2, 0.8], ["resting", "dividing"]).save(path)
    return path


def changed(path: Path, described: dict[str, Any] | None = None, **arrays: np.ndarray) -> None:
    """Write a query file again with other content."""
    content = load_file(path)
    known = {
        "model": SeeingFinder.digest,
        "model_name": SeeingFinder.name,
        "classes": ["resting", "dividing"],
        "maps": [list(each) for each in LAYOUT.maps],
        "widths": dict(LAYOUT.widths),
    }
    query = json.dumps(known | (described or {}))
    save_file(content | arrays, path, {"format": FORMAT, "query": query})


def test_a_saved_query_is_read_as_it_was(saved: Path) -> None:
    rejected = query_of([0.2, 0.8], ["resting", "dividing"]).with_objects(
        descriptors_of([0.5]), usual_quality()[None], ["dividing"], is_accepted=[False]
    )
    rejected.save(saved, overwrite=True)
    again = Query.load(saved)
    assert (again.model, again.model_name, again.classes) == (rejected.model, rejected.model_name, rejected.classes)
    assert (again.layout.maps, again.layout.widths) == (LAYOUT.maps, LAYOUT.widths)
    for name in ("descriptors", "quality", "kinds", "is_accepted", "is_answer"):
        np.testing.assert_array_equal(getattr(again, name), getattr(rejected, name))
        assert getattr(again, name).dtype == getattr(rejected, name).dtype
    assert again.is_accepted.tolist() == [True, True, False]
    assert again.is_answer.tolist() == [False, False, True]


def test_a_query_replaces_no_file_and_has_its_own_ending(saved: Path, tmp_path: Path) -> None:
    before = saved.read_bytes()
    for path in (saved, tmp_path / "cells.safetensors"):
        with pytest.raises(NapariSamError):
            query_of([0.5]).save(path)
    assert saved.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["cells.sam"]


def whole(path: Path) -> bytes:
    return path.read_bytes()


def flipped(path: Path) -> bytes:
    content = bytearray(path.read_bytes())
    content[20:40] = bytes(20)
    return bytes(content)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: b"",
        lambda path: whole(path)[: len(whole(path)) // 2],
        lambda path: whole(path)[:5],
        flipped,
        lambda path: pickle.dumps({"model": "compact"}),
        lambda path: b"PK\x03\x04" + bytes(100),
        lambda path: b"label,row,col\n1,2,3\n",
    ],
    ids=["empty", "half", "start", "header", "pickle", "archive", "text"],
)
def test_a_damaged_file_is_refused(saved: Path, make: Callable[[Path], bytes]) -> None:
    saved.write_bytes(make(saved))
    with pytest.raises(PromptError, match=r"cells\.sam is no query that napari-sam saved, or it is damaged") as caught:
        Query.load(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("described", "arrays", "reason"),
    [
        ({}, {"descriptors": np.full((2, LAYOUT.width), np.nan, np.float16)}, "no numbers"),
        ({}, {"quality": np.full((2, 15), np.inf, np.float32)}, "no numbers"),
        ({}, {"descriptors": np.zeros((2, 3), np.float16)}, "other values"),
        ({}, {"quality": np.zeros((2, 3), np.float32)}, "other values"),
        ({}, {"kinds": np.zeros(0, np.int64)}, "other values"),
        ({}, {"is_answer": np.zeros(3, np.uint8)}, "numbers of objects differ"),
        ({}, {"kinds": np.array([0, 2])}, "no such class"),
        ({}, {"kinds": np.array([0, -1])}, "no such class"),
        ({}, {"is_accepted": np.zeros(2, np.uint8)}, "no example"),
        ({"widths": {"inside 4": 3}}, {}, "the layout is unknown"),
        ({"widths": dict(LAYOUT.widths) | {"shape": 4, "color spread": 4}}, {}, "the layout is unknown"),
        ({"maps": [[64, 8]]}, {}, "the layout is unknown"),
        ({"classes": "ab", "maps": 3}, {}, "damaged"),
        ({"classes": ["a", " "]}, {}, "the name of a class is none"),
        ({"classes": ["a", "\ud800"]}, {}, "damaged"),
        ({}, {"descriptors": np.full((2, LAYOUT.width), 6e4, np.float16)}, "no object is so large or small"),
        ({}, {"descriptors": np.full((2, LAYOUT.width), -6e4, np.float16)}, "no object is so large or small"),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(
    saved: Path, described: dict[str, Any], arrays: dict[str, np.ndarray], reason: str
) -> None:
    changed(saved, described, **arrays)
    with pytest.raises(PromptError, match=reason):
        Query.load(saved)


def test_a_file_of_another_version_and_a_missing_one_are_refused(saved: Path, tmp_path: Path) -> None:
    save_file(load_file(saved), saved, {"format": "napari-sam query 7", "query": "{}"})
    with pytest.raises(PromptError, match="another format"):
        Query.load(saved)
    for path in (tmp_path / "missing.sam", tmp_path):
        with pytest.raises(PromptError, match="There is no file"):
            Query.load(path)


def test_a_query_of_another_model_is_refused_by_its_name() -> None:
    query = query_of([0.5])
    query.check_model(SeeingFinder.digest, "any")
    with pytest.raises(ModelError, match="choose the model fake-blobs, or select the examples again"):
        query.check_model(OtherFinder.digest, OtherFinder.name)


def test_joined_queries_have_the_classes_of_both() -> None:
    joined = query_of([0.2, 0.8], ["resting", "dividing"]).joined(query_of([0.7, 0.1], ["dividing", "dead"]))
    assert joined.classes == ("resting", "dividing", "dead")
    assert joined.kinds.tolist() == [0, 1, 1, 2]
    assert len(joined) == 4


def test_sizes_are_those_of_the_examples_with_a_margin_and_not_of_answers() -> None:
    query = query_of([0.5])
    expected = 2 * 2**5 / np.sqrt(np.pi)
    answered = query.with_objects(descriptors_of([0.5], size=9), usual_quality()[None], [""], is_accepted=[True])
    for each in (query, answered):
        assert each.sizes == pytest.approx((expected / SMALLER, expected * LARGER))


def test_much_smaller_objects_are_searched_only_where_tiles_need_not_be_magnified_for_them() -> None:
    for size in (3.0, 3.9, 4.5):
        diameter = 2 * 2**size / np.sqrt(np.pi)
        part = Query.of_examples("digest", "name", LAYOUT, descriptors_of([0.5], size=size), "")
        least = min(max(diameter / SMALLER, SMALL), diameter / LITTLE_SMALLER)
        assert part.sizes[0] == pytest.approx(least, rel=1e-2)
