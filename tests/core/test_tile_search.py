"""The search for the tile that suits an object: which tiles it asks for, in which order, and which answer it takes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.candidates import Candidates
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.predictor import Decoded
from napari_sam.core.prompts import Prompts
from napari_sam.core.tile_search import MAX_PIXELS_PROBED, MAX_REFINEMENTS, TileSearch
from napari_sam.core.tiles import TileGrid

SIDE = 64


def model(probe_levels=2):
    return SimpleNamespace(object_fraction=1 / 3, object_range=(0.1, 0.75), probe_levels=probe_levels)


class Square:
    """An object that every tile shows as far as it sees it, with a predicted IoU by its share of the tile."""

    def __init__(self, box, ious=None):
        self.box, self.ious = box, ious or {}

    def seen_on(self, tile):
        box = self.box.intersection(tile.read).rounded_out()
        fit = 1 - abs(box.extent / tile.read.extent - 1 / 3)
        empty = box.is_empty
        mask = Mask(
            Box(tile.read.top, tile.read.left, tile.read.top, tile.read.left) if empty else box,
            np.ones((0, 0) if empty else box.pixel_shape, bool),
            self.ious.get(tile.level, fit),
            tile=tile,
        )
        return Candidates((mask,), 0, Plane((0, 1), (0, 0)))


def run(search, thing):
    """Answer all steps of a search and return them."""
    steps = []
    while (step := search.next_step()) is not None:
        assert search.next_step() == step
        steps.append(step)
        search.tell(step, thing.seen_on(step.tile))
    return steps


@st.composite
def scenes(draw):
    """A plane, a square on it, a point on the square, and the options of a search."""
    shape = draw(st.integers(2, 3000)), draw(st.integers(2, 3000))
    grid = TileGrid(shape, SIDE, draw(st.sampled_from([(1.0, 1.0), (3.0, 1.0), (1.0, 2.5)])))
    point = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
    side = draw(st.integers(1, 1500))
    box = Box(point[0] - side // 2, point[1] - side // 3, point[0] + side // 2 + 1, point[1] + side // 3 + 1)
    options = {
        "downsample": draw(st.one_of(st.none(), st.floats(0.05, 50))),
        "pixels_of": lambda tile: tile.read.height * tile.read.width,
    }
    prompts = Prompts.of([point], shape=shape)
    return grid, model(draw(st.integers(0, 3))), prompts, Square(box.intersection(Box.of_shape(shape))), options


@given(scenes(), st.integers(-5, 9))
def test_the_level_to_start_at_changes_the_order_and_not_the_answer(scene, start_level):
    grid, predictor, prompts, thing, options = scene
    plain = TileSearch(grid, predictor, prompts, **options)
    hurried = TileSearch(grid, predictor, prompts, **options, start_level=start_level)
    assert set(hurried.first_tiles) == set(plain.first_tiles)
    first = hurried.next_step().tile.level
    assert abs(first - start_level) == min(abs(tile.level - start_level) for tile in plain.first_tiles)
    count = len(plain.first_tiles)
    steps, others = run(plain, thing), run(hurried, thing)
    assert plain.found.best.box == hurried.found.best.box
    assert plain.found.best.tile == hurried.found.best.tile
    assert [step.tile for step in steps[count:]] == [step.tile for step in others[count:]]


@given(scenes())
def test_a_search_ends_and_asks_for_each_probe_once(scene):
    grid, predictor, prompts, thing, options = scene
    search = TileSearch(grid, predictor, prompts, **options)
    probes = search.first_tiles
    steps = run(search, thing)
    refinements = steps[len(probes) :]
    assert tuple(step.tile for step in steps[: len(probes)]) == probes
    assert len(probes) == len(set(probes))
    assert len(refinements) <= MAX_REFINEMENTS
    assert len({step.tile for step in refinements}) == len(refinements)
    assert all(step.previous is None for step in steps[: len(probes)])
    assert all(step.previous is not None for step in refinements)
    assert not search.left_out
    assert search.next_step() is None


@given(scenes(), st.sets(st.integers(-3, 6)))
def test_tiles_that_may_not_be_decoded_are_left_out_and_the_others_are_searched(scene, levels):
    grid, predictor, prompts, thing, options = scene
    search = TileSearch(grid, predictor, prompts, **options, may_decode=lambda tile: tile.level in levels)
    probes = search.first_tiles
    steps = run(search, thing)
    assert {step.tile.level for step in steps} <= levels
    assert [step.tile for step in steps if step.previous is None] == [t for t in probes if t.level in levels]
    assert search.left_out or all(tile.level in levels for tile in probes)
    assert (search.found is None) == (not steps)


def test_a_refinement_that_may_not_be_decoded_yet_is_offered_again_once_it_may():
    encoded = set()
    grid = TileGrid((2000, 2000), SIDE)
    prompts = Prompts.of([(1000, 1000)], shape=grid.shape)
    search = TileSearch(
        grid, model(0), prompts, pixels_of=lambda tile: 1, may_decode=lambda tile: tile.level in encoded
    )
    encoded.add(0)
    run(search, Square(Box(900, 900, 1100, 1100)))
    assert search.left_out
    encoded.update(range(10))
    steps = run(search, Square(Box(900, 900, 1100, 1100)))
    assert [step.tile.level for step in steps] == [1, 2]


def test_of_equal_answers_that_of_the_finest_level_is_taken():
    grid = TileGrid((3000, 3000), SIDE)
    prompts = Prompts.of([(1500, 1500)], shape=grid.shape)
    thing = Square(Box(1490, 1490, 1510, 1510), dict.fromkeys(range(-2, 3), 0.5))
    for start_level in range(-2, 3):
        search = TileSearch(grid, model(), prompts, downsample=1, start_level=start_level, pixels_of=lambda tile: 1)
        for _ in search.first_tiles:
            step = search.next_step()
            search.tell(step, thing.seen_on(step.tile))
        assert search.found.best.tile.level == -2


def test_a_view_that_costs_too_many_pixels_is_not_tried_while_there_are_others():
    grid = TileGrid((10**6, 10**6), SIDE)
    prompts = Prompts.of([(5000, 5000)], shape=grid.shape)
    most = MAX_PIXELS_PROBED**0.5 / SIDE
    search = TileSearch(grid, model(), prompts, downsample=most, pixels_of=lambda tile: tile.read.height**2)
    assert [tile.level for tile in search.first_tiles] == [6, 5, 4]
    search = TileSearch(grid, model(), prompts, downsample=most * 64, pixels_of=lambda tile: tile.read.height**2)
    assert [tile.level for tile in search.first_tiles] == [10]


@pytest.mark.parametrize(("side", "level"), [(5, -2), (20, 0), (80, 2), (600, 5)])
def test_a_box_is_decoded_at_the_level_that_its_side_asks_for(side, level):
    grid = TileGrid((4000, 4000), SIDE)
    prompts = Prompts.of(box=(1000, 1000, 1000 + side, 1000 + side), shape=grid.shape)
    search = TileSearch(grid, model(), prompts, pixels_of=lambda tile: 1)
    assert not search.is_probing
    assert [step.tile.level for step in run(search, Square(prompts.box))] == [level]


def test_the_tile_of_the_previous_answer_is_kept_while_it_suits():
    grid = TileGrid((4000, 4000), SIDE)
    tile = grid.tile_at(1, 1000, 1000)
    previous = Square(Box(990, 990, 1010, 1010)).seen_on(tile).best
    near, far = (Prompts.of([(1000, col)], shape=grid.shape) for col in (1005, 3000))
    options = {"pixels_of": lambda tile: 1}
    assert TileSearch(grid, model(), near, previous, **options).first_tiles == (tile,)
    assert TileSearch(grid, model(), far, previous, **options).first_tiles != (tile,)
    assert TileSearch(grid, model(), near, previous, **options).next_step().previous is previous


class Comparing:
    """A model that scores the answers of all tiles together: the level that it likes best wins."""

    object_fraction, object_range, probe_levels = 1 / 3, (0.1, 0.75), 2
    compares_tiles = True

    def __init__(self, favorite):
        self.favorite = favorite
        self.compared = []

    def score(self, answers):
        self.compared.append([tile.level for tile, _ in answers])
        return np.array([[0.9 if tile.level == self.favorite else 0.2] for tile, _ in answers], np.float32)


class Described(Square):
    """An object whose answers can be compared."""

    def seen_on(self, tile):
        features = np.zeros((1, 4), np.float32)
        decoded = Decoded(np.zeros((1, 16, 16), np.float32), np.zeros(1, np.float32), features)
        return replace(super().seen_on(tile), decoded=decoded)


def test_the_answers_of_all_levels_are_scored_together_after_each_of_them():
    grid = TileGrid((3000, 3000), SIDE)
    prompts = Prompts.of([(1500, 1500)], shape=grid.shape)
    predictor = Comparing(favorite=1)
    search = TileSearch(grid, predictor, prompts, downsample=1, pixels_of=lambda tile: 1)
    count, thing = len(search.first_tiles), Described(Box(1480, 1480, 1520, 1520))
    for number in range(1, count + 1):
        step = search.next_step()
        search.tell(step, thing.seen_on(step.tile))
        assert len(predictor.compared[-1]) == number
    assert search.found.best.tile.level == 1
    assert search.found.best.iou_prediction == pytest.approx(0.9)


def test_another_answer_can_become_the_best_one_by_what_a_later_tile_shows():
    grid = TileGrid((3000, 3000), SIDE)
    prompts = Prompts.of([(1500, 1500)], shape=grid.shape)

    class Doubting(Comparing):
        def score(self, answers):
            # The last two answers together speak for the one before.
            ranks = np.arange(len(answers), dtype=np.float32)
            return ((ranks if len(answers) < 3 else -ranks)[:, None] + 10) / 20

    search = TileSearch(grid, Doubting(0), prompts, downsample=1, pixels_of=lambda tile: 1)
    thing, changed, first = Described(Box(1480, 1480, 1520, 1520)), [], search.first_tiles[0]
    for _ in range(3):
        step = search.next_step()
        changed.append(search.tell(step, thing.seen_on(step.tile)))
    assert changed == [True, True, True]
    assert search.found.best.tile == first


def test_a_box_is_also_decoded_one_level_finer_and_coarser_by_a_model_that_compares_them():
    grid = TileGrid((4000, 4000), SIDE)
    prompts = Prompts.of(box=(1000, 1000, 1020, 1020), shape=grid.shape)
    search = TileSearch(grid, Comparing(favorite=-1), prompts, pixels_of=lambda tile: 1)
    assert [tile.level for tile in search.first_tiles] == [0, -1, 1]
    costly = TileSearch(
        grid, Comparing(-1), prompts, pixels_of=lambda tile: 2 * MAX_PIXELS_PROBED if tile.level == 1 else 1
    )
    assert [tile.level for tile in costly.first_tiles] == [0, -1]
    steps = run(search, Described(prompts.box))
    assert [step.tile.level for step in steps[:3]] == [0, -1, 1]
    assert search.found.best.tile.level == -1


def test_weights_that_compare_no_tiles_decode_a_box_once():
    grid = TileGrid((4000, 4000), SIDE)
    predictor = Comparing(favorite=0)
    predictor.compares_tiles = False
    prompts = Prompts.of(box=(1000, 1000, 1020, 1020), shape=grid.shape)
    search = TileSearch(grid, predictor, prompts, pixels_of=lambda tile: 1)
    assert len(run(search, Described(prompts.box))) == 1
    assert not predictor.compared
