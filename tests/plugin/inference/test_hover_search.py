"""The preview under the cursor and a click there: the same tiles, the same mask."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from napari_sam import Segmenter
from napari_sam.core.geometry import Plane
from napari_sam.plugin.inference.hover_search import CursorPosition, HoverSearch

LIMITS = (0, 255)


def scene(shape, center, radius, bar):
    """A disc, and a bar beside it, on a dark ground."""
    image = np.full(shape, 20, np.uint8)
    rows, cols = np.indices(shape)
    image[(rows - center[0]) ** 2 + (cols - center[1]) ** 2 <= radius**2] = 200
    image[bar[0] : bar[0] + bar[1], bar[2] : bar[2] + bar[3]] = 110
    return image


@st.composite
def questions(draw):
    """An image with its spacing, a point, a zoom, and how many levels the model tries."""
    shape = draw(st.integers(8, 500)), draw(st.integers(8, 500))
    center = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
    bar = [draw(st.integers(0, n)) for n in (shape[0], 60, shape[1], 300)]
    image = scene(shape, center, draw(st.integers(1, 160)), bar)
    on_disc = draw(st.booleans())
    point = center if on_disc else (draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1)))
    spacing = draw(st.sampled_from([(1, 1), (3, 1), (1, 2)]))
    return image, spacing, point, 2.0 ** draw(st.floats(-3, 5)), draw(st.integers(0, 2))


def recorded(segmenter):
    """Note the tiles that a segmenter decodes, and the box of the mask that each goes on from."""
    steps, decode = [], segmenter.decoder.decode

    def noted(plane, tile, prompts, previous=None):
        steps.append((tile, previous and previous.box))
        return decode(plane, tile, prompts, previous)

    segmenter.decoder.decode = noted
    return steps


def preview(segmenter, position, start_level=None):
    """Return the answer of the search under the cursor."""
    search = HoverSearch.at(segmenter, position, start_level)
    while (step := search.tiles.next_step()) is not None:
        search.tiles.tell(step, search.decode(step))
    return search.tiles


def preview_with_all_tiles(segmenter, position, start_level=None):
    """Encode what the search under the cursor lacks until it lacks nothing; return its last answer and its steps."""
    encoder, is_ready, steps = segmenter.encoder, segmenter.encoder.is_ready, recorded(segmenter)
    lacking = []

    def asked(plane, tile):
        ready = is_ready(plane, tile)
        if not ready:
            lacking.append(tile)
        return ready

    encoder.is_ready = asked
    while True:
        steps.clear()
        tiles = preview(segmenter, position, start_level)
        assert tiles.left_out == bool(lacking)
        if not lacking:
            return tiles.found, steps
        for tile in lacking:
            encoder.embedding(position.plane, tile)
        lacking.clear()


def is_same(a, b):
    return all(one.box == two.box and np.array_equal(one.pixels, two.pixels) for one, two in zip(a, b, strict=True))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(questions(), st.integers(-4, 6))
@example((scene((300, 340), (80, 90), 60, (0, 0, 0, 0)), (1, 1), (80, 90), 0.25, 2), 0)
def test_once_all_tiles_are_encoded_the_preview_decodes_the_tiles_of_a_click_and_is_its_mask(
    make_predictor, question, start_level
):
    image, spacing, point, downsample, probe_levels = question
    segmenters = []
    for _ in range(3):
        predictor = make_predictor()
        predictor.probe_levels = probe_levels
        segmenters.append(Segmenter(image, model=predictor, spacing=spacing, contrast_limits=LIMITS))
    clicked, hovered, hinted = segmenters
    position = CursorPosition(Plane.of(image.shape), point, downsample)
    clicks = recorded(clicked)
    answer = clicked.segment(points=[point], downsample=downsample)
    shown, steps = preview_with_all_tiles(hovered, position)
    assert steps == clicks
    assert is_same(shown, answer)
    # With the level of another preview to start at, the order may differ.
    shown, steps = preview_with_all_tiles(hinted, position, start_level)
    assert {tile for tile, _ in steps} == {tile for tile, _ in clicks}
    assert len(steps) == len(clicks)
    assert is_same(shown, answer)


def test_where_nothing_is_encoded_the_search_says_so_and_encodes_nothing(make_predictor):
    image = scene((300, 340), (80, 90), 20, (0, 0, 0, 0))
    segmenter = Segmenter(image, model=make_predictor(), contrast_limits=LIMITS)
    tiles = preview(segmenter, CursorPosition(Plane.of(image.shape), (80, 90), 1))
    assert tiles.found is None
    assert tiles.left_out
    assert segmenter.predictor.encoded == []


def test_what_is_encoded_is_searched_although_other_tiles_are_missing(make_predictor):
    image = scene((300, 340), (80, 90), 20, (0, 0, 0, 0))
    segmenter = Segmenter(image, model=make_predictor(), contrast_limits=LIMITS)
    plane = Plane.of(image.shape)
    tile = segmenter.encoder.grid(plane).tile_at(1, 80, 90)
    segmenter.encoder.embedding(plane, tile)
    tiles = preview(segmenter, CursorPosition(plane, (80, 90), 1))
    assert tiles.left_out
    assert tiles.found.best.tile == tile
    assert len(segmenter.predictor.encoded) == 1
