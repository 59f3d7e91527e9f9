"""A search by one example measured: what counts, what a user answers, what is encoded, and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tests.evaluation.labelled import disk, squares
from tests.everything.scenes import discs
from tests.similarity.scenes import SeeingFinder, proposals_of, query_of

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import mask_of
from napari_sam.evaluation.datasets import LabelledImage
from napari_sam.evaluation.finding.nearest_color import nearest_color
from napari_sam.evaluation.finding.plane_truth import PlaneTruth
from napari_sam.evaluation.finding.trial import evaluate_finding
from napari_sam.everything.found import FoundObjects
from napari_sam.segmenter import Segmenter

SHAPE = (200, 260)
CENTERS = [(40, 40), (40, 120), (40, 200), (130, 40), (130, 120), (130, 210)]


def scene(folder: Path, name: str, labels: np.ndarray, **more: Any) -> LabelledImage:
    """Write bright objects and their labels."""
    pixels = np.where(labels > 0, 200, 20).astype(np.uint8)
    for part, array in (("image", pixels), ("labels", labels.astype(np.uint8))):
        tifffile.imwrite(folder / f"{name}_{part}.tif", array, photometric="minisblack")
    return LabelledImage(folder / f"{name}_image.tif", folder / f"{name}_labels.tif", "discs", "instance", **more)


def evaluated(images: list[LabelledImage], model: Any = None, **more: Any) -> dict[str, Any]:
    used = model or SeeingFinder()
    steps = list(
        evaluate_finding(
            images,
            lambda path: Segmenter(path, model=used, journal=False, contrast_limits=(0, 255)),
            model="mine",
            **more,
        )
    )
    return steps[-1][1].table()


def test_a_plane_of_equal_discs_is_found_by_any_of_them_and_by_one_of_another_image(tmp_path: Path) -> None:
    images = [scene(tmp_path, "a", discs(SHAPE, CENTERS)), scene(tmp_path, "b", discs(SHAPE, CENTERS[1:]))]
    row = evaluated(images, examples_per_image=2)["subsets"]["discs"]
    assert (row["images"], row["examples"]) == (2, 4)
    assert row["f1_50"].keys() == {"0", "5", "10", "20"}
    assert row["f1_50"]["20"] == row["other_image_f1_50"] == row["everything_f1_50"] == 1
    assert row["nearest_colour_f1_50"] == 1


def test_a_tile_is_encoded_once_for_a_plane_however_many_examples_there_are(tmp_path: Path) -> None:
    image = scene(tmp_path, "a", discs(SHAPE, CENTERS))
    counts = []
    for examples in (1, 6):
        model = SeeingFinder()
        evaluated([image], model, examples_per_image=examples)
        counts.append(len(model.encoded))
    # Six examples lie on more tiles than one.
    assert counts[1] <= counts[0] + 20
    assert counts[1] < 2 * counts[0]


def test_planes_with_few_objects_classes_and_single_images_are_left_out_of_figures(tmp_path: Path) -> None:
    few = scene(tmp_path, "few", discs(SHAPE, CENTERS[:2]))
    enough = scene(tmp_path, "enough", discs(SHAPE, CENTERS))
    table = evaluated([few, enough], examples_per_image=1)
    assert (table["mean"]["images"], table["mean"]["examples"]) == (1, 1)
    assert table["subsets"]["discs"]["other_image_f1_50"] is None
    assert table["mean"]["other_image_f1_50"] is None
    assert not list(evaluate_finding([few], lambda path: Segmenter(path, model=SeeingFinder()), model="mine"))


def test_the_same_seed_draws_the_same_examples(tmp_path: Path) -> None:
    image = scene(tmp_path, "a", discs(SHAPE, [*CENTERS[:4], (130, 120)]))
    assert evaluated([image], examples_per_image=2, seed=3) == evaluated([image], examples_per_image=2, seed=3)


def truth_of(labels: np.ndarray, ignored: np.ndarray | None = None, *, is_partial: bool = False) -> PlaneTruth:
    return PlaneTruth(labels.astype(np.int64), np.zeros(labels.shape, bool) if ignored is None else ignored, is_partial)


def test_a_user_accepts_what_outlines_an_object_and_rejects_the_rest() -> None:
    labels = squares(3)
    truth = truth_of(labels)
    half, less = np.zeros(labels.shape, bool), np.zeros(labels.shape, bool)
    half[:5, :10] = less[:4, :10] = True
    assert truth.answer(mask_of(labels == 1)) is True
    assert truth.answer(mask_of(half)) is True
    assert truth.answer(mask_of(less)) is False
    assert truth.answer(mask_of(labels >= 1)) is False
    assert truth.answer(mask_of(disk(50, 50, 5, labels.shape))) is False


def test_a_user_says_nothing_about_the_example_ignored_pixels_and_what_may_be_unlabeled() -> None:
    labels = squares(3)
    background = mask_of(disk(50, 50, 5, labels.shape))
    assert truth_of(labels).without(1).answer(mask_of(labels == 1)) is None
    assert truth_of(labels).without(1).answer(mask_of(labels == 2)) is True
    assert truth_of(labels, disk(50, 50, 9, labels.shape)).answer(background) is None
    assert truth_of(labels, is_partial=True).answer(background) is None
    assert truth_of(labels, is_partial=True).answer(mask_of(labels >= 1)) is False


def test_the_example_counts_neither_as_an_object_nor_as_found() -> None:
    found = FoundObjects(Plane.of((32, 120)), proposals_of([0.2, 0.2, 0.9]))
    labels = np.zeros((32, 120), np.int64)
    for i in range(2):
        labels[:, 40 * i : 40 * i + 32] = i + 1
    chosen = np.arange(3)
    assert truth_of(labels).match(found, chosen).counts() == (2, 1, 0)
    assert truth_of(labels).without(2).match(found, chosen).counts() == (1, 1, 0)
    assert truth_of(labels).without(2).match(found, chosen[:2]).counts() == (1, 0, 0)


def test_the_baseline_takes_what_has_about_the_color_and_the_size_of_the_example_the_nearest_first() -> None:
    found = FoundObjects(Plane.of((32, 200)), proposals_of([0.3, 0.2, 0.25, 0.4, 0.9]))
    near, chosen = nearest_color(found, query_of([0.2]))
    assert chosen.tolist() == [1, 2, 0]
    assert (np.diff(near.scores[chosen]) < 0).all()
    doubled = query_of([0.2])
    size = doubled.layout.slices["shape"].start
    doubled.descriptors[:, size] += 1
    assert not len(nearest_color(found, doubled)[1])
