"""PlaneLinker: the objects of neighboring planes get the numbers of those that they continue."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.everything.scenes import proposals_of

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.linking import LEAST_IOU, PlaneLinker, assigned

SHAPE = (100, 100)


def square(top: int, left: int, side: int = 10) -> Mask:
    return Mask(Box(top, left, top + side, left + side), np.ones((side, side), bool), 0.9, 1.0)


def numbers_of(*planes: list[Mask]) -> list[list[int]]:
    linker = PlaneLinker()
    return [
        linker.link(FoundObjects(Plane.of(SHAPE), proposals_of(masks)), np.arange(len(masks))).tolist()
        for masks in planes
    ]


def overlap(one: Mask, other: Mask) -> float:
    both = one.box.intersection(other.box)
    shared = 0 if both.is_empty else both.height * both.width
    return shared / (one.area + other.area - shared)


@settings(max_examples=60)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2**31))
def test_the_sum_of_ious_of_two_planes_is_the_largest_possible(count, others, seed):
    rng = np.random.default_rng(seed)
    one, other = ([square(*rng.integers(0, 25, 2), side=15) for _ in range(n)] for n in (count, others))
    table = np.array([[overlap(a, b) for b in other] for a in one]).reshape(count, others)
    table[table < LEAST_IOU] = 0
    few, many = sorted((count, others))
    best = max(
        sum(table[i, j] if count <= others else table[j, i] for i, j in enumerate(order))
        for order in itertools.permutations(range(many), few)
    )
    pairs = assigned(proposals_of(one), proposals_of(other))
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(table[i, j] > 0 for i, j in pairs)
    np.testing.assert_allclose(sum(table[i, j] for i, j in pairs), best)


def test_objects_keep_their_numbers_from_plane_to_plane_in_any_order():
    first, second, third = square(10, 10), square(50, 50), square(80, 20)
    assert numbers_of([first, second], [second, first], [third, first, second]) == [[0, 1], [1, 0], [2, 0, 1]]


def test_an_object_that_drifts_keeps_its_number_and_one_that_jumps_gets_another():
    drifts = [[square(10 + 3 * z, 10)] for z in range(8)]
    assert numbers_of(*drifts) == [[0]] * 8
    assert numbers_of([square(10, 10)], [square(18, 10)]) == [[0], [1]]


def test_an_object_that_is_missing_in_one_plane_goes_on_and_after_two_it_is_another():
    here = square(10, 10)
    assert numbers_of([here], [], [here]) == [[0], [], [0]]
    assert numbers_of([here], [], [], [here]) == [[0], [], [], [1]]


def test_of_two_that_one_object_divides_into_only_one_continues_it():
    whole, halves = (
        square(10, 10, 20),
        [Mask(Box(10, 10, 30, 22), np.ones((20, 12), bool), 0.9, 1.0), square(12, 22, 8)],
    )
    assert numbers_of([whole], halves) == [[0], [0, 1]]


def test_only_what_counts_is_linked():
    linker = PlaneLinker()
    found = FoundObjects(Plane.of(SHAPE), proposals_of([square(10, 10), square(50, 50)]))
    assert linker.link(found, np.array([1])).tolist() == [0]
    assert linker.link(found, np.array([0, 1])).tolist() == [1, 0]
