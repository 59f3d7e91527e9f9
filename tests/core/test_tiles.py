from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from napari_sam.core.geometry import Box
from napari_sam.core.tiles import Tile, TileGrid

SIDES = st.sampled_from([16, 32, 48, 64, 96, 128, 144, 256])
ANY_SIDE = st.integers(16, 256)


def lengths(most: int) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(1, 20), st.integers(1, most))


def levels_of(grid: TileGrid) -> range:
    return range(grid.min_level, grid.max_level + 1)


def intervals(grid: TileGrid, level: int, axis: int) -> list[tuple[Tile, float, float]]:
    count = grid.count(level)[axis]
    tiles = [grid.tile(level, i, 0) if axis == 0 else grid.tile(level, 0, i) for i in range(count)]
    return [(t, t.owned.as_tuple()[axis], t.owned.as_tuple()[axis + 2]) for t in tiles]


SQUARE = st.just((1.0, 1.0))
PIXEL_SIZES = st.sampled_from([(1.0, 1.0), (2.0, 1.0), (1.0, 3.7), (12.5, 1.0)])


@st.composite
def grids(draw, most=2000, sides=SIDES, pixel_sizes=SQUARE):
    return TileGrid((draw(lengths(most)), draw(lengths(most))), draw(sides), draw(pixel_sizes))


@settings(max_examples=60)
@given(grids(most=90, sides=ANY_SIDE, pixel_sizes=PIXEL_SIZES))
def test_every_pixel_has_exactly_one_owner_at_every_level(grid):
    for level in levels_of(grid):
        owners = np.zeros(grid.shape, int)
        rows, cols = grid.count(level)
        for row in range(rows):
            for col in range(cols):
                owners[grid.tile(level, row, col).owned.slices] += 1
        assert (owners == 1).all()


@settings(max_examples=60)
@given(grids(sides=ANY_SIDE, pixel_sizes=PIXEL_SIZES))
def test_owned_intervals_follow_each_other_without_gap_on_large_planes(grid):
    for level in levels_of(grid):
        for axis in (0, 1):
            parts = intervals(grid, level, axis)
            assert parts[0][1] == 0
            assert parts[-1][2] == grid.shape[axis]
            assert all(before[2] == after[1] for before, after in pairwise(parts))
            assert all(stop > start for _, start, stop in parts)


@settings(max_examples=60)
@given(grids(sides=ANY_SIDE), st.data())
def test_owned_lies_in_read_and_read_in_the_plane(grid, data):
    level = data.draw(st.integers(grid.min_level, grid.max_level))
    rows, cols = grid.count(level)
    tile = grid.tile(level, data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1)))
    assert tile.read.contains(tile.owned)
    assert Box.of_shape(grid.shape).contains(tile.read)
    assert not tile.owned.is_empty


@given(grids(sides=ANY_SIDE), st.data())
def test_tiles_at_the_edge_are_moved_inside_and_never_cut(grid, data):
    level = data.draw(st.integers(grid.min_level, grid.max_level))
    rows, cols = grid.count(level)
    tile = grid.tile(level, data.draw(st.sampled_from([0, rows - 1])), data.draw(st.sampled_from([0, cols - 1])))
    span = grid.span(level)
    assert tile.read.pixel_shape == tuple(min(span, length) for length in grid.shape)


@given(grids(sides=ANY_SIDE), st.data())
def test_neighbours_overlap_by_at_least_half(grid, data):
    level = data.draw(st.integers(grid.min_level, grid.max_level))
    for axis in (0, 1):
        starts = [tile.read.as_tuple()[axis] for tile, _, _ in intervals(grid, level, axis)]
        assert all(0 < b - a <= grid.span(level) / 2 for a, b in pairwise(starts))


@given(grids(sides=ANY_SIDE), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True), st.data())
def test_tile_at_returns_the_owner_of_a_position(grid, down, across, data):
    level = data.draw(st.integers(grid.min_level, grid.max_level))
    row, col = down * grid.shape[0], across * grid.shape[1]
    assume(row < grid.shape[0] and col < grid.shape[1])
    tile = grid.tile_at(level, row, col)
    assert tile.owned.top <= row < tile.owned.bottom
    assert tile.owned.left <= col < tile.owned.right
    assert tile == grid.tile(level, tile.row, tile.col)


@given(grids(most=600), st.data())
def test_tile_at_finds_each_tile_from_the_corners_of_what_it_owns(grid, data):
    level = data.draw(st.integers(grid.min_level, grid.max_level))
    rows, cols = grid.count(level)
    tile = grid.tile(level, data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1)))
    top, left, bottom, right = tile.owned.as_tuple()
    for row, col in [(top, left), (top, right - 1e-6), (bottom - 1e-6, left), (bottom - 1e-6, right - 1e-6)]:
        assert grid.tile_at(level, row, col) == tile


@given(grids(), st.data())
def test_positions_outside_belong_to_the_nearest_tile(grid, data):
    level = data.draw(st.integers(grid.min_level, grid.max_level))
    last_row, last_col = (n - 1 for n in grid.count(level))
    rows, cols = grid.shape
    assert grid.tile_at(level, -500, -0.5) == grid.tile(level, 0, 0)
    assert grid.tile_at(level, rows, cols) == grid.tile_at(level, rows + 1e5, cols + 7)
    assert grid.tile_at(level, rows + 3, -3) == grid.tile(level, last_row, 0)
    assert grid.tile_at(level, rows + 3, cols + 3) == grid.tile(level, last_row, last_col)


@st.composite
def objects(draw):
    """Return a grid, a level and a box inside its plane of at most half a tile of this level."""
    grid = draw(grids(most=3000))
    level = draw(st.integers(grid.min_level, grid.max_level))
    most = grid.span(level) / 2
    height, width = (draw(st.floats(0.01, 1)) * min(most, length) for length in grid.shape)
    if draw(st.booleans()):
        height, width = max(math.floor(height), 1), max(math.floor(width), 1)
    top = draw(st.floats(0, 1)) * (grid.shape[0] - height)
    left = draw(st.floats(0, 1)) * (grid.shape[1] - width)
    if draw(st.booleans()):
        top, left = math.floor(top), math.floor(left)
    return grid, level, Box(top, left, top + height, left + width)


def sees(tile: Tile, box: Box) -> bool:
    return tile.read.grown(1e-6).contains(box)


@settings(max_examples=400)
@given(objects())
def test_the_owner_of_its_centre_sees_an_object_of_up_to_half_a_tile_whole(case):
    grid, level, box = case
    assert sees(grid.tile_at(level, *box.center), box)


@settings(max_examples=400)
@given(objects(), st.floats(0.1, 1))
def test_routing_by_extent_and_centre_sees_any_object_whole(case, fraction):
    grid, _, box = case
    tile = grid.tile_at(grid.level_for(box.extent, fraction), *box.center)
    assert sees(tile, box)


@settings(max_examples=400)
@given(objects())
def test_an_object_of_up_to_a_quarter_tile_has_an_eighth_of_context_or_the_image_ends_there(case):
    grid, level, box = case
    assume(box.extent <= grid.span(level) / 4)
    tile = grid.tile_at(level, *box.center)
    context = box.grown(grid.span(level) / 8).intersection(Box.of_shape(grid.shape))
    assert sees(tile, context)


@given(grids(), st.floats(0.1, 0.5), st.lists(st.floats(0.5, 5000), min_size=2, max_size=10))
def test_larger_objects_never_get_finer_levels(grid, fraction, extents):
    chosen = [grid.level_for(extent, fraction) for extent in sorted(extents)]
    assert chosen == sorted(chosen)
    assert all(grid.min_level <= level <= grid.max_level for level in chosen)


@given(SIDES, st.floats(0.1, 0.35), st.floats(0, 11))
def test_the_level_brings_the_object_nearest_to_its_fraction(side, fraction, octave):
    grid = TileGrid((10**6, 10**5), side)
    extent = grid.span(grid.min_level) * fraction * 2**octave
    level = grid.level_for(extent, fraction)
    assert abs(math.log2(extent / grid.span(level) / fraction)) <= 0.5 + 1e-9


@given(grids(sides=ANY_SIDE))
def test_the_coarsest_level_is_the_first_where_one_tile_covers_the_plane(grid):
    assert grid.count(grid.max_level) == (1, 1)
    assert grid.tile(grid.max_level, 0, 0).read == Box.of_shape(grid.shape)
    if grid.max_level > grid.min_level:
        assert grid.count(grid.max_level - 1) != (1, 1)


@pytest.mark.parametrize(("side", "finest"), [(16, -1), (32, -2), (64, -3), (256, -3), (1024, -3)])
def test_magnification_stops_at_eight_pixels_or_eightfold(side, finest):
    grid = TileGrid((500, 500), side)
    assert grid.min_level == finest
    assert grid.clamp(-99) == finest
    assert grid.span(finest) == max(side // 8, 8)


@given(grids(most=900), st.data())
def test_points_and_boxes_agree_in_tile_coordinates(grid, data):
    level = data.draw(st.integers(grid.min_level, grid.max_level))
    row, col = (data.draw(st.integers(0, length - 1)) for length in grid.shape)
    tile = grid.tile_at(level, row + 0.5, col + 0.5)
    pixel = tile.box_to_tile(Box(row, col, row + 1, col + 1))
    at = tile.point_to_tile(row, col)
    assert tile.points_from_tile(np.array(at)) == pytest.approx((row, col), abs=1e-6)
    assert pixel.center == pytest.approx((at[0] + 0.5, at[1] + 0.5))
    assert pixel.extent == pytest.approx(1 / tile.downsample)
    assert Box(0, 0, tile.side, tile.side).contains(pixel)


@given(grids(most=900), st.data())
def test_what_a_tile_reads_fills_it_from_its_first_corner(grid, data):
    level = data.draw(st.integers(grid.min_level, grid.max_level))
    tile = grid.tile(level, 0, 0)
    whole = tile.box_to_tile(tile.read)
    assert (whole.top, whole.left) == (0, 0)
    assert whole.height == pytest.approx(min(tile.side, grid.shape[0] / tile.downsample))
    assert tile.box_to_tile(tile.read.grown(grid.span(level))) == Box(0, 0, tile.side, tile.side)


@given(grids(pixel_sizes=PIXEL_SIZES), st.data())
def test_a_tile_is_a_square_of_the_world_whatever_the_shape_of_pixels(grid, data):
    level = data.draw(st.sampled_from(levels_of(grid)))
    tile = grid.tile_at(level, data.draw(st.integers(0, grid.shape[0])), data.draw(st.integers(0, grid.shape[1])))
    for axis, (step, size) in enumerate(zip(tile.step, grid.pixel_size, strict=True)):
        assert step * tile.side == grid.spans(level)[axis]
        # Spans are whole pixels, so where one pixel is a good part of a tile the square is only nearly one.
        assert abs(step * size / tile.downsample - 1) <= size / grid.span(level)


@given(grids(pixel_sizes=PIXEL_SIZES))
def test_the_coarsest_level_covers_the_plane_with_one_tile_and_no_finer_one_does(grid):
    assert grid.count(grid.max_level) == (1, 1)
    # A tile reads one pixel at least, so where a pixel is larger than a tile one tile may cover more than asked for.
    is_square = grid.pixel_size == (1.0, 1.0)
    assert not is_square or grid.max_level == grid.min_level or grid.count(grid.max_level - 1) != (1, 1)


@given(grids(most=600, pixel_sizes=PIXEL_SIZES), st.data())
def test_tiles_over_a_box_are_those_that_own_its_pixels(grid, data):
    level = data.draw(st.sampled_from([one for one in levels_of(grid) if np.prod(grid.count(one)) < 500] or [0]))
    top, left = data.draw(st.integers(0, grid.shape[0] - 1)), data.draw(st.integers(0, grid.shape[1] - 1))
    bottom, right = (data.draw(st.integers(at + 1, n)) for at, n in zip((top, left), grid.shape, strict=True))
    box = Box(top, left, bottom, right)
    found = {(tile.row, tile.col) for tile in grid.tiles_over(level, box)}
    rows, cols = grid.count(level)
    every = [grid.tile(level, row, col) for row in range(rows) for col in range(cols)]
    assert found == {(tile.row, tile.col) for tile in every if not tile.owned.intersection(box).is_empty}


@st.composite
def sparse_grids(draw, most=2000):
    """Grids of tiles that overlap by less than half and may be shifted, as everything mode has them."""
    shape, side = (draw(lengths(most)), draw(lengths(most))), draw(ANY_SIDE)
    shift = draw(st.tuples(st.integers(0, side), st.integers(0, side)))
    return TileGrid(shape, side, draw(PIXEL_SIZES), draw(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5])), shift)


@settings(max_examples=60)
@given(sparse_grids())
def test_every_pixel_has_one_owner_that_reads_it_whatever_the_overlap_and_the_shift(grid):
    for level in levels_of(grid):
        for axis in (0, 1):
            parts = intervals(grid, level, axis)
            assert parts[0][1] == 0
            assert parts[-1][2] == grid.shape[axis]
            assert all(before[2] == after[1] for before, after in pairwise(parts))
            for tile, start, stop in parts:
                assert tile.read.as_tuple()[axis] <= start <= stop <= tile.read.as_tuple()[axis + 2]
                assert Box.of_shape(grid.shape).contains(tile.read)


@settings(max_examples=100)
@given(sparse_grids(), st.data())
def test_the_owner_of_a_position_is_found_whatever_the_overlap_and_the_shift(grid, data):
    level = data.draw(st.sampled_from(levels_of(grid)))
    row, col = (data.draw(st.integers(0, length - 1)) for length in grid.shape)
    tile = grid.tile_at(level, row + 0.5, col + 0.5)
    assert tile.owned.top <= row + 0.5 < tile.owned.bottom
    assert tile.owned.left <= col + 0.5 < tile.owned.right


@settings(max_examples=300)
@given(sparse_grids(), st.data())
def test_an_object_of_up_to_the_overlap_is_seen_whole_by_the_owner_of_its_center(grid, data):
    level = data.draw(st.sampled_from(levels_of(grid)))
    most = [max(math.floor(span * grid.overlap), 1) for span in grid.spans(level)]
    height, width = (data.draw(st.integers(1, min(limit, n))) for limit, n in zip(most, grid.shape, strict=True))
    top, left = (data.draw(st.integers(0, n - size)) for n, size in zip(grid.shape, (height, width), strict=True))
    box = Box(top, left, top + height, left + width)
    tile = grid.tile_at(level, *box.center)
    # The border between two tiles is rounded to a whole pixel.
    assert tile.read.grown(1).contains(box)
    rows, cols = grid.count(level)
    near = [
        grid.tile(level, row, col)
        for row in range(max(tile.row - 1, 0), min(tile.row + 2, rows))
        for col in range(max(tile.col - 1, 0), min(tile.col + 2, cols))
    ]
    assert any(each.read.contains(box) for each in near)


@given(st.integers(40, 3000), ANY_SIDE, st.sampled_from([0.0, 0.25, 0.5]), st.integers(0, 3))
def test_less_overlap_takes_fewer_tiles_that_still_read_all(length, side, overlap, level):
    few, many = TileGrid((length, length), side, overlap=overlap), TileGrid((length, length), side)
    assert few.count(level)[0] <= many.count(level)[0]
    ends = [tile.read.bottom for tile, _, _ in intervals(few, level, 0)]
    assert ends[-1] == length


@given(st.integers(300, 3000), st.integers(1, 127), st.integers(0, 2))
def test_a_shift_moves_the_borders_of_tiles_by_its_share_of_a_tile(length, shift, level):
    here = TileGrid((length, length), 128, overlap=0.25)
    there = TileGrid((length, length), 128, overlap=0.25, shift=(shift, shift))
    span = here.spans(level)[0]
    assume(length > 4 * span)
    first, moved = (grid.tile(level, 2, 2).read for grid in (here, there))
    assert (first.top - moved.top, first.left - moved.left) == (shift * span // 128,) * 2
