"""Outlines: valid polygons that cover exactly the pixels of each object, whatever the blocks they are read in."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize
from scipy import ndimage

from napari_sam.exports.options import ExportOptions
from napari_sam.exports.polygons.outlines import trace_outlines
from napari_sam.exports.polygons.shapes import shaped

shapely = pytest.importorskip("shapely", reason="shapely is not installed: pip install shapely")


def blocks_of(shape, side):
    return [
        (top, left, min(top + side, shape[0]), min(left + side, shape[1]))
        for top, left in product(range(0, shape[0], side), range(0, shape[1], side))
    ]


def traced(labels, side=1024):
    return trace_outlines(
        labels.shape, blocks_of(labels.shape, side), lambda top, left, bottom, right: labels[top:bottom, left:right]
    )


def shape_of(outline):
    return shapely.MultiPolygon([(rings[0], list(rings[1:])) for rings in outline.polygons])


small = arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-1, 3))


@given(small, st.integers(1, 10))
def test_outlines_of_any_labels_are_valid_and_cover_the_pixels_of_each_object(labels, side):
    drawn = np.zeros(labels.shape, np.int32)
    for outline in traced(labels, side):
        shape, mask = shape_of(outline), labels == outline.label
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == mask.sum()
        assert len(outline.polygons) == ndimage.label(mask)[1]
        for rings in outline.polygons:
            assert [shapely.LinearRing(ring).is_ccw for ring in rings] == [True] + [False] * (len(rings) - 1)
        # By a rasterizer of others: a pixel belongs to the polygon that holds its center.
        drawn += rasterize([(shape, outline.label)], out_shape=labels.shape, dtype="int32")
    assert np.array_equal(drawn, np.maximum(labels, 0))


@given(small)
def test_the_blocks_in_which_labels_are_read_do_not_matter(labels):
    whole = traced(labels)
    for side in (1, 2, 5):
        for one, other in zip(whole, traced(labels, side), strict=True):
            assert one.label == other.label
            assert shape_of(one).equals(shape_of(other))


def test_no_point_of_an_outline_is_between_two_others_on_a_line(scene):
    for outline in traced(scene):
        for ring in (ring for rings in outline.polygons for ring in rings):
            before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
            assert (before * after == 0).all()


def test_empty_labels_have_no_outlines():
    assert traced(np.zeros((5, 7), np.uint8)) == []
    assert trace_outlines((5, 7), [], lambda *_: np.zeros((0, 0))) == []


def test_ten_thousand_objects_take_less_than_ten_seconds_of_one_core():
    rows, cols = np.mgrid[:40, :40]
    disk = np.hypot(rows - 20, cols - 20) < 18
    numbers = np.arange(1, 10_001, dtype=np.uint32).reshape(100, 100)
    labels = np.kron(numbers, disk)
    before = time.process_time()
    outlines = traced(labels)
    assert time.process_time() - before < 10
    assert [outline.label for outline in outlines] == list(range(1, 10_001))


def test_simplified_neighbors_have_neither_gaps_nor_overlaps(scene):
    rng = np.random.default_rng(3)
    seeds = np.zeros((60, 80), np.int32)
    seeds[rng.integers(0, 60, 25), rng.integers(0, 80, 25)] = np.arange(1, 26)
    # The plane divided among 25 objects: rough borders everywhere, and junctions of three.
    places = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    labels = seeds[tuple(places)]
    exact = traced(labels)
    after = [shape_of(outline) for outline in shaped(exact, ExportOptions(simplify=2.0))]
    assert all(shape.is_valid for shape in after)
    corners = [sum(len(ring) for rings in outline.polygons for ring in rings) for outline in exact]
    assert sum(shapely.get_num_coordinates(shape) for shape in after) < 0.5 * sum(corners)
    union = shapely.union_all(after)
    assert sum(shape.area for shape in after) == pytest.approx(union.area)
    assert len(shapely.get_parts(union)) == 1
    assert all(not part.interiors for part in shapely.get_parts(union))
    assert union.area == pytest.approx(60 * 80, rel=0.02)


@pytest.mark.parametrize("angle", [0, 17, 30, 45, 80])
def test_a_squared_roof_has_four_corners_and_its_true_size_and_place(angle):
    turn = np.deg2rad(angle)
    rows, cols = np.mgrid[:200, :200] + 0.5 - 100
    along, across = cols * np.cos(turn) + rows * np.sin(turn), -cols * np.sin(turn) + rows * np.cos(turn)
    labels = ((np.abs(along) < 60) & (np.abs(across) < 25)).astype(np.uint8)
    (outline,) = shaped(traced(labels), ExportOptions(squared=True))
    ((ring,),) = outline.polygons
    assert len(ring) == 4
    true = shapely.Polygon(
        [
            (x * np.cos(turn) - y * np.sin(turn) + 100, x * np.sin(turn) + y * np.cos(turn) + 100)
            for x, y in ((-60, -25), (60, -25), (60, 25), (-60, 25))
        ]
    )
    found = shapely.Polygon(ring)
    assert found.intersection(true).area / found.union(true).area > 0.97
    sides = sorted(np.hypot(*(np.roll(ring, -1, axis=0) - ring).T))
    assert sides == pytest.approx([50, 50, 120, 120], abs=1)


def test_what_is_no_rectangle_keeps_its_outline():
    rows, cols = np.mgrid[:100, :100]
    labels = np.zeros((100, 100), np.uint8)
    labels[20:80, 10:20] = labels[70:80, 10:60] = 1
    labels[np.hypot(rows - 30, cols - 70) < 20] = 2
    exact = traced(labels)
    for before, after in zip(exact, shaped(exact, ExportOptions(squared=True)), strict=True):
        assert shape_of(before).equals(shape_of(after))
