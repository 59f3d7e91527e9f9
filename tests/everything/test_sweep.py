"""Sweep: every object of a plane once and whole, wherever the tiles meet, and none where there is none."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.everything.scenes import (
    RADIUS,
    SIZES,
    assert_each_is_found_once,
    discs,
    ious_of_the_best,
    picture,
    segmenter_of,
    swept,
)

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.core.predictor import Predictor
from napari_sam.core.tiles import TileGrid
from napari_sam.errors import PromptError
from napari_sam.everything.proposing import levels
from napari_sam.everything.proposing.guided import GuidedProposer
from napari_sam.everything.sweep import Region, Sweep
from napari_sam.testing import BlobFinder, CountingArray

SHAPE = (480, 560)


def grid_of(shape: tuple[int, int]) -> TileGrid:
    proposer = GuidedProposer(BlobFinder())
    return TileGrid(shape, proposer.side, overlap=proposer.overlap)


def corners_of(shape: tuple[int, int]) -> list[tuple[float, float]]:
    """Return where four tiles meet."""
    grid = grid_of(shape)
    rows, cols = grid.count(0)
    tiles = [grid.tile(0, row, col) for row in range(rows - 1) for col in range(cols - 1)]
    return [(tile.owned.bottom, tile.owned.right) for tile in tiles]


def test_an_object_where_four_tiles_meet_is_found_once_and_whole() -> None:
    labels = discs(SHAPE, corners_of(SHAPE))
    assert labels.max() >= 6
    model = BlobFinder()
    found = swept(segmenter_of(picture(labels), model))
    assert_each_is_found_once(found, labels)
    rows, cols = grid_of(SHAPE).count(0)
    tiles = [each for each in model.encoded if each.shape[0] == model.sweep_side]
    assert len(tiles) == rows * cols, "no tile is encoded twice at one resolution"
    # Each of the four proposes it, so it was not luck that one of them owned its middle.
    assert len(found) > labels.max()


@pytest.mark.parametrize("off", range(-18, 19, 4))
def test_objects_beside_the_border_of_two_tiles_are_found_once_and_whole(off: int) -> None:
    grid = grid_of(SHAPE)
    down, across = grid.tile(0, 0, 0).owned.bottom + off, grid.tile(0, 0, 0).owned.right + off
    labels = discs(SHAPE, [(down, 40), (down, 280), (40, across), (280, across), (down, across)])
    assert_each_is_found_once(swept(segmenter_of(picture(labels))), labels)


def test_objects_that_the_edge_of_the_image_cuts_are_found_where_they_are_seen() -> None:
    rows, cols = SHAPE
    centers = [(0, 60), (rows - 1, 300), (150, 0), (170, cols - 1), (3, 4), (rows - 3, cols - 3)]
    labels = discs(SHAPE, centers, 18)
    assert_each_is_found_once(swept(segmenter_of(picture(labels))), labels, 0.9)


@settings(max_examples=6)
@given(st.integers(0, 2**31), st.tuples(st.integers(0, 143), st.integers(0, 143)))
def test_tiles_that_are_shifted_find_the_same_objects(seed: int, shift: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    places = [
        (row + rng.integers(-5, 6), col + rng.integers(-5, 6))
        for row, col in itertools.product(range(25, SHAPE[0] - 20, 44), range(25, SHAPE[1] - 20, 44))
        if rng.random() < 0.7
    ]
    labels = discs(SHAPE, places)
    segmenter = segmenter_of(picture(labels))
    here, there = swept(segmenter), swept(segmenter, shift)
    assert_each_is_found_once(here, labels)
    assert_each_is_found_once(there, labels)
    made, other = here.labels(SHAPE) > 0, there.labels(SHAPE) > 0
    assert (made & other).sum() / (made | other).sum() > 0.93


def test_the_default_search_chooses_the_level_of_the_objects_by_itself() -> None:
    for radius, level in ((4, -2), (8, -1), (16, 0), (32, 1), (64, 2)):
        side = 300 if radius < 16 else 400
        places = range(2 * radius, side - radius, 3 * radius)
        labels = discs((side, side), list(itertools.product(places, places)), radius)
        segmenter = segmenter_of(picture(labels))
        assert level in segmenter.sweep(plane=segmenter.plane()).levels
        assert_each_is_found_once(segmenter.everything(), labels, 0.8)


def test_small_and_large_objects_are_found_together_on_several_levels() -> None:
    small = discs((400, 400), [(40, 40), (40, 120), (340, 60), (200, 350)], 9)
    large = discs((400, 400), [(200, 180)], 70)
    labels = np.where(large > 0, 5, small)
    assert_each_is_found_once(segmenter_of(picture(labels)).everything(sizes=(15, 160)), labels, 0.8)


def test_only_objects_whose_point_lies_in_the_box_are_found_and_they_are_whole() -> None:
    labels = discs(SHAPE, [(60, 60), (60, 200), (200, 60), (104, 130)])
    model = BlobFinder()
    found = segmenter_of(picture(labels), model).everything(box=(20, 20, 108, 140), sizes=SIZES)
    wanted = np.where(labels == 4, 2, np.where(labels == 1, 1, 0))
    assert_each_is_found_once(found, wanted)
    rows, cols = grid_of(SHAPE).count(0)
    assert len(model.encoded) < rows * cols


@pytest.mark.parametrize("as_mask", [True, False])
def test_only_objects_whose_point_lies_in_the_mask_are_found(as_mask: bool) -> None:
    labels = discs(SHAPE, [(60, 60), (60, 200), (200, 60), (250, 300)])
    within = np.zeros(SHAPE, bool)
    within[50:70, 190:230] = within[245:255, 295:305] = True
    model = BlobFinder()
    given_mask = Mask(Box.of_shape(SHAPE), within).tightened() if as_mask else within
    found = segmenter_of(picture(labels), model).everything(within=given_mask, sizes=SIZES)
    assert_each_is_found_once(found, np.where(labels == 2, 1, np.where(labels == 4, 2, 0)))
    rows, cols = grid_of(SHAPE).count(0)
    assert len(model.encoded) < rows * cols, "tiles outside the mask are not encoded"


def test_a_region_knows_which_tiles_own_pixels_of_it_and_which_points_lie_in_it() -> None:
    rng = np.random.default_rng(0)
    within = rng.random((200, 300)) < 0.001
    region = Region(Box(30, 40, 190, 260), Mask(Box.of_shape(within.shape), within).tightened())
    grid = TileGrid(within.shape, 32, overlap=0.25)
    counts = np.zeros(within.shape, bool)
    counts[30:190, 40:260] = within[30:190, 40:260]
    rows, cols = grid.count(0)
    for row, col in itertools.product(range(rows), range(cols)):
        tile = grid.tile(0, row, col)
        assert region.meets(tile) == counts[tile.owned.slices].any()
    points = rng.uniform(-0.5, (199.4, 299.4), (3000, 2))
    points[:400] = np.argwhere(within)[rng.integers(0, within.sum(), 400)]
    cells = np.floor(points + 0.5).astype(int)
    np.testing.assert_array_equal(region.holds(points), counts[tuple(cells.T)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"box": (900, 900, 950, 950)}, "outside"),
        ({"within": np.zeros(SHAPE, bool)}, "empty"),
        ({"within": np.ones((3, 3), bool)}, "shape"),
        ({"sizes": (20, 10)}, "sizes"),
        ({"sizes": "many"}, "sizes"),
        ({"sizes": (float("nan"), 10)}, "sizes"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_before_a_tile_is_encoded(options: dict, words: str) -> None:
    model = BlobFinder()
    with pytest.raises(PromptError, match=words):
        segmenter_of(np.zeros(SHAPE, np.uint8), model).everything(**options)
    assert not model.encoded


@pytest.mark.parametrize("limits", [None, (0, 255)])
@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("shape", [(50, 90), SHAPE])
def test_uniform_ground_has_no_objects(shape: tuple[int, int], value: int, limits: tuple[int, int] | None) -> None:
    segmenter = segmenter_of(np.full(shape, value, np.uint8), contrast_limits=limits)
    assert len(segmenter.everything()) == 0
    assert len(segmenter.everything(sizes=(10, 200))) == 0


def test_where_no_pixel_has_a_value_there_are_no_objects() -> None:
    assert len(segmenter_of(np.full(SHAPE, np.nan, np.float32), contrast_limits=None).everything()) == 0
    nodata = segmenter_of(np.full(SHAPE, 7, np.uint8), contrast_limits=None, nodata=7)
    assert len(nodata.everything()) == 0


def test_objects_are_found_beside_pixels_without_a_value() -> None:
    labels = discs(SHAPE, [(60, 60), (60, 270), (200, 60)])
    for pixels, options in (
        (picture(labels).astype(np.float32), {}),
        (picture(labels), {"nodata": 255}),
    ):
        pixels[:, 300:] = options.get("nodata", np.nan)
        assert_each_is_found_once(swept(segmenter_of(pixels, contrast_limits=None, **options)), labels)


@pytest.mark.parametrize("side", range(150, 600, 75))
def test_of_an_object_as_large_as_the_image_no_parts_are_found(side: int) -> None:
    labels = discs((side, side), [(side / 2, side / 2)], side / 2 - 2)
    segmenter = segmenter_of(picture(labels))
    for found in (segmenter.everything(), segmenter.everything(sizes=(side / 3, side))):
        assert len(found.select()) <= 1
        assert all(iou >= 0.8 for iou in ious_of_the_best(found, labels) if len(found.select()))


def test_a_plane_of_two_rows_has_no_objects_and_one_of_one_row_is_refused() -> None:
    assert len(segmenter_of(np.full((2, 300), 20, np.uint8)).everything()) == 0
    with pytest.raises(PromptError, match="nothing to segment"):
        segmenter_of(np.zeros((1, 300), np.uint8)).everything()


@pytest.mark.parametrize("axis", [0, 1])
def test_objects_are_found_in_planes_whose_pixels_are_not_square(axis: int) -> None:
    labels = discs((300, 300), [(60, 60), (60, 200), (150, 120), (240, 240)])
    coarse = labels[::3] if axis == 0 else labels[:, ::3]
    spacing = (3.0, 1.0) if axis == 0 else (1.0, 3.0)
    found = segmenter_of(picture(coarse), spacing=spacing).everything(sizes=SIZES)
    assert_each_is_found_once(found, coarse, 0.75)


def test_a_volume_of_one_plane_is_searched_like_its_plane() -> None:
    labels = discs((200, 200), [(60, 60), (60, 150), (140, 100)])
    volume, plane = segmenter_of(picture(labels)[None]), segmenter_of(picture(labels))
    found, same = volume.everything(sizes=SIZES), plane.everything(sizes=SIZES)
    assert found.plane.position == (0,)
    np.testing.assert_array_equal(found.labels((200, 200)), same.labels((200, 200)))


def test_another_plane_of_a_volume_has_its_own_objects() -> None:
    first, second = discs((200, 200), [(60, 60)]), discs((200, 200), [(120, 140), (50, 150)])
    segmenter = segmenter_of(np.stack([picture(first), picture(second)]))
    assert_each_is_found_once(segmenter.everything(plane=0, sizes=SIZES), first)
    assert_each_is_found_once(segmenter.everything(plane=1, sizes=SIZES), second)


def test_the_progress_counts_tiles_and_its_objects_grow_to_those_of_the_whole_search() -> None:
    labels = discs(SHAPE, corners_of(SHAPE))
    segmenter = segmenter_of(picture(labels))
    steps = list(segmenter.everything_steps(sizes=SIZES))
    assert [step.done for step in steps] == list(range(steps[-1].total + 1))
    counts = [len(step.found) for step in steps]
    assert counts == sorted(counts)
    assert counts[0] == 0
    np.testing.assert_array_equal(steps[-1].found.boxes, segmenter.everything(sizes=SIZES).boxes)


def test_a_search_that_is_closed_reads_no_more_tiles() -> None:
    pixels = CountingArray(shape=(2000, 2000))
    steps = segmenter_of(pixels).everything_steps(sizes=(20, 24))  # type: ignore[arg-type]
    total = next(steps).total
    next(steps)
    steps.close()
    # The reader works a few tiles ahead.
    assert len(pixels.reads) < total / 4


def test_a_large_plane_is_read_tile_by_tile_and_each_pixel_less_than_three_times() -> None:
    side = 1000
    pixels = CountingArray(shape=(side, side))
    found = segmenter_of(pixels).everything(sizes=(20, 24))  # type: ignore[arg-type]
    assert len(found.select()) == (side // 100) ** 2
    assert pixels.pixels_read < 3 * side**2
    assert max(np.prod(read) for read in pixels.reads) < side**2 / 4


def test_the_levels_of_an_earlier_search_are_used_without_looking_at_a_sample() -> None:
    labels = discs(SHAPE, corners_of(SHAPE))
    model = BlobFinder()
    segmenter = segmenter_of(picture(labels), model)
    levels = segmenter.sweep(plane=segmenter.plane()).levels
    assert model.encoded, "the levels were sampled"
    model.encoded.clear()
    again = segmenter.sweep(plane=segmenter.plane(), levels=levels)
    assert (again.levels, model.encoded) == (levels, [])
    region = Region(Box.of_shape(SHAPE))
    assert Sweep(segmenter.encoder, segmenter.plane(), region, levels=[1]).levels == [1]
    assert segmenter.sweep(plane=segmenter.plane(), levels=[1]).levels == [1]


def test_each_proposal_lies_on_its_point_and_names_the_level_that_found_it() -> None:
    labels = discs(SHAPE, [(60, 60), (61, 200), (200, 60)])
    found = swept(segmenter_of(picture(labels)))
    for i in found.select():
        prompts = found.prompts(int(i))
        row, col = np.rint(prompts.points[0]).astype(int)
        mask = found.mask(int(i))
        assert labels[row, col] > 0
        assert mask.pixels[row - mask.box.top, col - mask.box.left]
        assert prompts.box == mask.box
        assert prompts.labels.tolist() == [True]
    assert set(found.proposals.levels.tolist()) == {0}
    assert abs(found.areas - np.pi * RADIUS**2).max() < 120


@pytest.mark.parametrize("shape", [(60, 90), (300, 200), (700, 40)])
@pytest.mark.parametrize("limits", [None, (0, 255)])
def test_the_embedded_model_finds_nothing_on_uniform_ground(
    compact: Predictor, shape: tuple[int, int], limits: tuple[int, int] | None
) -> None:
    for value in (0, 130):
        segmenter = segmenter_of(np.full(shape, value, np.uint8), compact, contrast_limits=limits)
        assert len(segmenter.everything().select()) == 0
        assert len(segmenter.everything(sizes=(10, 60)).select()) == 0


def test_the_embedded_model_finds_nothing_where_an_image_ends_in_pixels_without_a_value(compact: Predictor) -> None:
    pixels = np.full((300, 300), 130, np.float32)
    pixels[:, 140:] = np.nan
    noise = np.random.default_rng(0).normal(0, 1, pixels.shape)
    found = segmenter_of(pixels + noise, compact, contrast_limits=(0, 255)).everything()
    assert len(found.select()) == 0, found.boxes[found.select()].tolist()


def test_without_coarser_levels_no_sample_reads_much_of_a_huge_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 2**20
    monkeypatch.setattr(levels, "MOST_PIXELS_SAMPLED", most)
    image = CountingArray(shape=(1_000_000, 1_000_000))
    segmenter = segmenter_of(image)
    found = segmenter.everything(box=Box(5000, 5000, 5200, 5200))
    assert len(found.select()) == 4, "the discs of the box"
    assert max(rows * cols for rows, cols in image.reads) <= 2 * most
