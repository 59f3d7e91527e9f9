"""Evaluate a model: simulated clicks on labelled images, through the Segmenter on the full image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.candidates import Candidates
from napari_sam.evaluation.boundaries import boundary_f
from napari_sam.evaluation.clicks import most_interior, next_click, off_center
from napari_sam.evaluation.datasets import LabelledImage, TargetObject, drawn_targets
from napari_sam.evaluation.dense_guesses import measure_guesses
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
    off_center_clicks: int = 0,
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
    off_center_clicks
        Clicks at random positions in each object, answered one by one. By default 0, which leaves these figures out.

    Yields
    ------
    subset : str
        Subset of the latest object.
    evaluation : Evaluation
        All results so far.
    """
    segmenter: Segmenter
    is_opened = False

    def shape_of(image: LabelledImage) -> tuple[int, ...]:
        nonlocal segmenter, is_opened
        segmenter = segmenter_of(image.image)
        is_opened = True
        return segmenter.shape

    evaluation = Evaluation(model)
    for image, target in drawn_targets(images, shape_of, objects_per_subset, seed):
        results = evaluation.clicks[image.subset]
        place = f"{seed}/{image.subset}/{len(results)}"
        result = click_through(segmenter, target, max_clicks)
        off_center_ious = [
            iou_of(_best(segmenter.segment(points=[point], plane=target.plane), target), target)
            for point in off_center(target.truth, off_center_clicks, place)
        ]
        results.append(
            replace(
                result,
                off_center_ious=tuple(off_center_ious),
                is_first_of_image=is_opened,
                dense=measure_guesses(segmenter, target),
            )
        )
        is_opened = False
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
    points, signs, predicted = [most_interior(target.truth)], [1], []
    ious, edges, seconds = [], [], []
    best_of_3 = 0.0
    for click in range(max_clicks):
        start = perf_counter()
        candidates = segmenter.segment(points=points, labels=signs, plane=target.plane)
        seconds.append(perf_counter() - start)
        if click == 0:
            best_of_3 = max(iou_of(candidate.to_array(target.truth.shape), target) for candidate in candidates)
        predicted.append(candidates.best.iou_prediction)
        answer = _best(candidates, target)
        ious.append(iou_of(answer, target))
        edges.append(boundary_f(answer, target))
        point, sign = next_click(answer, target)
        points.append(point)
        signs.append(sign)
    boxed = _best(segmenter.segment(box=target.box, plane=target.plane), target)
    return ClickResult(
        ious=tuple(ious),
        best_of_3=best_of_3,
        box_iou=iou_of(boxed, target),
        predicted=tuple(predicted),
        boundary_f=tuple(edges),
        box_boundary_f=boundary_f(boxed, target),
        seconds=tuple(seconds),
    )


def _best(candidates: Candidates, target: TargetObject) -> NDArray[np.bool_]:
    """Return the best candidate as an array of the target's plane."""
    return candidates.best.to_array(target.truth.shape)
