"""The evaluation protocol: which objects are drawn, where clicks are placed, and how answers are scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.evaluation.labelled import FLAT, disk, nothing, squares

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.evaluation.datasets import (
    LabelledImage,
    TargetObject,
)
from napari_sam.evaluation.dense_guesses import DenseResult
from napari_sam.evaluation.metrics import ClickResult, Evaluation, rank_correlation
from napari_sam.evaluation.protocol import click_through, evaluate
from napari_sam.segmenter import Candidates


def mask_of(pixels: np.ndarray) -> Mask:
    return Mask(Box.of_shape(pixels.shape), pixels).tightened()


@dataclass
class FakeSegmenter:
    """Answers with what `answers` makes of the points so far and of the box; keeps what it was asked."""

    answers: Callable[[list[Any], list[int], Any, Plane], tuple[np.ndarray, np.ndarray, np.ndarray]]
    shape: tuple[int, ...] = (100, 100)
    predictor: Any = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def segment(
        self, *, points: Any = None, labels: Any = None, box: Any = None, plane: Plane | None = None
    ) -> Candidates:
        points, labels = list(points or []), list(labels or [])
        self.asked.append({"points": points, "labels": labels, "box": box, "plane": plane})
        assert plane is not None
        masks = self.answers(points, labels, box, plane)
        return Candidates(tuple(mask_of(mask) for mask in masks), 1, plane)


def perfect(labels: np.ndarray) -> FakeSegmenter:
    """A segmenter that knows the labels and finds the object at the first point, or in the middle of the box."""

    def answers(points: list[Any], _: list[int], box: Any, plane: Plane) -> tuple[np.ndarray, ...]:
        section = labels[tuple(slice(None) if axis in plane.axes else i for axis, i in enumerate(plane.index))]
        if box is None:
            value = section[points[0]]
        else:
            inside = section[box.slices]
            value = np.bincount(inside[inside > 0]).argmax()
        return nothing(section.shape), section == value, np.ones(section.shape, bool)

    return FakeSegmenter(answers, labels.shape)


def test_a_perfect_segmenter_has_iou_1_and_needs_one_click() -> None:
    labels = squares(3)
    segmenter = perfect(labels)
    clicks = click_through(segmenter, TargetObject(Plane.of(labels.shape), labels == 2, None), 4)
    assert clicks.ious == (1.0, 1.0, 1.0, 1.0)
    assert (clicks.best_of_3, clicks.box_iou) == (1.0, 1.0)
    assert clicks.noc(0.8) == clicks.noc(0.9) == 1


def test_each_click_is_in_the_middle_of_the_larger_error_of_the_last_answer() -> None:
    """First the middle of the object, then that of the larger error; earlier points are kept; a box at the end."""
    truth = disk(50, 50, 20)
    left, right = truth & (np.arange(100) < 50)[None], truth & (np.arange(100) >= 50)[None]
    stain = disk(15, 85, 12)
    plan = {1: left, 2: truth | stain, 3: truth}

    def answers(points: list[Any], _: list[int], box: Any, plane: Plane) -> tuple[np.ndarray, ...]:
        return nothing((100, 100)), (right if box is not None else plan[len(points)]), truth

    segmenter = FakeSegmenter(answers)
    clicks = click_through(segmenter, TargetObject(FLAT, truth, None), 3)
    size, half, spot = (np.count_nonzero(part) for part in (truth, left, stain))
    assert clicks.ious == pytest.approx((half / size, size / (size + spot), 1.0))
    assert clicks.best_of_3 == 1.0
    assert clicks.box_iou == pytest.approx((size - half) / size)
    assert (clicks.noc(0.8), clicks.noc(0.3)) == (3, 1)
    *_, last, boxed = segmenter.asked
    assert [len(request["points"]) for request in segmenter.asked] == [1, 2, 3, 0]
    first, second, third = last["points"]
    assert first == (50, 50)
    assert right[second]
    assert third == (15, 85)
    assert last["labels"] == [1, 1, 0]
    assert boxed["box"].as_tuple() == (30, 30, 71, 71)
    assert all(request["plane"] == FLAT for request in segmenter.asked)


def test_ignored_pixels_do_not_count_in_the_iou() -> None:
    truth, ignored = disk(30, 30, 10), disk(70, 70, 20)

    def answers(points: list[Any], labels: list[int], box: Any, plane: Plane) -> tuple[np.ndarray, ...]:
        return nothing((100, 100)), truth | ignored, truth | ignored

    segmenter = FakeSegmenter(answers)
    clicks = click_through(segmenter, TargetObject(FLAT, truth, ignored), 3)
    assert clicks.ious == (1.0, 1.0, 1.0)
    assert (clicks.best_of_3, clicks.box_iou) == (1.0, 1.0)
    assert segmenter.asked[2]["labels"] == [1, 1, 1]


def test_a_segmenter_that_finds_nothing_misses_every_goal() -> None:
    def answers(*_: Any) -> tuple[np.ndarray, ...]:
        return (nothing((100, 100)),) * 3

    clicks = click_through(FakeSegmenter(answers), TargetObject(FLAT, disk(30, 30, 10), None), 5)
    assert clicks.ious == (0.0,) * 5
    assert clicks.noc(0.8) == 6


@pytest.mark.parametrize(
    ("ious", "goal", "count"),
    [
        ((0.5, 0.8, 0.9), 0.8, 2),
        ((0.5, 0.8, 0.9), 0.9, 3),
        ((0.85, 0.2, 0.9), 0.8, 1),
        ((0.5, 0.6, 0.79), 0.8, 4),
        ((0.1,) * 8, 0.9, 9),
    ],
)
def test_noc_is_the_first_click_that_reaches_the_goal_and_a_miss_costs_one_more(
    ious: tuple[float, ...], goal: float, count: int
) -> None:
    assert ClickResult(ious, 0.5, 0.5).noc(goal) == count


def test_the_table_holds_the_mean_of_each_subset_and_the_mean_over_subsets() -> None:
    evaluation = Evaluation("mine")
    evaluation.clicks["cells"] += [
        ClickResult(
            (0.5, 0.9),
            0.6,
            0.7,
            (0.6, 0.8),
            boundary_f=(0.2, 0.4),
            box_boundary_f=0.5,
            off_center_ious=(0.4, 0.5, 0.3),
            seconds=(0.9, 0.1),
            is_first_of_image=True,
            dense=DenseResult(0.8, 0.6, 0.3),
        ),
        ClickResult(
            (0.7, 0.7),
            0.8,
            0.9,
            (0.7, 0.5),
            boundary_f=(0.4, 0.8),
            box_boundary_f=0.9,
            off_center_ious=(0.7, 0.9, 0.8),
            seconds=(0.3, 0.2),
            dense=DenseResult(0.6, 0.4, None),
        ),
    ]
    evaluation.clicks["brain"] += [
        ClickResult(
            (0.2, 1.0),
            0.4,
            0.2,
            (0.1, 0.9),
            boundary_f=(0.1, 1.0),
            box_boundary_f=0.1,
            off_center_ious=(0.1, 0.1, 0.1),
            seconds=(0.5, 0.6),
            is_first_of_image=True,
        )
    ]
    table = evaluation.table()
    json.dumps(table)
    assert table["model"] == "mine"
    assert table["subsets"] == {
        "brain": {
            "n": 1,
            "miou": [0.2, 1.0],
            "best_of_3": 0.4,
            "box_miou": 0.2,
            "noc80": 2.0,
            "noc85": 2.0,
            "noc90": 2.0,
            "predicted_miou": [0.1, 0.9],
            "off_center_miou": 0.1,
            "off_center_loss": 0.1,
            "boundary_f": [0.1, 1.0],
            "box_boundary_f": 0.1,
            "seconds_first_click": 0.5,
            "seconds_click": 0.6,
            "dense_foreground_iou": None,
            "dense_border_f": None,
            "dense_center_error": None,
        },
        "cells": {
            "n": 2,
            "miou": [0.6, 0.8],
            "best_of_3": 0.7,
            "box_miou": 0.8,
            "noc80": 2.5,
            "noc85": 2.5,
            "noc90": 2.5,
            "predicted_miou": [0.65, 0.65],
            "off_center_miou": 0.6,
            "off_center_loss": 0.0,
            "boundary_f": [0.3, 0.6],
            "box_boundary_f": 0.7,
            "seconds_first_click": 0.9,
            "seconds_click": 0.15,
            "dense_foreground_iou": 0.7,
            "dense_border_f": 0.5,
            "dense_center_error": 0.3,
        },
    }
    mean = table["mean"]
    assert mean.pop("n") == 3
    assert mean.pop("iou_spearman_first") == 1.0
    # True 0.5 0.9 0.7 0.7 0.2 1.0 against said 0.6 0.8 0.7 0.5 0.1 0.9: by hand, with the tie at 3.5.
    assert mean.pop("iou_spearman") == pytest.approx(1 - 6 * 3.5 / 210, abs=0.01)
    # Each prediction in a bin of its own: too sure by 0.1 -0.1 0 -0.2 -0.1 -0.1; of first clicks by 0.1 0 -0.1.
    assert mean.pop("iou_calibration_error") == pytest.approx(0.1)
    assert mean.pop("iou_bias") == pytest.approx(-0.4 / 6, abs=1e-4)
    assert mean.pop("iou_calibration_error_first") == pytest.approx(0.2 / 3, abs=1e-4)
    assert mean.pop("iou_bias_first") == pytest.approx(0.0)
    assert mean == {
        "miou": [0.4, 0.9],
        "best_of_3": 0.55,
        "box_miou": 0.5,
        "noc80": 2.25,
        "noc85": 2.25,
        "noc90": 2.25,
        "predicted_miou": [0.375, 0.775],
        "off_center_miou": 0.35,
        "off_center_loss": 0.05,
        "boundary_f": [0.2, 0.8],
        "box_boundary_f": 0.4,
        # Medians of all objects, not means of the subsets.
        "seconds_first_click": 0.7,
        "seconds_click": 0.2,
        "dense_foreground_iou": 0.7,
        "dense_border_f": 0.5,
        "dense_center_error": 0.3,
    }


def test_a_correlation_needs_two_different_values() -> None:
    assert rank_correlation([ClickResult((0.5, 0.5), 0.5, 0.5, (0.2, 0.3))]) is None
    assert rank_correlation([ClickResult((0.5, 0.6), 0.5, 0.5)]) is None


@dataclass
class Study:
    """Images of numbered squares with a perfect segmenter for each, and a record of what was clicked on."""

    images: list[LabelledImage] = field(default_factory=list)
    opened: list[Path] = field(default_factory=list)
    _segmenters: list[tuple[Path, FakeSegmenter]] = field(default_factory=list)

    def segmenter_of(self, path: Path) -> FakeSegmenter:
        self.opened.append(path)
        self._segmenters.append((path, perfect(tifffile.imread(path))))
        return self._segmenters[-1][1]

    def drawn(self, count: int, seed: int = 0) -> list[tuple[str, int]]:
        """Evaluate; return (image file, label) of each object that was clicked on."""
        self.opened.clear()
        self._segmenters.clear()
        yields = list(
            evaluate(self.images, self.segmenter_of, model="fake", max_clicks=1, objects_per_subset=count, seed=seed)  # type: ignore[arg-type]
        )
        objects = [
            (path.name, int(tifffile.imread(path)[request["points"][0]]))
            for path, segmenter in self._segmenters
            for request in segmenter.asked
            if request["points"]
        ]
        assert len(yields) == len(objects)
        return objects


@pytest.fixture
def study(labelled: Callable[..., LabelledImage]) -> Callable[..., Study]:
    def make(*counts: int, **more: Any) -> Study:
        return Study([labelled(squares(count), **more) for count in counts])

    return make


@pytest.mark.parametrize(
    ("counts", "wanted", "expected"),
    [
        ((20,), 12, 12),
        ((20, 20, 20), 12, 12),
        ((1, 1, 20), 12, 12),
        ((20, 1, 1), 12, 12),
        ((0, 0, 0, 15), 12, 12),
        ((3, 4, 5), 12, 12),
        ((5, 9, 2, 1, 0), 16, 16),
        ((3, 2), 12, 5),
        ((0, 0), 12, 0),
        ((4,) * 20, 12, 12),
        ((7, 7), 1, 1),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_as_many_objects_as_wanted_are_drawn_where_there_are_enough(
    study: Callable[..., Study], counts: tuple[int, ...], wanted: int, expected: int, seed: int
) -> None:
    objects = study(*counts).drawn(wanted, seed)
    assert len(objects) == expected
    assert len(set(objects)) == expected, "an object was drawn twice"


@pytest.mark.parametrize("seed", range(4))
def test_objects_come_from_as_many_images_as_possible(study: Callable[..., Study], seed: int) -> None:
    assert len({name for name, _ in study(*(10,) * 6).drawn(6, seed)}) == 6
    by_image = [name for name, _ in study(10, 10, 10).drawn(12, seed)]
    assert sorted(by_image.count(name) for name in set(by_image)) == [4, 4, 4]


def test_one_seed_always_draws_the_same_objects_and_another_seed_others(study: Callable[..., Study]) -> None:
    images = study(20, 20, 20)
    first = images.drawn(9, seed=0)
    assert images.drawn(9, seed=0) == first
    assert len({tuple(sorted(images.drawn(9, seed=seed))) for seed in range(5)}) == 5


def test_the_objects_of_a_subset_do_not_depend_on_the_other_subsets(
    study: Callable[..., Study], labelled: Callable[..., LabelledImage]
) -> None:
    images = study(20, 20, subset="b")
    alone = images.drawn(6)
    images.images.insert(0, labelled(squares(5), subset="a"))
    assert [item for item in images.drawn(6) if item in alone] == alone


def test_an_image_is_opened_only_when_it_is_used(study: Callable[..., Study]) -> None:
    images = study(*(10,) * 8)
    images.drawn(3)
    assert len(images.opened) == 3


def test_a_perfect_segmenter_on_a_whole_manifest(labelled: Callable[..., LabelledImage]) -> None:
    volume = np.stack([squares(0), squares(4), squares(2)])
    study = Study([labelled(squares(8), subset="flat"), labelled(volume, "volume", subset="deep")])
    played = evaluate(study.images, study.segmenter_of, model="perfect", max_clicks=3, objects_per_subset=4)  # type: ignore[arg-type]
    subsets, results = zip(*played, strict=True)
    assert subsets == ("deep",) * 4 + ("flat",) * 4
    table = results[-1].table()
    whole = {"n": 4, "miou": [1.0] * 3, "best_of_3": 1.0, "box_miou": 1.0, "noc80": 1.0, "noc85": 1.0, "noc90": 1.0}
    whole |= {"boundary_f": [1.0] * 3, "box_boundary_f": 1.0}
    for row in table["subsets"].values():
        assert {key: row[key] for key in whole} == whole
        assert row["off_center_miou"] is row["off_center_loss"] is row["dense_center_error"] is None


def half_blind(labels: np.ndarray) -> FakeSegmenter:
    """A segmenter that finds the object for a point in its first four columns, else only the right half."""

    def answers(points: list[Any], _: list[int], box: Any, plane: Plane) -> tuple[np.ndarray, ...]:
        truth = labels == labels[points[0]] if points else labels == 1
        middle = np.flatnonzero(truth.any(0))[5]
        right = truth & (np.arange(truth.shape[1]) >= middle)
        return nothing(truth.shape), (truth if points and points[0][1] < middle else right), right

    return FakeSegmenter(answers, labels.shape)


def test_off_center_clicks_are_answered_one_by_one_and_their_loss_is_against_the_click_in_the_middle(
    labelled: Callable[..., LabelledImage],
) -> None:
    image = labelled(squares(1))
    segmenter = half_blind(squares(1))
    *_, (_, evaluation) = evaluate(
        [image],
        lambda _: segmenter,  # type: ignore[arg-type, return-value]
        model="fake",
        max_clicks=2,
        off_center_clicks=40,
    )
    single = [request["points"] for request in segmenter.asked if len(request["points"]) == 1]
    (middle,), *others = single
    assert len(others) == 40
    share_left = np.mean([col < 5 for ((_, col),) in others])
    assert 0 < share_left < 1
    (result,) = evaluation.clicks["mine"]
    assert result.off_center_ious == tuple(1.0 if col < 5 else 0.5 for ((_, col),) in others)
    row = evaluation.table()["subsets"]["mine"]
    expected = share_left + 0.5 * (1 - share_left)
    assert row["off_center_miou"] == pytest.approx(expected, abs=1e-4)
    assert row["off_center_loss"] == pytest.approx((1.0 if middle[1] < 5 else 0.5) - expected, abs=1e-4)


def test_off_center_clicks_are_the_same_for_every_model(labelled: Callable[..., LabelledImage]) -> None:
    image = labelled(squares(6))

    def asked(segmenter: FakeSegmenter) -> list[list[Any]]:
        list(evaluate([image], lambda _: segmenter, model="fake", objects_per_subset=3, off_center_clicks=3))  # type: ignore[arg-type, return-value]
        return [request["points"] for request in segmenter.asked if len(request["points"]) == 1]

    assert asked(perfect(squares(6))) == asked(half_blind(squares(6)))


def test_only_the_first_click_on_an_image_counts_as_a_first_one(study: Callable[..., Study]) -> None:
    images = study(4, 4)
    *_, (_, evaluation) = evaluate(images.images, images.segmenter_of, model="fake", objects_per_subset=6)  # type: ignore[arg-type]
    firsts = [result.is_first_of_image for result in evaluation.clicks["mine"]]
    assert firsts == [True, False, False] * 2
    assert all(len(result.seconds) == len(result.ious) for result in evaluation.clicks["mine"])


def test_results_come_object_by_object(study: Callable[..., Study]) -> None:
    images = study(5)
    counts = [
        len(evaluation.clicks["mine"])
        for _, evaluation in evaluate(images.images, images.segmenter_of, model="fake", objects_per_subset=3)  # type: ignore[arg-type]
    ]
    assert counts == [1, 2, 3]
