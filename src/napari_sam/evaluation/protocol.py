"""Evaluate a model: simulated clicks on labelled images, through the Segmenter on the full image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from napari_sam.core.geometry import Box
from napari_sam.evaluation.clicks import most_interior, next_click
from napari_sam.evaluation.datasets import LabelledImage, TargetObject, drawn_targets
from napari_sam.evaluation.metrics import ClickResult, Evaluation, iou_of
from napari_sam.segmenter import Segmenter


def evaluate(
    images: list[LabelledImage],
    segmenter_of: Callable[[Path], Segmenter],
    *,
    model: str,
    max_clicks: int = 8,
    objects_per_subset: int = 12,
    seed: int = 0,
) -> Iterator[tuple[str, Evaluation]]:
    """Segment sampled objects of every subset by simulated clicks.

    The objects of a subset are drawn from its images in turn, in an order that `seed` fixes.

    Parameters
    ----------
    images
        The manifest.
    segmenter_of
        Returns a segmenter of an image file.
    model
        Name for the table.
    max_clicks
        Points for each object.
    objects_per_subset
        Number of objects to draw.
    seed
        Seed of the draw.

    Yields
    ------
    subset : str
        Subset of the latest object.
    evaluation : Evaluation
        All results so far.
    """
    segmenter: Segmenter

    def shape_of(image: LabelledImage) -> tuple[int, ...]:
        nonlocal segmenter
        segmenter = segmenter_of(image.image)
        return segmenter.shape

    evaluation = Evaluation(model)
    for image, target in drawn_targets(images, shape_of, objects_per_subset, seed):
        evaluation.clicks[image.subset].append(click_through(segmenter, target, max_clicks))
        yield image.subset, evaluation


def click_through(segmenter: Segmenter, target: TargetObject, max_clicks: int) -> ClickResult:
    """Click on an object until `max_clicks`, each time into the middle of the larger error, and box it once.

    Parameters
    ----------
    segmenter
        Of the object's image.
    target
        The object.
    max_clicks
        Number of points.
    """
    points, signs, ious, predicted = [most_interior(target.truth)], [1], [], []
    best_of_3 = 0.0
    for click in range(max_clicks):
        candidates = segmenter.segment(points=points, labels=signs, plane=target.plane)
        if click == 0:
            best_of_3 = max(iou_of(candidate.to_array(target.truth.shape), target) for candidate in candidates)
        predicted.append(candidates.best.iou_prediction)
        answer = candidates.best.to_array(target.truth.shape)
        ious.append(iou_of(answer, target))
        point, sign = next_click(answer, target)
        points.append(point)
        signs.append(sign)
    rows, cols = np.flatnonzero(target.truth.any(1)), np.flatnonzero(target.truth.any(0))
    box = Box(rows[0], cols[0], rows[-1] + 1, cols[-1] + 1)
    boxed = segmenter.segment(box=box, plane=target.plane)
    box_iou = iou_of(boxed.best.to_array(target.truth.shape), target)
    return ClickResult(tuple(ious), best_of_3, box_iou, tuple(predicted))
