"""Descriptors: the values of each group by hand, and objects where there is little to describe."""

from __future__ import annotations

import numpy as np
import pytest
from tests.similarity.scenes import GivenFeatures

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.similarity.descriptors import SHAPES, DescriptorLayout, described
from napari_sam.testing import FakePredictor

SIDE = 64
TILE = TileGrid((SIDE, SIDE), SIDE).tile(0, 0, 0)
ROWS, COLS = np.mgrid[:16, :16]
# 4 x 4 cells, which lie on whole cells; and one cell of the coarse map.
SQUARE = Box(16, 16, 32, 32)


def filled(box: Box) -> Mask:
    return Mask(box, np.ones((int(box.height), int(box.width)), bool))


def values_of(
    masks: list[Mask], *maps: np.ndarray, rendered: np.ndarray | None = None, tile: Tile = TILE
) -> list[dict[str, np.ndarray]]:
    """Return the groups of values of each mask, by their names."""
    model = GivenFeatures(*maps)
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8) if rendered is None else rendered
    (embedding,) = model.encode(pixels[None])
    found = described(model, embedding, pixels, tile, masks)
    layout = DescriptorLayout.of(model)
    assert found.shape == (len(masks), layout.width)
    assert found.dtype == np.float16
    assert np.isfinite(found).all()
    return [{name: row[part].astype(float) for name, part in layout.slices.items()} for row in found]


def around(distance: int) -> np.ndarray:
    """Return where the cells lie that many steps along rows and columns from the square."""
    outside = [np.maximum(np.maximum(4 - at, at - 7), 0) for at in (ROWS, COLS)]
    return outside[0] + outside[1] == distance


def test_the_inside_the_border_and_the_surroundings_are_means_over_their_cells() -> None:
    bowl = (ROWS - 5.5) ** 2
    (values,) = values_of([filled(SQUARE)], np.stack([bowl, around(1), around(2)]))
    np.testing.assert_allclose(values["inside 4"], [1.25, 0, 0], atol=2e-3)
    np.testing.assert_allclose(values["border 4"], [19 / 12, 0, 0], atol=2e-3)
    assert values["around 4"][1] == 0, "cells beside the object may show its border"
    assert values["around 4"][2] == 1
    np.testing.assert_allclose(values["spread 4"], [1, 0, 0], atol=2e-3)


def test_a_coarse_map_counts_where_its_cells_lie_on_the_object_and_tells_no_border() -> None:
    coarse = np.zeros((2, 4, 4))
    coarse[0, 1, 1], coarse[1, 2, 2] = 7, 3
    (values,) = values_of([filled(SQUARE)], coarse, np.zeros((1, 16, 16)))
    assert values["inside 16"].tolist() == [7, 0]
    assert not {"border 16", "around 16", "spread 16"} & values.keys()
    (wide,) = values_of([filled(Box(16, 16, 48, 48))], coarse, np.zeros((1, 16, 16)))
    np.testing.assert_allclose(wide["inside 16"], [7 / 4, 3 / 4], atol=2e-3)


def test_the_only_map_of_a_model_tells_the_surroundings_however_coarse() -> None:
    (values,) = values_of([filled(SQUARE)], np.ones((1, 4, 4)))
    assert values["inside 16"] == values["around 16"] == 1


def test_colors_are_shares_of_the_range_and_texture_is_what_a_cell_hides() -> None:
    rendered = np.full((SIDE, SIDE, 3), 51, np.uint8)
    rendered[SQUARE.slices] = (255, 102, 0)
    checked = rendered.copy()
    checked[SQUARE.slices][::2] = 0
    plain, textured = (
        values_of([filled(SQUARE)], np.zeros((1, 16, 16)), rendered=pixels)[0] for pixels in (rendered, checked)
    )
    np.testing.assert_allclose(plain["inside color"], [1, 0.4, 0], atol=1e-3)
    np.testing.assert_allclose(plain["border color"], [1, 0.4, 0], atol=1e-3)
    np.testing.assert_allclose(plain["around color"], 0.2, atol=1e-3)
    np.testing.assert_allclose(plain["texture"], 0, atol=1e-3)
    np.testing.assert_allclose(textured["inside color"], [0.5, 0.2, 0], atol=1e-3)
    np.testing.assert_allclose(textured["texture"], [0.5, 0.2, 0], atol=1e-3)
    np.testing.assert_allclose(textured["color spread"], 0, atol=2e-2)


def test_the_size_is_that_in_the_image_whatever_the_level_of_the_tile() -> None:
    square, twice = filled(SQUARE), filled(Box(16, 16, 48, 48))
    coarse = TileGrid((4 * SIDE, 4 * SIDE), SIDE).tile(1, 0, 0)
    at = SHAPES.index("size")
    first, second = (values["shape"] for values in values_of([square, twice], np.zeros((1, 16, 16))))
    (other,) = (values["shape"] for values in values_of([square], np.zeros((1, 16, 16)), tile=coarse))
    assert first[at] == other[at] == 4, "log2 of 16 pixels"
    assert second[at] == 5
    np.testing.assert_allclose(first[1:], second[1:], atol=0.01)


def test_a_long_object_is_longer_and_rougher_than_a_compact_one() -> None:
    compact, long = (
        values["shape"] for values in values_of([filled(SQUARE), filled(Box(16, 0, 20, 64))], np.zeros((1, 16, 16)))
    )
    assert compact[SHAPES.index("elongation")] == pytest.approx(0, abs=1e-3)
    assert long[SHAPES.index("elongation")] == pytest.approx(4, abs=0.05), "64 pixels by 4"
    assert long[SHAPES.index("roughness")] > compact[SHAPES.index("roughness")]


def test_the_same_object_at_another_place_has_the_same_values() -> None:
    def scene(top: int, left: int) -> tuple[np.ndarray, np.ndarray]:
        features = np.zeros((1, 16, 16))
        features[0, top // 4 : top // 4 + 4, left // 4 : left // 4 + 4] = np.arange(16).reshape(4, 4)
        rendered = np.zeros((SIDE, SIDE, 3), np.uint8)
        rendered[top : top + 16, left : left + 16] = 200
        return features, rendered

    found = []
    for top, left in ((16, 16), (24, 32)):
        features, rendered = scene(top, left)
        found += values_of([filled(Box(top, left, top + 16, left + 16))], features, rendered=rendered)
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[1][name], name)


def test_a_single_pixel_is_described_by_its_cell() -> None:
    (values,) = values_of([filled(Box(21, 42, 22, 43))], 16 * ROWS[None] + COLS[None])
    assert values["inside 4"] == 16 * 5 + 10
    assert values["border 4"] == values["inside 4"]
    assert values["shape"][SHAPES.index("size")] == 0


@pytest.mark.parametrize(
    "box",
    [Box(0, 0, 12, 12), Box(52, 52, 64, 64), Box(-20, -20, 8, 8), Box(60, 60, 90, 90), Box(63, 0, 64, 64)],
)
def test_an_object_at_the_border_of_a_tile_is_described_by_what_the_tile_reads(box: Box) -> None:
    inside = np.zeros((1, 16, 16))
    part = box.intersection(Box(0, 0, 64, 64))
    inside[0, int(part.top) // 4 : -(-int(part.bottom) // 4), int(part.left) // 4 : -(-int(part.right) // 4)] = 1
    (values,) = values_of([filled(box)], inside)
    assert values["inside 4"] == 1
    assert values["around 4"] == 0


def test_an_object_without_surroundings_in_its_tile_has_all_groups() -> None:
    for box in (Box(0, 0, 64, 64), Box(-200, -200, 300, 300)):
        (values,) = values_of([filled(box)], ROWS[None])
        np.testing.assert_allclose(values["inside 4"], 7.5, atol=1e-2)
        np.testing.assert_allclose(values["around 4"], 7.5, atol=1e-2)


def test_features_that_half_precision_cannot_hold_are_cut() -> None:
    (values,) = values_of([filled(SQUARE)], np.full((1, 16, 16), 1e9))
    assert values["inside 4"] == np.finfo(np.float16).max


def test_no_objects_have_no_values_and_a_model_without_features_describes_nothing() -> None:
    assert values_of([], np.zeros((1, 16, 16))) == []
    model = FakePredictor()
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    (embedding,) = model.encode(pixels[None])
    assert described(model, embedding, pixels, TILE, [filled(SQUARE)]).shape == (1, 0)
