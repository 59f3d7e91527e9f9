"""Everything mode measured: label images from found masks, figures of subsets, and the watershed beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.evaluation.found import FoundMasks
from tests.evaluation.labelled import disk, squares

from napari_sam.core.geometry import Plane
from napari_sam.core.predictor import Predictor
from napari_sam.evaluation.datasets import LabelledImage
from napari_sam.evaluation.everything import evaluate_everything, found_labels
from napari_sam.images.volume import Volume
from napari_sam.samples.cells import cells
from napari_sam.segmenter import Segmenter


class Finder:
    """A segmenter that finds what `find` makes of the pixels of a plane."""

    def __init__(self, path: Path, find: Callable[[np.ndarray], FoundMasks]) -> None:
        self.volume = Volume.of(path)
        self.shape = self.volume.shape
        self.pixels = tifffile.imread(path)
        self.find = find

    def everything(self, *, plane: Plane) -> FoundMasks:
        return self.find(self.pixels[plane.position])


def exact(labels: np.ndarray) -> FoundMasks:
    """Every object of the labels as it is, the first one with the highest score."""
    values = [value for value in np.unique(labels) if value]
    return FoundMasks(tuple(labels == value for value in values), np.linspace(1, 0.6, len(values)))


def nothing(labels: np.ndarray) -> FoundMasks:
    return FoundMasks((), np.zeros(0))


def evaluated(images: list[LabelledImage], find: Callable[[np.ndarray], FoundMasks]) -> dict[str, Any]:
    steps = list(evaluate_everything(images, lambda path: Finder(path, find), model="mine"))
    assert [subset for subset, _ in steps] == [image.subset for image in images]
    return steps[-1][1].table()


def test_of_overlapping_masks_the_better_one_keeps_the_pixels_they_share() -> None:
    masks = (disk(40, 30, 20), disk(40, 50, 20), disk(80, 80, 8))
    for scores, shared in (([0.7, 0.9, 0.2], 1), ([0.9, 0.7, 0.2], 0)):
        finder = SimpleNamespace(shape=(100, 100), everything=lambda plane, s=scores: FoundMasks(masks, np.array(s)))
        labels, kept = found_labels(finder, Plane.of((100, 100)))  # type: ignore[arg-type]
        np.testing.assert_array_equal(labels == 1, masks[shared])
        np.testing.assert_array_equal(labels == 2, masks[1 - shared] & ~masks[shared])
        assert kept.tolist() == [0.9, 0.7], "the third is not selected"


def test_a_model_that_finds_everything_has_the_best_figures_and_one_that_finds_nothing_the_worst(
    labelled: Callable[..., LabelledImage],
) -> None:
    images = [labelled(squares(6)), labelled(squares(3))]
    best, worst = evaluated(images, exact), evaluated(images, nothing)
    figures = ("msa", "f1_50", "ap50", "pq")
    for row in (best["subsets"]["mine"], best["mean"]):
        assert (row["images"], row["objects"]) == (2, 9)
        assert [row[key] for key in figures] == [1, 1, 1, 1]
        assert row["seconds_per_megapixel"] > 0
    assert [worst["mean"][key] for key in figures] == [0, 0, 0, 0]
    assert best["mean"]["watershed"] == worst["mean"]["watershed"]


def test_the_figures_of_a_subset_are_over_its_images_and_the_mean_is_over_the_subsets(
    labelled: Callable[..., LabelledImage],
) -> None:
    """One subset is found, of two images of the other one 4 of 4 and 1 of 2 objects."""

    def but_the_ninth(labels: np.ndarray) -> FoundMasks:
        return exact(np.where(labels == 9, 0, labels))

    lost = np.where(squares(2) == 2, 9, squares(2)).astype(np.uint8)
    table = evaluated([labelled(squares(3), subset="a"), labelled(squares(4)), labelled(lost)], but_the_ninth)
    row = table["subsets"]["mine"]
    assert (row["images"], row["objects"]) == (2, 6)
    assert row["msa"] == 0.75, "the mean of 1 and 1/2"
    assert row["f1_50"] == row["pq"] == pytest.approx(10 / 11, abs=1e-4), "5 found and 1 missed"
    assert row["ap50"] == pytest.approx(84 / 101, abs=1e-4), "precision 1 up to recall 5/6"
    assert table["mean"]["msa"] == 0.875
    assert (table["mean"]["images"], table["mean"]["objects"]) == (3, 9)


def test_a_volume_is_evaluated_in_the_plane_with_the_most_objects(labelled: Callable[..., LabelledImage]) -> None:
    two_small, three, three_large = squares(2), squares(3, 6), squares(3, 8)
    volume = np.zeros((4, 70, 70), np.uint8)
    for z, section in enumerate((two_small, three, three_large, two_small)):
        volume[z, : len(section), : len(section)] = section
    volume[3, 60:] = 255  # Ignored, so it is no third object.
    seen = []

    def watched(pixels: np.ndarray) -> FoundMasks:
        seen.append(pixels)
        return exact(pixels)

    table = evaluated([labelled(volume, "volume", ignore_label=255)], watched)
    np.testing.assert_array_equal(seen, volume[2:3], "of two planes the one with larger objects")
    assert table["mean"]["objects"] == 3
    assert table["mean"]["msa"] == 1


def test_connected_parts_of_a_class_are_objects_and_none_is_too_small(labelled: Callable[..., LabelledImage]) -> None:
    labels = (squares(5) > 0).astype(np.uint8)
    labels[-1, -1] = 1

    def parts(pixels: np.ndarray) -> FoundMasks:
        return exact(squares(5))

    row = evaluated([labelled(labels, "semantic")], parts)["mean"]
    assert row["objects"] == 6
    assert row["msa"] == pytest.approx(5 / 6, abs=1e-4)


def test_ignored_pixels_and_missing_labels_follow_the_manifest(labelled: Callable[..., LabelledImage]) -> None:
    labels = squares(3)
    labels[labels == 3] = 255
    complete, ignored, partial = (
        labelled(labels, **more) for more in ({}, {"ignore_label": 255}, {"annotation": "partial"})
    )
    assert evaluated([complete], lambda _: exact(squares(3)))["mean"]["msa"] == 1
    assert evaluated([ignored], lambda _: exact(squares(3)))["mean"]["msa"] == 1
    assert evaluated([ignored], lambda _: exact(squares(4)))["mean"]["msa"] == pytest.approx(2 / 3, abs=1e-4)
    assert evaluated([partial], lambda _: exact(squares(4)))["mean"]["msa"] == 1


def test_the_watershed_has_the_parameters_that_suit_the_subset(tmp_path: Path) -> None:
    """Bright discs in one subset and dark ones in the other, each separated as far as Otsu's threshold can."""
    truth = squares(5, 16)
    images = []
    for subset, sign in (("bright", 1), ("dark", -1)):
        pixels = 120 + sign * 80 * (truth > 0) + np.random.default_rng(0).normal(0, 5, truth.shape)
        for name, array in (("image", pixels.astype(np.uint8)), ("labels", truth)):
            tifffile.imwrite(tmp_path / f"{subset}_{name}.tif", array, photometric="minisblack")
        paths = (tmp_path / f"{subset}_{name}.tif" for name in ("image", "labels"))
        images.append(LabelledImage(*paths, subset, "instance"))
    table = evaluated(images, nothing)
    for row in (*table["subsets"].values(), table["mean"]):
        assert row["msa"] == 0
        assert row["watershed"]["f1_50"] == 1
        assert 0.8 < row["watershed"]["msa"] <= 1


def test_the_embedded_model_finds_computed_cells_better_than_the_watershed(
    labelled: Callable[..., LabelledImage], tmp_path: Path, compact: Predictor
) -> None:
    """The real search on a part of the sample image, through the manifest to the table."""
    sample = cells()
    part = np.s_[:384, :384]
    for name, array in (("image", sample.image[0][part]), ("labels", sample.truth[part])):
        tifffile.imwrite(tmp_path / f"cells_{name}.tif", array, photometric="minisblack")
    paths = (tmp_path / f"cells_{name}.tif" for name in ("image", "labels"))
    images = [LabelledImage(*paths, "cells", "instance")]
    *_, (subset, evaluation) = evaluate_everything(
        images, lambda path: Segmenter(path, model=compact, journal=False), model="compact"
    )
    row = evaluation.table()["subsets"][subset]
    assert row["objects"] == len(np.unique(sample.truth[part])) - 1
    assert row["f1_50"] > 0.8
    assert row["msa"] > 0.5
    assert row["ap50"] > 0.7
    assert row["pq"] > 0.6
    assert row["msa"] > row["watershed"]["msa"]
    assert row["seconds_per_megapixel"] > 0
