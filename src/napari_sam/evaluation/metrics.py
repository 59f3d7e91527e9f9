"""Figures of a model: IoU and number of clicks for each object, means for each data set."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from napari_sam.core.masks import iou
from napari_sam.evaluation.datasets import TargetObject


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
    """

    ious: tuple[float, ...]
    best_of_3: float
    box_iou: float
    predicted: tuple[float, ...] = ()

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
        """Return the results of each subset, and their mean, as plain data that JSON can hold."""
        subsets = {name: _summary(results) for name, results in sorted(self.clicks.items())}
        mean: dict[str, Any] = {}
        if subsets:
            rows = list(subsets.values())
            mean = {key: rounded(np.mean([row[key] for row in rows], axis=0)) for key in rows[0] if key != "n"}
            mean["n"] = sum(row["n"] for row in rows)
            everything = [result for results in self.clicks.values() for result in results]
            mean["iou_spearman"] = rank_correlation(everything)
            mean["iou_spearman_first"] = rank_correlation(everything, first_only=True)
        return {"model": self.model, "subsets": subsets, "mean": mean}


def iou_of(answer: NDArray[np.bool_], target: TargetObject) -> float:
    """Return the IoU of an answer, of the plane's shape, with the truth; ignored pixels are left out."""
    if target.ignored is not None:
        answer = answer & ~target.ignored
    return iou(answer, target.truth)


def rank_correlation(results: list[ClickResult], *, first_only: bool = False) -> float | None:
    """Return Spearman's correlation of predicted and true IoUs, over all clicks or the first ones; None without any."""
    last = 1 if first_only else None
    predicted = [value for result in results for value in result.predicted[:last]]
    true = [value for result in results for value in result.ious[: len(result.predicted)][:last]]
    if len(set(predicted)) < 2 or len(set(true)) < 2:
        return None
    return float(np.round(spearmanr(predicted, true).statistic, 4))


def _summary(results: list[ClickResult]) -> dict[str, Any]:
    return {
        "n": len(results),
        "miou": rounded(np.mean([result.ious for result in results], axis=0)),
        "best_of_3": rounded(np.mean([result.best_of_3 for result in results])),
        "box_miou": rounded(np.mean([result.box_iou for result in results])),
        "noc80": rounded(np.mean([result.noc(0.8) for result in results])),
        "predicted_miou": rounded(np.mean([result.predicted for result in results], axis=0)),
        "noc90": rounded(np.mean([result.noc(0.9) for result in results])),
    }


def rounded(value: Any) -> Any:
    """Return figures as plain numbers and lists, with four decimals."""
    return np.round(value, 4).tolist()
