"""Flood filling and random walker from the first click, with the best parameter of each subset in hindsight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.draw import disk

from napari_sam.evaluation.baselines import TOLERANCES, WINDOWS, baselines, flooded, walked
from napari_sam.evaluation.datasets import LabelledImage


def discs(contrast: float, radius: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((120, 120), np.uint8)
    labels[disk((60, 50), radius)] = 1
    return np.random.default_rng(0).normal(80, noise, labels.shape) + contrast * labels, labels


def test_flooding_stays_within_its_tolerance_and_connected() -> None:
    image, labels = discs(60, 20, 0.0)
    image[5:10, 5:10] = 140
    np.testing.assert_array_equal(flooded(image, (60, 50), 20), labels == 1)
    assert flooded(image, (60, 50), 70).all()


def test_the_walker_finds_a_disc_on_a_slope_that_no_tolerance_does() -> None:
    image, labels = discs(40, 20, 3.0)
    image += 1.7 * np.arange(120)
    truth = labels == 1

    def iou(answer: np.ndarray) -> float:
        return float((answer & truth).sum() / (answer | truth).sum())

    assert max(iou(flooded(image, (60, 50), tolerance)) for tolerance in TOLERANCES) < 0.6
    assert max(iou(walked(image, (60, 50), window)) for window in WINDOWS) > 0.9


@pytest.mark.parametrize("seed_point", [(0, 0), (119, 119), (0, 60), (60, 119)])
def test_a_click_on_the_edge_of_the_image_is_no_accident(seed_point: tuple[int, int]) -> None:
    image, _ = discs(40, 20, 5.0)
    for window in WINDOWS:
        assert walked(image, seed_point, window).shape == image.shape


def test_flat_or_tiny_images_give_no_walk() -> None:
    assert not walked(np.full((50, 50), 7.0), (25, 25), 48).any()
    assert not walked(np.arange(16.0).reshape(4, 4), (2, 2), 24).any()


@pytest.fixture
def images(tmp_path: Path) -> list[LabelledImage]:
    made = []
    for subset, contrast in (("bright", 100), ("dim", 16)):
        pixels, labels = discs(contrast, 18, 2.0)
        pixels[:8, :8], pixels[-8:, -8:] = 0, 255  # The contrast of the whole image is the same for both.
        for name, array in (("image", pixels.clip(0, 255).astype(np.uint8)), ("labels", labels)):
            tifffile.imwrite(tmp_path / f"{subset}_{name}.tif", array)
        made.append(
            LabelledImage(tmp_path / f"{subset}_image.tif", tmp_path / f"{subset}_labels.tif", subset, "instance")
        )
    return made


def test_each_subset_gets_the_parameter_that_is_best_for_it(images: list[LabelledImage]) -> None:
    *_, table = baselines(images, objects_per_subset=3)
    bright, dim = table["subsets"]["bright"], table["subsets"]["dim"]
    assert bright["n"] == dim["n"] == 1
    assert bright["flood_miou"] > 0.9
    assert dim["flood_miou"] > 0.8
    assert dim["flood_tolerance"] < bright["flood_tolerance"]
    assert table["mean"]["flood_miou"] == pytest.approx((bright["flood_miou"] + dim["flood_miou"]) / 2, abs=1e-4)
    assert set(table["mean"]) == {"flood_miou", "walker_miou"}
