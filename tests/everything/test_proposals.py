"""Proposals: packed masks that come back as they were, alone, joined and chosen."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.everything.scenes import proposals_of

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.everything.proposals import Proposals
from napari_sam.testing.strategies import masks

SHAPE = (40, 50)
SOME = st.lists(masks(SHAPE).map(Mask.tightened).filter(lambda mask: mask.area > 0), max_size=12)


def assert_are(proposals: Proposals, expected: list[Mask], points: np.ndarray, levels: list[int]) -> None:
    assert len(proposals) == len(expected)
    np.testing.assert_array_equal(proposals.points, points)
    assert proposals.levels.tolist() == levels
    for i, mask in enumerate(expected):
        again = proposals.mask(i)
        assert again.box == mask.box == proposals.box(i)
        np.testing.assert_array_equal(again.pixels, mask.pixels)
        assert (again.iou_prediction, again.stability_score) == (0.5, 0.25)
        assert proposals.areas[i] == mask.area
        np.testing.assert_allclose(proposals.diameters[i] ** 2 * np.pi / 4, mask.area)


@settings(max_examples=50)
@given(st.lists(SOME, max_size=4), st.data())
def test_masks_come_back_joined_and_chosen_in_any_order(parts, data):
    count = sum(map(len, parts))
    points = np.random.default_rng(count).uniform(0, 40, (count, 2))
    starts = np.cumsum([0, *map(len, parts)])
    tiles = [
        proposals_of(part, points[start : start + len(part)], level - 1)
        for level, (part, start) in enumerate(zip(parts, starts, strict=False))
    ]
    every = [mask for part in parts for mask in part]
    levels = [level - 1 for level, part in enumerate(parts) for _ in part]
    joined = Proposals.joined(tiles)
    assert_are(joined, every, points, levels)
    chosen = data.draw(st.lists(st.integers(0, count - 1))) if count else []
    some = joined.taken(np.array(chosen, np.intp))
    assert_are(some, [every[i] for i in chosen], points[chosen], [levels[i] for i in chosen])
    # And once more, since a choice is packed anew.
    assert_are(some.taken(np.arange(len(some))), [every[i] for i in chosen], points[chosen], some.levels.tolist())


def test_the_types_do_not_depend_on_how_many_there_are():
    """They are stored, and joined with those of other tiles."""
    one = proposals_of([Mask(Box(0, 0, 2, 3), np.ones((2, 3), bool), 0.5, 0.25)])
    empty = Proposals.joined([])
    for name, array in one.arrays.items():
        assert array.dtype == getattr(empty, name).dtype
        assert array.ndim == getattr(empty, name).ndim
        assert (empty.taken(np.zeros(0, np.intp)).arrays[name].dtype, Proposals.joined([one]).arrays[name].dtype) == (
            array.dtype,
            array.dtype,
        )
