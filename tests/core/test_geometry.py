from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.geometry import Box, Plane, interpolated, interpolation_matrix
from napari_sam.errors import ImageError
from napari_sam.testing.strategies import boxes

FIELD = 12


whole_boxes = boxes((FIELD, FIELD), min_side=0)


@st.composite
def float_boxes(draw):
    edges = st.floats(-50, 50).map(lambda v: round(v, 3))
    top, left = draw(edges), draw(edges)
    return Box(top, left, top + draw(st.floats(0.001, 40)), left + draw(st.floats(0.001, 40)))


@st.composite
def planes(draw):
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=2, max_size=5)))
    row, col = draw(st.permutations(range(len(shape))))[:2]
    index = [draw(st.integers(-length, length - 1)) for axis, length in enumerate(shape) if axis not in (row, col)]
    return shape, index, (row, col)


def painted(box: Box) -> np.ndarray:
    field = np.zeros((FIELD, FIELD), bool)
    field[box.slices] = True
    return field


@given(whole_boxes, whole_boxes)
def test_intersection_holds_exactly_the_common_pixels(a, b):
    common = a.intersection(b)
    if common.is_empty:
        assert not (painted(a) & painted(b)).any()
    else:
        np.testing.assert_array_equal(painted(common), painted(a) & painted(b))


@given(float_boxes(), float_boxes())
def test_union_is_the_smallest_box_that_contains_both(a, b):
    union = a.union(b)
    assert union.contains(a)
    assert union.contains(b)
    assert union == b.union(a)
    assert union.as_tuple() == tuple(
        pick(x, y) for pick, x, y in zip((min, min, max, max), a.as_tuple(), b.as_tuple(), strict=True)
    )
    assert union.extent >= max(a.extent, b.extent)


@given(float_boxes(), float_boxes())
def test_containment_agrees_with_intersection_and_union(a, b):
    assert a.contains(b) == (a.intersection(b) == b) == (a.union(b) == a)


@given(float_boxes())
def test_rounding_out_adds_less_than_a_pixel_on_each_side(box):
    whole = box.rounded_out()
    assert whole.contains(box)
    assert all(float(edge).is_integer() for edge in whole.as_tuple())
    assert all(abs(after - before) < 1 for after, before in zip(whole.as_tuple(), box.as_tuple(), strict=True))


@given(float_boxes(), st.floats(0, 20))
def test_growing_and_shrinking_by_the_same_margin_returns(box, margin):
    back = box.grown(margin).grown(-margin)
    assert box.grown(margin).center == pytest.approx(box.center)
    assert back.as_tuple() == pytest.approx(box.as_tuple(), abs=1e-9)


@given(whole_boxes, st.integers(0, FIELD - 1), st.integers(0, FIELD - 1), st.floats(-0.499, 0.499))
def test_a_point_lies_in_a_box_exactly_when_its_pixel_does(box, row, col, shift):
    assert box.contains_point(row + shift, col - shift) == painted(box)[row, col]


@given(planes())
def test_slicer_and_oriented_give_what_a_transpose_gives(case):
    shape, index, axes = case
    array = np.arange(math.prod(shape)).reshape(shape)
    plane = Plane.of(shape, index, axes)
    rows, cols = plane.shape_in(shape)
    box = Box(rows // 3, cols // 4, rows, max(cols - 1, 1))
    others = [axis for axis in range(len(shape)) if axis not in axes]
    whole = array.transpose(*axes, *others)[(slice(None), slice(None), *index)]
    np.testing.assert_array_equal(plane.oriented(array[plane.slicer(box)]), whole[box.slices])
    assert (rows, cols) == whole.shape


def test_oriented_keeps_the_channels_last():
    pixels = np.arange(4 * 5 * 3).reshape(4, 5, 3)
    plane = Plane.of((4, 5), axes=(1, 0))
    block = plane.oriented(pixels[plane.slicer(Box(1, 0, 4, 2))])
    np.testing.assert_array_equal(block, pixels[:2, 1:4].transpose(1, 0, 2))


def test_the_plane_may_be_left_out_only_where_there_is_one():
    assert Plane.of((1, 1, 7, 8)).index == (0, 0, 0, 0)
    with pytest.raises(ImageError, match=r"many planes.*3 number.*plane=\(1, 2, 3\).*--plane 1,2,3"):
        Plane.of((2, 4, 6, 30, 40))
    with pytest.raises(ImageError, match=r"1 number.*plane=\(?4\b"):
        Plane.of((9, 30, 40))


def test_one_plane_number_may_be_a_bare_integer_and_count_from_the_end():
    assert Plane.of((5, 6, 7), 3) == Plane.of((5, 6, 7), (3,)) == Plane.of((5, 6, 7), np.int64(-2))
    assert Plane.of((5, 6, 7), -2).index == (3, 0, 0)


@pytest.mark.parametrize("index", [5, -6, (5,)])
def test_a_plane_out_of_range_is_refused_with_the_range(index):
    with pytest.raises(ImageError, match="axis 1 of the image has the planes 0 to 4"):
        Plane.of((8, 5, 9), index, axes=(0, 2))


@pytest.mark.parametrize("index", [(), (1, 2), (1, 2, 3)])
def test_the_wrong_number_of_plane_numbers_is_refused(index):
    with pytest.raises(ImageError, match=rf"needs 1 plane number.*{len(index)} came"):
        Plane.of((5, 6, 7), index)


@pytest.mark.parametrize("axes", [(0, 0), (-1, 2), (0, 3), (-4, 1)])
def test_axes_must_be_two_different_ones_of_the_array(axes):
    with pytest.raises(ImageError, match="not two different axes"):
        Plane.of((5, 6, 7), 0, axes)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_fewer_than_two_axes_are_refused(shape):
    with pytest.raises(ImageError, match=r"at least two axes.*give a 2-D array"):
        Plane.of(shape)


@given(st.integers(1, 40), st.lists(st.floats(-10, 60), min_size=1, max_size=30))
def test_interpolation_weighs_at_most_two_neighbours_and_sums_to_one(length, positions):
    matrix = interpolation_matrix(length, np.array(positions))
    assert matrix.shape == (len(positions), length)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    for row in matrix:
        used = np.flatnonzero(row)
        assert len(used) <= 2
        assert used[-1] - used[0] <= 1


@given(st.integers(1, 40), st.lists(st.floats(-10, 60), min_size=1, max_size=30), st.floats(-3, 3), st.floats(-9, 9))
def test_interpolation_is_exact_on_ramps_and_constant_beyond_the_ends(length, positions, slope, offset):
    centers = np.arange(length) + 0.5
    ramp = slope * centers + offset
    expected = slope * np.clip(positions, 0.5, length - 0.5) + offset
    at = interpolation_matrix(length, np.array(positions)).astype(np.float64) @ ramp
    np.testing.assert_allclose(at, expected, atol=1e-4)


def test_interpolation_at_the_centres_is_the_identity():
    np.testing.assert_array_equal(interpolation_matrix(7, np.arange(7) + 0.5), np.eye(7))


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.lists(st.floats(-9, 310, width=32), min_size=1, max_size=200),
    st.lists(st.floats(-9, 310, width=32), min_size=1, max_size=200),
)
def test_an_interpolated_image_is_the_product_with_both_matrices(rows, cols, at_rows, at_cols):
    samples = np.random.default_rng(rows + cols).normal(size=(rows, cols)).astype(np.float32)
    down, across = np.sort(np.array(at_rows)), np.sort(np.array(at_cols))
    expected = interpolation_matrix(rows, down) @ samples @ interpolation_matrix(cols, across).T
    np.testing.assert_allclose(interpolated(samples, down, across), expected, atol=1e-5)
