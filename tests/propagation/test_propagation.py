"""Propagation: which planes are visited, what is final, and that accepted planes are never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import PromptError
from napari_sam.propagation.follower import Followed
from napari_sam.propagation.meeting import met
from napari_sam.propagation.plane_stack import PlaneStack
from napari_sam.propagation.propagation import Propagation

SHAPE = (20, 40, 40)


def square(top: int = 10, side: int = 8, iou: float = 0.9) -> Mask:
    return Mask(Box(top, top, top + side, top + side), np.ones((side, side), bool), iou)


EMPTY = Mask(Box(0, 0, 0, 0), np.zeros((0, 0), bool))


class Straight:
    """Follows each object unchanged, as long as the truth has it, and notes where it was asked."""

    def __init__(self, direction: int, there: Mapping[int, range], asked: list[tuple[int, int]]) -> None:
        self.direction, self.there, self.asked = direction, there, asked
        self.masks: dict[int, dict[int, Mask]] = {}

    def remember(self, at: int, plane: Plane, masks: Mapping[int, Mask]) -> None:
        assert plane.index[0] == at
        for label, mask in masks.items():
            self.masks.setdefault(label, {})[at] = mask

    def follow(self, at: int, plane: Plane, labels: Sequence[int]) -> dict[int, Followed]:
        assert plane.index[0] == at
        self.asked += [(at, label) for label in labels]
        answers = {}
        for label in labels:
            passed = [there for there in self.masks[label] if (at - there) * self.direction > 0]
            last = max(passed, key=lambda there: there * self.direction)
            is_there = at in self.there[label]
            answers[label] = Followed(self.masks[label][last] if is_there else EMPTY, 0.8)
        return answers


def run(accepted, there=None, planes=None, patience=2, shape=SHAPE):
    stack = PlaneStack.of(shape, Plane.of(shape, 0), 0, planes)
    asked: list[tuple[int, int]] = []
    truth = {label: range(shape[0]) for label in accepted} if there is None else there
    steps = list(Propagation(stack, accepted, lambda way: Straight(way, truth, asked), patience).run())
    found = {(label, step.at): one for step in steps for label, one in step.followed.items()}
    return found, asked, steps


def test_one_accepted_plane_is_followed_both_ways_to_the_ends_of_the_image():
    found, asked, steps = run({5: {7: square()}})
    assert sorted(at for _, at in found) == [*range(7), *range(8, 20)]
    assert all(one.mask.area == 64 for one in found.values())
    assert len(asked) == len(set(asked)) == 19
    assert steps[-1].done == steps[-1].total == 19


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_an_object_that_ends_is_looked_for_in_as_many_planes_as_the_patience_says(patience):
    found, asked, _ = run({1: {7: square()}}, {1: range(4, 11)}, patience=patience)
    assert sorted(at for _, at in found) == [4, 5, 6, 8, 9, 10]
    assert max(at for at, _ in asked) == 10 + patience
    assert min(at for at, _ in asked) == 4 - patience


def test_an_object_goes_on_behind_a_gap_shorter_than_the_patience():
    class Gap(Straight):
        def follow(self, at, plane, labels):
            found = super().follow(at, plane, labels)
            return {label: Followed(EMPTY, 0.5) if at == 9 else one for label, one in found.items()}

    stack = PlaneStack.of(SHAPE, Plane.of(SHAPE, 0), 0)
    steps = Propagation(stack, {1: {7: square()}}, lambda way: Gap(way, {1: range(20)}, [])).run()
    assert [at for step in steps for at in [step.at] if step.followed] == [8, *range(10, 20), *range(6, -1, -1)]


def test_accepted_planes_are_never_answered_and_between_them_both_sides_meet():
    found, asked, _ = run({1: {4: square(side=9), 12: square(side=12)}})
    assert (1, 4) not in found
    assert (1, 12) not in found
    assert sorted(at for _, at in found) == [at for at in range(20) if at not in (4, 12)]
    sides = [found[1, at].mask.box.height for at in range(5, 12)]
    assert sides == sorted(sides)
    assert 9 <= sides[0] < sides[-1] <= 12
    # From both sides: once each.
    assert sorted(at for at, _ in asked if 4 < at < 12) == sorted([*range(5, 12)] * 2)


def test_between_accepted_planes_nothing_ends():
    found, _, _ = run({1: {4: square(), 12: square()}}, {1: range(3, 6)})
    assert sorted(at for _, at in found) == [3, 5]
    found, _, _ = run({1: {4: square(), 12: square()}}, {1: range(9, 20)})
    assert sorted(at for _, at in found) == [9, 10, 11, *range(13, 20)]


def test_an_object_is_not_followed_beyond_a_plane_where_it_was_accepted_that_it_is_not():
    found, asked, _ = run({1: {7: square(), 10: EMPTY, 3: EMPTY}})
    assert sorted(at for _, at in found) == [4, 5, 6, 8, 9]
    assert {at for at, _ in asked} == {4, 5, 6, 8, 9}


def test_planes_outside_the_range_are_not_visited():
    found, asked, steps = run({1: {7: square()}}, planes=(5, 9))
    assert sorted(at for _, at in found) == [5, 6, 8, 9] == sorted({at for at, _ in asked})
    assert steps[-1].total == 4
    found, _, _ = run({1: {2: square()}}, planes=(5, 9))
    assert sorted(at for _, at in found) == [5, 6, 7, 8, 9]


def test_an_axis_of_length_one_has_no_planes_to_visit():
    found, asked, steps = run({1: {0: square()}}, shape=(1, 40, 40))
    assert not found
    assert not asked
    assert not steps


def test_two_hundred_objects_are_asked_together_plane_by_plane():
    accepted = {label: {label % 20: square()} for label in range(1, 201)}
    found, asked, steps = run(accepted)
    assert len(found) == 200 * 19 == len(asked)
    assert [step.at for step in steps] == [*range(1, 20), *range(18, -1, -1)]


def test_nothing_accepted_is_nothing_to_do():
    assert run({})[2] == []
    assert run({1: {3: EMPTY}})[2] == []


def test_the_waiting_answers_are_kept_packed_and_come_back_to_the_pixel():
    rng = np.random.default_rng(0)
    mask = Mask(Box(3, 4, 23, 31), rng.random((20, 27)) > 0.5, 0.7)
    found, _, _ = run({1: {4: mask, 8: mask}})
    np.testing.assert_array_equal(found[1, 6].mask.in_box(mask.box), mask.pixels)


def test_masks_meet_between_both_and_nearer_to_the_nearer_one():
    small, large = Followed(square(10, 12), 0.9), Followed(square(8, 16), 0.9)
    areas = [met(small, large, share).mask.area for share in (0.1, 0.5, 0.9)]
    assert 144 <= areas[0] < areas[1] < areas[2] <= 256
    doubtful = Followed(large.mask, 0.1)
    assert met(small, doubtful, 0.5).mask.area < areas[1]


def test_of_masks_that_disagree_the_surer_one_counts():
    one, other = Followed(square(0, 3), 0.9), Followed(square(30, 3), 0.8)
    assert met(one, other, 0.9) is one
    small, large = Followed(square(10, 4), 0.7), Followed(square(4, 16), 0.9)
    assert met(small, large, 0.1) is large
    assert met(None, other, 0.5) is other
    assert met(one, None, 0.5) is one
    assert met(None, None, 0.5) is None


@pytest.mark.parametrize(
    ("planes", "words"),
    [
        ((9, 5), "end before they begin"),
        ((0, 20), "0 to 19"),
        (3, "first, last"),
        ((1.5, 3), "0 to 19"),
        ("ab", "0 to 19"),
    ],
)
def test_planes_that_do_not_exist_are_refused(planes, words):
    with pytest.raises(PromptError, match=words):
        PlaneStack.of(SHAPE, Plane.of(SHAPE, 0), 0, planes)


def test_a_stack_knows_its_planes():
    stack = PlaneStack.of((3, 20, 40, 40), Plane.of((3, 20, 40, 40), (2, 5)), 1, (-4, -1))
    assert (stack.first, stack.last, len(stack)) == (16, 19, 4)
    assert stack.at(18).index == (2, 18, 0, 0)
    assert stack.position_of(stack.at(18)) == 18
    assert stack.position_of(Plane.of((3, 20, 40, 40), (1, 18))) is None
    with pytest.raises(PromptError, match="lies in the planes"):
        PlaneStack.of((3, 20, 40, 40), Plane.of((3, 20, 40, 40), (2, 5)), 2)
