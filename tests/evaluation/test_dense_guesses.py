"""Dense guesses against labels: foreground, borders and centers on one tile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_sam import Segmenter
from napari_sam.core.geometry import Plane
from napari_sam.core.predictor import DenseGuesses, Predictor
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.evaluation.datasets import TargetObject
from napari_sam.evaluation.dense_guesses import compare, measure_guesses
from napari_sam.testing.predictors import FakePredictor

SIDE = 64
CELLS = SIDE // 4


def plane_target(labels: np.ndarray, value: int = 1, ignored: np.ndarray | None = None) -> TargetObject:
    return TargetObject(Plane.of(labels.shape), labels == value, ignored, labels)


def whole_tile(shape: tuple[int, int], level: int = 0) -> Tile:
    return TileGrid(shape, SIDE).tile(level, 0, 0)


def blocks(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Return labels of a tile: boxes in cells (top, left, bottom, right), numbered from 1."""
    cells = np.zeros((CELLS, CELLS), int)
    for value, (top, left, bottom, right) in enumerate(boxes, 1):
        cells[top:bottom, left:right] = value
    return np.kron(cells, np.ones((4, 4), int))


def no_offsets(**more: Any) -> DenseGuesses:
    zeros = np.zeros((CELLS, CELLS), np.float32)
    return DenseGuesses(np.stack([zeros, zeros]), zeros, **more)


def true_offsets(row: float, col: float) -> np.ndarray:
    """Return the way from the middle of each cell to a position, in tile pixel edges."""
    middles = (np.arange(CELLS) + 0.5) * 4
    return np.stack(np.broadcast_arrays((row - middles)[:, None], (col - middles)[None])).astype(np.float32)


def test_foreground_is_compared_cell_by_cell_on_all_objects_of_the_tile() -> None:
    labels = blocks((2, 2, 6, 6), (8, 8, 12, 12))
    foreground = np.zeros((CELLS, CELLS), np.float32)
    foreground[2:6, 2:6] = 0.6
    foreground[8:12, 8:10] = 0.9
    foreground[14, :8] = 0.51
    foreground[13, :8] = 0.5
    result = compare(no_offsets(foreground=foreground), whole_tile(labels.shape), plane_target(labels))
    assert result.foreground_iou == pytest.approx((16 + 8) / (32 + 8))
    assert result.border_f is None


def test_borders_are_the_cells_on_both_sides_also_between_objects_that_touch() -> None:
    labels = blocks((4, 4, 12, 8), (4, 8, 12, 12))
    border = np.zeros((CELLS, CELLS), np.float32)
    border[3:5, 4:12] = border[11:13, 4:12] = border[4:12, 3:5] = border[4:12, 11:13] = 1
    without_the_seam = compare(no_offsets(border=border), whole_tile(labels.shape), plane_target(labels))
    border[4:12, 7:9] = 1
    exact = compare(no_offsets(border=border), whole_tile(labels.shape), plane_target(labels))
    assert exact.border_f == 1.0
    # Around both are 60 cells, and 12 more at the seam. Of those, 4 lie within a cell of the others and 8 are missed.
    assert np.count_nonzero(border) == 72
    recall = (72 - 8) / 72
    assert without_the_seam.border_f == pytest.approx(2 * recall / (1 + recall))


def test_the_error_of_the_center_is_in_radii_of_the_object_and_over_its_cells_only() -> None:
    labels = blocks((4, 2, 8, 6), (10, 10, 14, 14))
    tile, target = whole_tile(labels.shape), plane_target(labels)
    exact = replace(no_offsets(), center_offsets=true_offsets(6 * 4, 4 * 4))
    assert compare(exact, tile, target).center_error == pytest.approx(0.0, abs=1e-6)
    # The object has 16 x 16 pixels, so its radius is 16: a center that lies 3 and 4 pixels off is 5 / 16 off.
    off = replace(no_offsets(), center_offsets=true_offsets(6 * 4 + 3, 4 * 4 + 4))
    assert compare(off, tile, target).center_error == pytest.approx(5 / 16)


def test_the_error_of_the_center_is_the_same_on_a_reduced_tile() -> None:
    labels = np.kron(blocks((4, 2, 8, 6)), np.ones((2, 2), int))
    tile, target = whole_tile(labels.shape, level=1), plane_target(labels)
    off = replace(no_offsets(), center_offsets=true_offsets(6 * 4 + 3, 4 * 4 + 4))
    assert compare(off, tile, target).center_error == pytest.approx(5 / 16)


def test_ignored_pixels_and_the_padding_of_a_small_image_do_not_count() -> None:
    labels = blocks((2, 2, 6, 6))[:48, :40]
    ignored = np.zeros(labels.shape, bool)
    ignored[32:48] = True
    foreground, border = np.zeros((2, CELLS, CELLS), np.float32)
    foreground[2:6, 2:6] = foreground[8:] = foreground[:, 10:] = 1
    border[1:3, 2:6] = border[5:7, 2:6] = border[2:6, 1:3] = border[2:6, 5:7] = border[7:] = border[:, 9:] = 1
    guesses = no_offsets(foreground=foreground, border=border)
    counted = compare(guesses, whole_tile(labels.shape), plane_target(labels, ignored=ignored))
    assert (counted.foreground_iou, counted.border_f) == (1.0, 1.0)
    everything = compare(guesses, whole_tile(labels.shape), plane_target(labels))
    assert everything.foreground_iou == pytest.approx(16 / (16 + 4 * 10))


def test_an_object_between_the_middles_of_cells_has_no_center_error() -> None:
    labels = np.zeros((SIDE, SIDE), int)
    labels[8:10, 8:10] = 1
    assert compare(no_offsets(), whole_tile(labels.shape), plane_target(labels)).center_error is None


def test_a_model_without_dense_guesses_is_not_measured(fake_predictor: FakePredictor) -> None:
    labels = np.zeros((200, 200), int)
    labels[50:90, 60:100] = 1
    segmenter = Segmenter(labels.astype(np.uint8), model=fake_predictor)
    assert measure_guesses(segmenter, plane_target(labels)) is None


def test_the_embedded_model_points_to_the_middle_of_a_disk(compact: Predictor) -> None:
    rows, cols = np.ogrid[:300, :400]
    labels = ((rows - 140) ** 2 + (cols - 250) ** 2 <= 40**2).astype(int)
    segmenter = Segmenter((60 + 120 * labels).astype(np.uint8), model=compact, contrast_limits=(0, 255))

    result = measure_guesses(segmenter, plane_target(labels))
    assert result is not None
    assert result.center_error is not None
    # 0.06; a guess of no way at all is 0.38 off, which is the mean distance of the disk's pixels from its center.
    assert result.center_error < 0.2
