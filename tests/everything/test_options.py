"""FilterOptions: checked values, with defaults for what is left out."""

from __future__ import annotations

import math

import pytest

from napari_sam.errors import NapariSamError
from napari_sam.everything.options import FilterOptions


def test_what_is_left_out_has_its_default() -> None:
    assert FilterOptions.of() == FilterOptions()
    assert FilterOptions.of(confidence=0.2, sizes=[3, 9]) == FilterOptions(confidence=0.2, sizes=(3.0, 9.0))
    assert FilterOptions.of(confidence=0.0, max_overlap=0).max_overlap == 0
    assert FilterOptions.of(sizes=(3, math.inf)).sizes == (3, math.inf)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("confidence", -0.1, "confidence"),
        ("confidence", math.nan, "confidence"),
        ("stability_score_thresh", "high", "stability score thresh"),
        ("min_solidity", 1.1, "min solidity"),
        ("max_overlap", 2, "max overlap"),
        ("sizes", (9, 3), "diameter"),
        ("sizes", (3,), "diameter"),
        ("sizes", (1, 2, 3), "diameter"),
        ("sizes", (-1, 3), "diameter"),
        ("sizes", 7, "diameter"),
        ("sizes", (math.nan, 3), "diameter"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(NapariSamError, match=words):
        FilterOptions.of(**{name: value})  # type: ignore[arg-type]
