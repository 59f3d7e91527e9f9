from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.draw import polygon, polygon2mask

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask, mask_from_logits
from napari_sam.core.polygons import fill_polygon
from napari_sam.core.prompts import (
    MASK_PROMPT_LOGIT,
    MAX_DECODED_POINTS,
    MAX_SINGLE_ROUNDS,
    Prompts,
    TilePrompts,
    logits_on,
    rasterize_polygon,
)
from napari_sam.core.tiles import TileGrid
from napari_sam.errors import NapariSamError, PromptError

SHAPE = (40, 60)
nan, inf = float("nan"), float("inf")


def disc(shape: tuple[int, int], row: float, col: float, radius: float) -> np.ndarray:
    rows, cols = np.indices(shape)
    return (rows - row) ** 2 + (cols - col) ** 2 <= radius**2


def a_mask(box: Box) -> Mask:
    return Mask(box, np.ones(box.pixel_shape, bool))


OUTSIDE = r"outside the image.*0 to 39.*0 to 59.*put it inside"


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, r"no prompt.*give at least one point.*box or a mask"),
        ({"points": []}, r"no prompt.*give at least one point"),
        ({"points": [(40, 5)]}, r"point \(40, 5\) lies " + OUTSIDE),
        ({"points": [(39.5, 5)]}, OUTSIDE),
        ({"points": [(5, 60)]}, OUTSIDE),
        ({"points": [(-0.6, 5)]}, OUTSIDE),
        ({"points": [(5, 5), (5, -1)]}, OUTSIDE),
        ({"points": [(1e300, 5)]}, OUTSIDE),
        ({"points": [(nan, 5)]}, r"\(nan, 5\)"),
        ({"points": [(5, inf)]}, r"\(5, inf\)"),
        ({"points": [(1, 2, 3)]}, r"shape \(n, 2\), one \(row, col\) each"),
        ({"points": 7}, r"shape \(n, 2\)"),
        ({"points": [(5, 5)], "labels": [1, 0]}, r"1 point.*2 labels.*one label"),
        ({"points": [(5, 5), (6, 6)], "labels": [1]}, r"2 points.*1 label.*one label"),
        ({"labels": [1]}, r"0 points.*1 label"),
        ({"points": [(5, 5)], "labels": [2]}, r"must be 1 .*or 0 .*\[2\]"),
        ({"points": [(5, 5)], "labels": [-1]}, r"must be 1 .*or 0"),
        ({"points": [(5, 5)], "labels": [nan]}, r"must be 1 .*or 0"),
        ({"points": [(5, 5)], "labels": [0.5]}, r"must be 1 .*or 0"),
        ({"points": [(5, 5), (6, 6)], "labels": [0, 0]}, r"only negative points.*add at least one positive"),
        ({"box": (20, 5, 10, 15)}, r"\(20, 5, 10, 15\) is upside down.*\(top, left, bottom, right\)"),
        ({"box": (10, 15, 20, 5)}, r"upside down"),
        ({"box": (10, 5, 10, 15)}, r"no area.*draw it around the object"),
        ({"box": (10, 5, 20, 5)}, r"no area"),
        ({"box": (50, 5, 60, 15)}, r"outside the image of 40 x 60.*put it inside"),
        ({"box": (-20, 5, 0, 15)}, r"outside the image"),
        ({"box": (1, 2, 3)}, r"four numbers, top, left, bottom, right"),
        ({"box": (1, 2, 3, 4, 5)}, r"four numbers"),
        ({"box": (1, 2, nan, 4)}, r"four numbers"),
        ({"box": Box(0, 0, inf, 4)}, r"four numbers"),
        ({"mask": np.ones((40, 59), bool)}, r"\(40, 59\).*\(40, 60\).*make them equal"),
        ({"mask": np.ones((1, 40, 60), bool)}, r"make them equal"),
        ({"mask": np.zeros(SHAPE, bool)}, r"mask prompt is empty.*mark at least one pixel"),
        ({"mask": Mask(Box(1, 1, 3, 3), np.zeros((2, 2), bool))}, r"empty or reaches outside.*draw it over the object"),
        ({"mask": Mask(Box(38, 1, 41, 3), np.ones((3, 2), bool))}, r"reaches outside"),
        ({"points": [(5, 5)], "mask": np.zeros(SHAPE, bool)}, r"mask prompt is empty"),
        ({"points": [(5, 5)], "box": (10, 5, 10, 15)}, r"no area"),
    ],
)
def test_every_wrong_prompt_is_refused_with_what_to_do(prompts, message):
    with pytest.raises(PromptError, match=message) as caught:
        Prompts.of(**prompts, shape=SHAPE)
    assert isinstance(caught.value, NapariSamError)
    assert ":" in str(caught.value) or "," in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("points", [[(1, 2), (3,)], [("a", "b")]])
def test_points_that_are_no_numbers_are_refused_like_any_wrong_prompt(points):
    with pytest.raises(PromptError, match=r"[Pp]oints"):
        Prompts.of(points, shape=SHAPE)


@pytest.mark.parametrize("point", [(0, 0), (39, 59), (-0.5, -0.5), (39.49, 59.49)])
def test_any_position_on_a_pixel_of_the_image_is_taken(point):
    assert Prompts.of([point], shape=SHAPE).positive.tolist() == [list(point)]


def test_one_point_needs_no_list_around_it():
    np.testing.assert_array_equal(Prompts.of((3, 4), 1, shape=SHAPE).points, [[3, 4]])


def test_negative_points_are_welcome_beside_a_box_or_a_mask():
    assert not Prompts.of([(5, 5)], [0], (2, 2, 9, 9), shape=SHAPE).labels.any()
    assert not Prompts.of([(5, 5)], [0], mask=disc(SHAPE, 10, 10, 5), shape=SHAPE).labels.any()


def test_a_box_over_the_edge_is_cut_to_the_image():
    assert Prompts.of(box=(-5, 50, 12, 70), shape=SHAPE).box == Box(0, 50, 12, 60)


def test_a_mask_alone_brings_its_own_box():
    prompts = Prompts.of(mask=disc(SHAPE, 20, 30, 4), shape=SHAPE)
    assert prompts.box == Box(16, 26, 25, 35)
    assert prompts.mask is not None
    assert prompts.mask.area == disc(SHAPE, 20, 30, 4).sum()


def test_a_given_box_wins_over_that_of_the_mask():
    prompts = Prompts.of(box=(1, 2, 30, 40), mask=disc(SHAPE, 20, 30, 4), shape=SHAPE)
    assert prompts.box == Box(1, 2, 30, 40)


def test_bounds_hold_the_box_the_mask_and_the_positive_pixels_but_no_negative_ones():
    prompts = Prompts.of(
        [(3, 50), (39, 0), (12, 12)], [1, 0, 1], box=(10, 10, 20, 20), mask=a_mask(Box(18, 18, 25, 22)), shape=SHAPE
    )
    assert prompts.bounds == Box(3, 10, 25, 51)
    assert Prompts.of([(7, 8)], shape=SHAPE).bounds == Box(7, 8, 8, 9)


def test_steps_begin_with_the_first_positive_point_and_add_one_point_each():
    prompts = Prompts.of([(1, 1), (2, 2), (3, 3), (4, 4)], [0, 1, 0, 1], shape=SHAPE)
    assert [len(step.points) for step in prompts.steps()] == [2, 3, 4]
    np.testing.assert_array_equal(prompts.steps()[0].labels, [False, True])
    assert prompts.steps()[-1].key == prompts.key


def test_steps_begin_with_the_box_alone():
    steps = Prompts.of([(5, 5), (6, 6)], [0, 1], (2, 2, 9, 9), shape=SHAPE).steps()
    assert [len(step.points) for step in steps] == [0, 1, 2]
    assert all(step.box == Box(2, 2, 9, 9) for step in steps)


def test_every_step_is_the_whole_for_the_prompts_given_until_then():
    points, labels = [(1, 1), (2, 2), (3, 3)], [1, 0, 1]
    steps = Prompts.of(points, labels, shape=SHAPE).steps()
    again = [Prompts.of(points[:n], labels[:n], shape=SHAPE) for n in (1, 2, 3)]
    assert [step.key for step in steps] == [one.key for one in again]


@pytest.mark.parametrize(
    "other",
    [
        {"points": [(5, 6), (7, 8)]},
        {"points": [(7, 8), (5, 6)], "labels": [1, 0]},
        {"points": [(5, 6), (7, 8)], "labels": [0, 1]},
        {"points": [(5, 6.5), (7, 8)], "labels": [1, 0]},
        {"points": [(5, 6), (7, 8)], "labels": [1, 0], "box": (1, 2, 9, 9)},
        {"points": [(5, 6), (7, 8)], "labels": [1, 0], "mask": disc(SHAPE, 6, 6, 3)},
    ],
)
def test_different_prompts_have_different_keys_and_equal_ones_the_same(other):
    given = {"points": [(5, 6), (7, 8)], "labels": [1, 0]}
    assert Prompts.of(**given, shape=SHAPE).key == Prompts.of(**given, shape=SHAPE).key
    assert Prompts.of(**given, shape=SHAPE).key != Prompts.of(**other, shape=SHAPE).key
    assert Prompts.of(**other, shape=SHAPE).key == Prompts.of(**other, shape=SHAPE).key
    assert len({Prompts.of(**given, shape=SHAPE).key, Prompts.of(**other, shape=SHAPE).key}) == 2


def test_a_mask_that_carries_logits_is_another_prompt_than_its_bare_pixels():
    tile = TileGrid(SHAPE, 32).tile(0, 0, 0)
    carrying = mask_from_logits(cone(tile, 16, 16, 9), tile)
    bare = Mask(carrying.box, carrying.pixels)
    assert Prompts.of(mask=carrying, shape=SHAPE).key != Prompts.of(mask=bare, shape=SHAPE).key


def test_points_that_the_tile_does_not_see_are_dropped_with_their_labels():
    tile = TileGrid((200, 200), 32).tile(0, 3, 4)  # reads rows 48 to 80 and columns 64 to 96
    prompts = Prompts.of(
        [(50, 70), (0, 0), (79, 95), (80, 70), (60, 96), (47.5, 63.5)], [1, 0, 0, 1, 0, 1], shape=(200, 200)
    )
    seen = TilePrompts.on(tile, prompts)
    np.testing.assert_array_equal(seen.points, [[2, 6], [31, 31], [-0.5, -0.5]])
    np.testing.assert_array_equal(seen.labels, [True, False, True])
    assert seen.box is None
    assert seen.mask_logits is None


def test_a_box_is_cut_to_the_tile_and_scaled():
    tile = TileGrid((500, 500), 32).tile(1, 2, 2)  # reads 64 to 128
    seen = TilePrompts.on(tile, Prompts.of(box=(70, 100, 90, 300), shape=(500, 500)))
    assert seen.box == Box(3, 18, 13, 32)
    assert seen.points.shape == (0, 2)


def test_the_earlier_answer_counts_more_than_the_mask_prompt():
    tile = TileGrid(SHAPE, 32).tile(0, 0, 0)
    rough, earlier = a_mask(Box(2, 2, 10, 10)), a_mask(Box(12, 12, 30, 30))
    prompts = Prompts.of(mask=rough, shape=SHAPE)
    np.testing.assert_array_equal(TilePrompts.on(tile, prompts).mask_logits, logits_on(tile, rough))
    np.testing.assert_array_equal(TilePrompts.on(tile, prompts, earlier).mask_logits, logits_on(tile, earlier))


def cone(tile, row: float, col: float, radius: float) -> np.ndarray:
    """Return the logits of a decoder that saw a disc: the distance to its rim, in level-0 pixels."""
    cell = 4 * tile.downsample
    rows = tile.read.top + (np.arange(tile.side // 4) + 0.5) * cell
    cols = tile.read.left + (np.arange(tile.side // 4) + 0.5) * cell
    return (radius - np.hypot(rows[:, None] - row, cols[None] - col)).astype(np.float32)


@pytest.mark.parametrize("level", [-2, -1, 0, 1, 2])
def test_logits_come_back_unchanged_on_their_own_tile(level):
    tile = TileGrid((300, 300), 64).tile_at(level, 150, 140)
    logits = np.random.default_rng(0).normal(0, 3, (16, 16)).astype(np.float32)
    np.testing.assert_array_equal(logits_on(tile, mask_from_logits(logits, tile)), logits)


def test_on_a_padded_tile_the_padding_is_background_and_the_rest_unchanged():
    tile = TileGrid((20, 36), 64).tile(0, 0, 0)
    logits = np.random.default_rng(0).normal(2, 3, (16, 16)).astype(np.float32)
    back = logits_on(tile, mask_from_logits(logits, tile))
    np.testing.assert_array_equal(back[:5, :9], logits[:5, :9])
    back[:5, :9] = -1
    assert (back < 0).all()


@pytest.mark.parametrize("target_level", [-1, 0, 1, 2])
@pytest.mark.parametrize("source_level", [0, 1])
def test_logits_on_another_tile_stay_where_the_object_is(source_level, target_level):
    grid = TileGrid((400, 400), 128)
    source, target = grid.tile_at(source_level, 200, 200), grid.tile_at(target_level, 190, 215)
    mask = mask_from_logits(cone(source, 196, 207, 28), source)
    moved = logits_on(target, mask)
    assert moved.shape == (32, 32)
    expected = cone(target, 196, 207, 28)
    near = expected > -8
    assert np.abs(moved - expected)[near].max() < 4 * max(source.downsample, target.downsample)
    regained = mask_from_logits(moved, target).to_array((400, 400))[target.read.slices]
    before = mask.to_array((400, 400))[target.read.slices]
    assert (regained & before).sum() / (regained | before).sum() > 0.8


def test_where_the_earlier_tile_saw_nothing_is_background():
    grid = TileGrid((400, 400), 64)
    source, target = grid.tile(0, 2, 2), grid.tile(1, 1, 1)
    everything = mask_from_logits(np.full((16, 16), 5, np.float32), source)
    moved = logits_on(target, everything)
    covered = np.zeros((16, 16), bool)
    covered[tuple(slice(int(a // 8), int(b // 8)) for a, b in [(0, 64), (0, 64)])] = True
    assert source.read == Box(64, 64, 128, 128)
    assert target.read == Box(64, 64, 192, 192)
    assert (moved[covered] == 5).all()
    assert (moved[~covered] == -MASK_PROMPT_LOGIT).all()


@pytest.mark.parametrize("level", [-2, 0, 2])
def test_bare_pixels_become_logits_by_the_share_of_each_cell_that_they_cover(level):
    grid = TileGrid((400, 400), 64)
    tile = grid.tile_at(level, 200, 200)
    pixels = disc((400, 400), 201.3, 199.2, 5 * tile.downsample * 2)
    quarters = np.repeat(np.repeat(pixels, 4, axis=0), 4, axis=1)  # Cells can be smaller than two pixels.
    rows, cols = (slice(int(4 * part.start), int(4 * part.stop)) for part in tile.read.slices)
    each = int(16 * tile.downsample)
    share = quarters[rows, cols].reshape(16, each, 16, each).mean(axis=(1, 3))
    logits = logits_on(tile, Prompts.of(mask=pixels, shape=(400, 400)).mask)
    np.testing.assert_allclose(logits, (2 * share - 1) * MASK_PROMPT_LOGIT, atol=1e-4)
    assert logits.max() == MASK_PROMPT_LOGIT
    assert logits.min() == -MASK_PROMPT_LOGIT


@given(st.integers(0, 10**6), st.integers(3, 7), st.floats(0.5, 30), st.integers(-10, 50), st.integers(-10, 70))
def test_a_polygon_covers_the_pixels_that_scikit_image_says(seed, count, size, row, col):
    # At random, so that no edge meets a pixel centre, where the two could rightly differ.
    corners = np.add(np.random.default_rng(seed).uniform(-size, size, (count, 2)), (row, col))
    pad = 50
    expected = polygon2mask((SHAPE[0] + 2 * pad, SHAPE[1] + 2 * pad), corners + pad)[pad:-pad, pad:-pad]
    if expected.any():
        mask = rasterize_polygon(corners, SHAPE)
        np.testing.assert_array_equal(mask.to_array(SHAPE), expected)
        assert mask.box == mask.tightened().box
    else:
        with pytest.raises(PromptError, match=r"no pixel of the image.*draw it over the object"):
            rasterize_polygon(corners, SHAPE)


def test_a_polygon_prompt_can_be_used_as_it_is():
    prompts = Prompts.of(mask=rasterize_polygon([(5, 5), (5, 20), (18, 12)], SHAPE), shape=SHAPE)
    assert prompts.box is not None
    assert Box(5, 5, 19, 21).contains(prompts.box)


@pytest.mark.parametrize("corners", [[], [(nan, 5), (6, 7), (8, 4)], [(1, 2, 3), (4, 5, 6), (7, 8, 9)]])
def test_corners_that_make_no_polygon_are_refused(corners):
    with pytest.raises(PromptError, match=":"):
        rasterize_polygon(corners, SHAPE)


# Many points


@given(
    signs=st.lists(st.booleans(), min_size=1, max_size=300).filter(any),
    boxed=st.booleans(),
)
@settings(max_examples=40)
def test_rounds_end_where_the_earlier_points_say_and_one_more_point_is_one_more_round(signs, boxed):
    points = np.stack([np.arange(len(signs)) % 40, np.arange(len(signs)) % 60], axis=1)
    box = (0, 0, 40, 60) if boxed else None

    def ends(count):
        return [len(step.points) for step in Prompts.of(points[:count], signs[:count], box, shape=SHAPE).steps()]

    first = 0 if boxed else signs.index(True) + 1
    found = ends(len(signs))
    assert found[0] == first
    assert found[-1] == len(signs)
    assert found == sorted(set(found))
    single = [end for end in found if end <= MAX_SINGLE_ROUNDS]
    assert single == list(range(first, min(len(signs), MAX_SINGLE_ROUNDS) + 1))
    if len(signs) - 1 >= first:
        fewer = ends(len(signs) - 1)
        assert set(found) - set(fewer) == {len(signs)}


def test_a_thousand_points_are_a_few_rounds_and_a_decoder_gets_a_bounded_number_of_them():
    rng = np.random.default_rng(0)
    points, labels = rng.uniform(0, 39, (10_000, 2)), rng.integers(0, 2, 10_000)
    prompts = Prompts.of(points, labels, (0, 0, 40, 60), shape=SHAPE)
    assert len(prompts.steps()) < MAX_SINGLE_ROUNDS + 12
    tile = TileGrid(SHAPE, 256).tile_at(-2, 20, 30)
    seen = TilePrompts.on(tile, prompts)
    assert len(seen.points) <= MAX_DECODED_POINTS
    # Spread over all that was given, of both signs, and the newest is among them.
    assert set(seen.labels) == {True, False}
    assert np.ptp(seen.points, axis=0).min() > 0.9 * np.ptp(tile.point_to_tile(*points.T), axis=1).min()
    np.testing.assert_allclose(seen.points[-1], tile.point_to_tile(*points[-1]), rtol=1e-6)
    assert seen.labels[-1] == labels[-1]


def test_up_to_the_limit_every_point_is_decoded_in_its_order():
    points = np.stack([np.arange(MAX_DECODED_POINTS) % 40, np.arange(MAX_DECODED_POINTS) // 40], axis=1)
    tile = TileGrid(SHAPE, 256).tile_at(0, 20, 30)
    seen = TilePrompts.on(tile, Prompts.of(points, shape=SHAPE))
    np.testing.assert_array_equal(seen.points, np.stack(tile.point_to_tile(*points.T), axis=1).astype(np.float32))


def test_equal_masks_have_equal_keys_and_others_do_not():
    masks = [disc(SHAPE, 20, 30, 4), disc(SHAPE, 20, 30, 4), disc(SHAPE, 20, 30, 5)]
    keys = [Prompts.of([(20, 30)], mask=mask, shape=SHAPE).key for mask in masks]
    assert keys[0] == keys[1] != keys[2]
    prompts = Prompts.of([(20, 30)], mask=masks[0], shape=SHAPE)
    assert replace(prompts, mask=Prompts.of(mask=masks[2], shape=SHAPE).mask).key != prompts.key


def test_a_polygon_of_very_many_corners_is_filled_row_by_row():
    """scikit-image tests every corner for every pixel, which takes minutes here."""
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    radius = 900 + 20 * np.sin(60 * angle)
    corners = np.stack([1000 + radius * np.sin(angle), 1000 + radius * np.cos(angle)], axis=1)
    area = np.pi * (900**2 + 20**2 / 2)
    assert rasterize_polygon(corners, (2000, 2000)).area == pytest.approx(area, rel=1e-3)


@given(
    corners=arrays(np.int64, st.tuples(st.integers(3, 9), st.just(2)), elements=st.integers(-8, 90)),
    half=st.booleans(),
)
@settings(max_examples=60)
def test_pixels_on_the_outline_are_inside(corners, half):
    corners = corners / 2 if half else corners.astype(float)
    filled = fill_polygon(corners, SHAPE)
    rows, cols = polygon(corners[:, 0], corners[:, 1], SHAPE)
    expected = np.zeros(SHAPE, bool)
    expected[rows, cols] = True
    # scikit-image leaves a few centers out that lie exactly on an edge.
    assert not (expected & ~filled).any()
    for row, col in np.argwhere(filled & ~expected):
        assert any(_is_on(corners[i - 1], corners[i], (row, col)) for i in range(len(corners)))


def _is_on(start, end, point):
    (a, b), (c, d), (row, col) = start, end, point
    beside = abs((c - a) * (col - b) - (d - b) * (row - a)) > 1e-6
    return not beside and min(a, c) <= row <= max(a, c) and min(b, d) <= col <= max(b, d)


def test_a_mask_prompt_of_a_whole_huge_image_is_refused():
    with pytest.raises(PromptError, match="too large for a prompt"):
        rasterize_polygon([(0, 0), (0, 99_999), (99_999, 0)], (100_000, 100_000))
