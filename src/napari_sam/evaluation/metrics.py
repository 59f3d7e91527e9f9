"""Figures of a model: IoU and number of clicks for each object, means for each data set."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from napari_sam.core.masks import iou
from napari_sam.evaluation.calibration import bias, calibration_error
from napari_sam.evaluation.datasets import TargetObject
from napari_sam.evaluation.dense_guesses import DenseResult


@dataclass(frozen=True, slots=True)
class ClickResult:
    """Quality of a model's answers for one object.

    Parameters
    ----------
    ious
        IoU after 1, 2 ... clicks.
    best_of_3
        IoU of the best of the three candidates at the first click.
    box_iou
        IoU from the object's box alone.
    predicted
        The model's own estimate of its IoU after 1, 2 ... clicks; empty if it has none.
    boundary_f
        Boundary F after 1, 2 ... clicks; empty if it was not measured.
    box_boundary_f
        Boundary F from the object's box alone, or None.
    off_center_ious
        IoU of single clicks that are not in the middle of the object; empty without any.
    seconds
        Duration of the 1st, 2nd ... click; empty if it was not measured.
    is_first_of_image
        Whether no tile of the image had been encoded before the first click.
    dense
        Quality of the dense guesses around the object, or None.
    """

    ious: tuple[float, ...]
    best_of_3: float
    box_iou: float
    predicted: tuple[float, ...] = ()
    boundary_f: tuple[float, ...] = ()
    box_boundary_f: float | None = None
    off_center_ious: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    is_first_of_image: bool = False
    dense: DenseResult | None = None

    def noc(self, goal: float) -> int:
        """Return the number of clicks to reach an IoU; one more than all when they do not suffice."""
        reached = [count for count, reached_iou in enumerate(self.ious, 1) if reached_iou >= goal]
        return reached[0] if reached else len(self.ious) + 1


@dataclass
class Evaluation:
    """Results of a model on a manifest, growing object by object."""

    model: str
    clicks: dict[str, list[ClickResult]] = field(default_factory=lambda: defaultdict(list))

    def table(self) -> dict[str, Any]:
        """Return the results of each subset, and their mean, as plain data that JSON can hold.

        Figures that were not measured are None, and left out of the mean.
        """
        subsets = {name: _summary(results) for name, results in sorted(self.clicks.items())}
        mean: dict[str, Any] = {}
        if subsets:
            rows = list(subsets.values())
            mean = {key: mean_of([row[key] for row in rows]) for key in rows[0] if key != "n"}
            everything = [result for results in self.clicks.values() for result in results]
            mean |= {"n": len(everything), **_seconds(everything)}
            for suffix, first_only in (("", False), ("_first", True)):
                mean[f"iou_spearman{suffix}"] = rank_correlation(everything, first_only=first_only)
                predicted, true = _estimates(everything, first_only=first_only)
                mean[f"iou_calibration_error{suffix}"] = rounded_or_none(calibration_error(predicted, true))
                mean[f"iou_bias{suffix}"] = rounded_or_none(bias(predicted, true))
        return {"model": self.model, "subsets": subsets, "mean": mean}


def iou_of(answer: NDArray[np.bool_], target: TargetObject) -> float:
    """Return the IoU of an answer, of the plane's shape, with the truth; ignored pixels are left out."""
    if target.ignored is not None:
        answer = answer & ~target.ignored
    return iou(answer, target.truth)


def rank_correlation(results: list[ClickResult], *, first_only: bool = False) -> float | None:
    """Return Spearman's correlation of predicted and true IoUs, over all clicks or the first ones; None without any."""
    predicted, true = _estimates(results, first_only=first_only)
    if len(set(predicted)) < 2 or len(set(true)) < 2:
        return None
    return float(np.round(spearmanr(predicted, true).statistic, 4))


def _estimates(results: list[ClickResult], *, first_only: bool) -> tuple[list[float], list[float]]:
    """Return predicted and true IoUs, over all clicks or the first ones, where there is a prediction."""
    last = 1 if first_only else None
    pairs = [pair for result in results for pair in list(zip(result.predicted, result.ious, strict=False))[:last]]
    known = [pair for pair in pairs if not math.isnan(pair[0])]
    return [predicted for predicted, _ in known], [true for _, true in known]


def _summary(results: list[ClickResult]) -> dict[str, Any]:
    dense = [result.dense for result in results if result.dense is not None]
    off_center = [result for result in results if result.off_center_ious]
    off_center_ious = [np.mean(result.off_center_ious) for result in off_center]
    return {
        "n": len(results),
        "miou": rounded(np.mean([result.ious for result in results], axis=0)),
        "best_of_3": rounded(np.mean([result.best_of_3 for result in results])),
        "box_miou": rounded(np.mean([result.box_iou for result in results])),
        **{f"noc{goal}": rounded(np.mean([result.noc(goal / 100) for result in results])) for goal in (80, 85, 90)},
        "predicted_miou": rounded(np.mean([result.predicted for result in results], axis=0)),
        "off_center_miou": mean_of(off_center_ious),
        "off_center_loss": mean_of(
            [result.ious[0] - iou for result, iou in zip(off_center, off_center_ious, strict=True)]
        ),
        "boundary_f": mean_of([result.boundary_f for result in results if result.boundary_f]),
        "box_boundary_f": mean_of([result.box_boundary_f for result in results]),
        **_seconds(results),
        "dense_foreground_iou": mean_of([one.foreground_iou for one in dense]),
        "dense_border_f": mean_of([one.border_f for one in dense]),
        "dense_center_error": mean_of([one.center_error for one in dense]),
    }


def _seconds(results: list[ClickResult]) -> dict[str, float | None]:
    """Return the median duration of a first click on an image, and of one after the first on an object."""
    first = [result.seconds[0] for result in results if result.is_first_of_image and result.seconds]
    later = [value for result in results for value in result.seconds[1:]]
    medians = {"seconds_first_click": first, "seconds_click": later}
    return {key: rounded(np.median(values)) if values else None for key, values in medians.items()}


def mean_of(values: Sequence[Any]) -> Any:
    """Return the mean of figures or rows of figures without those that were not measured; None without any."""
    measured = [value for value in values if value is not None]
    return rounded(np.mean(measured, axis=0)) if measured else None


def rounded_or_none(value: float | None) -> float | None:
    """Return a figure with four decimals, or None where it was not measured."""
    return None if value is None else float(rounded(value))


def rounded(value: Any) -> Any:
    """Return figures as plain numbers and lists, with four decimals."""
    return np.round(value, 4).tolist()
