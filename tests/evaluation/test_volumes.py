"""Objects in volumes: which planes are corrected, and what the figures say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from skimage.draw import disk

from napari_sam import Segmenter
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.evaluation.datasets import read_manifest
from napari_sam.evaluation.volumes.baselines import interpolated_masks
from napari_sam.evaluation.volumes.metrics import PLANES, VolumeEvaluation, VolumeResult, plane_iou, volume_iou
from napari_sam.evaluation.volumes.trial import evaluate_volumes
from napari_sam.testing.predictors import FakePredictor

SHAPE = (9, 64, 64)


def cone() -> np.ndarray:
    """Return an object that grows from plane to plane, in planes 1 to 7."""
    truth = np.zeros(SHAPE, np.uint8)
    for z in range(1, 8):
        truth[z][disk((32, 30), 6 + z, shape=SHAPE[1:])] = 3
    return truth


def mask_of(pixels: np.ndarray) -> Mask:
    return Mask(Box.of_shape(pixels.shape), pixels.astype(bool)).tightened()


@pytest.fixture
def manifest(tmp_path):
    truth = cone()
    tifffile.imwrite(tmp_path / "image.tif", np.where(truth > 0, 200, 20).astype(np.uint8))
    tifffile.imwrite(tmp_path / "mask.tif", truth)
    entry = {"image": "image.tif", "mask": "mask.tif", "subset": "cones", "kind": "volume", "axis": "z"}
    flat = {"image": "flat.tif", "mask": "flat.tif", "subset": "flat", "kind": "instance"}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps([entry, flat]))
    return path


@pytest.mark.parametrize("first", ["box", "click"])
def test_every_figure_of_an_object_is_measured(manifest, first):
    images = read_manifest(manifest)
    predictor = FakePredictor()
    steps = list(evaluate_volumes(images, lambda path: Segmenter(path, model=predictor), model="fake", first=first))
    assert [subset for subset, _ in steps] == ["cones"]
    table = steps[-1][1].table()
    row = table["subsets"]["cones"]
    assert row["objects"] == table["mean"]["objects"] == 1
    for figures in (row["volume_iou"], row["volume_iou_worst"], row["box_baseline"]["volume_iou"]):
        assert [*figures] == ["1", "2", "3", "5"]
        assert all(0 < value <= 1 for value in figures.values())
    assert row["interpolation"]["volume_iou"]["1"] < row["interpolation"]["volume_iou"]["5"]
    assert row["encoded_per_plane"] <= 1
    assert row["ms_per_plane"] > 0
    assert 0 <= row["plane_iou_16"] <= 1
    assert json.loads(json.dumps(table)) == table
    assert predictor.encode.__func__ is FakePredictor.encode


def test_the_iou_of_a_volume_counts_planes_without_a_mask_and_masks_without_an_object():
    truth = cone() == 3
    masks = {at: mask_of(truth[at]) for at in range(1, 8)}
    assert volume_iou(masks, truth) == 1
    assert volume_iou({}, truth) == 0
    half = {at: masks[at] for at in (5, 6, 7)}
    assert volume_iou(half, truth) == pytest.approx(truth[5:].sum() / truth.sum())
    surplus = {**masks, 0: masks[1]}
    assert volume_iou(surplus, truth) == pytest.approx(truth.sum() / (truth.sum() + truth[1].sum()))
    assert plane_iou(None, np.zeros((4, 4), bool)) == 1
    assert plane_iou(masks[1], truth[1]) == 1


def test_interpolation_is_exact_where_an_object_grows_evenly():
    truth = cone() == 3
    between = interpolated_masks({at: mask_of(truth[at]) for at in (1, 7)})
    assert sorted(between) == [2, 3, 4, 5, 6]
    assert all(plane_iou(mask, truth[at]) > 0.9 for at, mask in between.items())
    empty = Mask(Box(0, 0, 0, 0), np.zeros((0, 0), bool))
    assert interpolated_masks({1: mask_of(truth[1]), 5: empty}) == {}


def test_the_table_is_the_mean_of_the_subsets_and_leaves_out_what_was_not_measured():
    evaluation = VolumeEvaluation("model")
    figures = dict.fromkeys(PLANES, 0.5)
    planes = [(1, 0.9, 0.8), (-2, 0.5, 0.4), (20, 0.1, 0.2), (3, 0.0, float("nan"))]
    evaluation.results["one"].append(
        VolumeResult(figures, figures, figures, figures, planes, (1, 3), seconds=0.4, planes=8, encoded=4)
    )
    evaluation.results["two"].append(VolumeResult({1: 0.8, 2: 0.9, 3: 0.9, 5: 0.9}, {}, {}, {}, [], ()))
    table = evaluation.table()
    one, two, mean = table["subsets"]["one"], table["subsets"]["two"], table["mean"]
    assert one["plane_iou_16"] == 0.5
    assert one["plane_iou_by_distance"] == {"1": 0.9, "2": 0.5, "4": 0.0, "8": None, "16": None, "32": 0.1}
    assert one["end_planes_missed"] == 2
    assert one["spearman"] == 1
    assert one["ms_per_plane"] == 50
    assert one["encoded_per_plane"] == 0.5
    assert two["plane_iou_16"] is None
    assert two["ms_per_plane"] is None
    assert two["dice_gain"] == pytest.approx(2 * 0.9 / 1.9 - 2 * 0.8 / 1.8, abs=1e-4)
    assert mean["volume_iou"]["1"] == pytest.approx(0.65)
    assert mean["plane_iou_16"] == 0.5
