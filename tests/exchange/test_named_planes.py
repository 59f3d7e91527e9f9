"""Planes by the names of axes, in whichever order a file or an image has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.errors import PromptError
from napari_sam.exchange.named_planes import plane_index


@st.composite
def images(draw):
    """An image with named axes in any order, the axes of its planes, and the position of a plane in any order."""
    names = "".join(draw(st.permutations(draw(st.sampled_from(["zyx", "tyx", "tzyx", "tczyx"])))))
    shape = tuple(draw(st.integers(2, 6)) for _ in names)
    at = {letter: draw(st.integers(0, length - 1)) for letter, length in zip(names, shape, strict=True)}
    others = draw(st.permutations([letter for letter in names if letter not in "yx"]))
    return names, shape, {letter: at[letter] for letter in others}


@given(images())
def test_a_position_goes_to_the_axis_of_its_name(image):
    names, shape, positions = image
    axes = names.index("y"), names.index("x")
    index = plane_index(positions, names, shape, axes)
    others = [letter for axis, letter in enumerate(names) if axis not in axes]
    assert dict(zip(others, index, strict=True)) == positions


def test_axes_of_one_plane_and_those_that_a_plane_supplies_need_no_name():
    assert plane_index({"t": 2}, "tzyx", (4, 1, 9, 9), (2, 3)) == [2, 0]
    assert plane_index({"t": 2}, "tzyx", (4, 3, 9, 9), (2, 3), default=[2, 1]) == [2, 1]
    assert plane_index({"z": 0, "t": 0}, "yx", (9, 9), (0, 1)) == []
    assert plane_index({"channel": 1, "z": 2}, "zyx", (3, 9, 9), (1, 2)) == [2]


def test_the_only_axis_without_a_name_takes_the_only_name():
    assert plane_index({"z": 3}, None, (5, 9, 9), (1, 2)) == [3]
    assert plane_index({"t": 1, "z": 3}, "t?yx", (2, 5, 9, 9), (2, 3)) == [1, 3]


def test_planes_along_other_axes_are_named_as_well():
    assert plane_index({"y": 4}, "zyx", (5, 9, 9), (0, 2)) == [4]


@pytest.mark.parametrize(
    ("positions", "names", "shape", "words"),
    [
        ({"z": 1}, "tyx", (3, 9, 9), "has no axis z"),
        ({"z": 1}, "yx", (9, 9), "has no axis z"),
        ({"z": 1, "t": 1}, None, (3, 3, 9, 9), "does not say which of its axes"),
        ({"z": 0, "t": 0}, None, (3, 3, 9, 9), "does not say which of its axes"),
        ({"z": 1}, "??yx", (3, 3, 9, 9), "does not say which of its axes"),
        ({"t": 1}, "tzyx", (3, 3, 9, 9), "does not say where along z"),
        ({"t": 3}, "tyx", (3, 9, 9), "positions 0 to 2"),
        ({"t": -1}, "tyx", (3, 9, 9), "positions 0 to 2"),
        ({"frame": 1}, "tyx", (3, 9, 9), "counts from 1 in some programs"),
        ({"slice": 1}, None, (3, 9, 9), "counts from 1 in some programs"),
    ],
)
def test_a_plane_that_the_image_does_not_have_is_said_in_words(positions, names, shape, words):
    with pytest.raises(PromptError, match=words):
        plane_index(positions, names, shape, (len(shape) - 2, len(shape) - 1))


def test_a_name_that_may_count_from_1_does_no_harm_where_there_is_one_plane():
    assert plane_index({"slice": 1}, "yx", (9, 9), (0, 1)) == []
    assert plane_index({"frame": 1, "slice": 1}, "tzyx", (1, 1, 9, 9), (2, 3)) == [0, 0]


def test_another_plane_than_the_one_that_was_asked_for_is_refused():
    with pytest.raises(PromptError, match="another plane was asked for"):
        plane_index({"t": 2}, "tzyx", (4, 3, 9, 9), (2, 3), default=[1, 1])
