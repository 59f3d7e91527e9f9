"""Figures of objects in volumes: IoU of whole objects and of single planes, ends, and confidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from napari_sam.core.masks import Mask
from napari_sam.evaluation.metrics import mean_of, rounded_or_none

# Numbers of prompted or corrected planes after which the object is measured.
PLANES = (1, 2, 3, 5)
# Distance from the accepted plane up to which single planes are measured.
NEAR = 16


@dataclass
class VolumeResult:
    """What was measured for one object.

    Parameters
    ----------
    volume_iou, volume_iou_worst
        By number of corrected planes: with the next correction on the plane that the tool names, and on the truly
        worst one.
    box_baseline, interpolation
        The same for the previous mask's box alone, and for interpolation between the planes that the tool named.
    plane_iou
        From one accepted plane: distance from it, IoU and confidence of each plane that has the object or got a mask.
    ends_missed
        By how many planes each end was missed.
    seconds, planes, encoded
        Duration of propagations without encoding, planes that were visited in them, and tiles that were encoded.
    """

    volume_iou: dict[int, float] = field(default_factory=dict)
    volume_iou_worst: dict[int, float] = field(default_factory=dict)
    box_baseline: dict[int, float] = field(default_factory=dict)
    interpolation: dict[int, float] = field(default_factory=dict)
    plane_iou: list[tuple[int, float, float]] = field(default_factory=list)
    ends_missed: tuple[int, ...] = ()
    seconds: float = 0.0
    planes: int = 0
    encoded: int = 0


@dataclass
class VolumeEvaluation:
    """Results of a model on the volumes of a manifest, growing object by object."""

    model: str
    results: dict[str, list[VolumeResult]] = field(default_factory=lambda: defaultdict(list))

    @property
    def objects(self) -> int:
        """Number of objects that were measured."""
        return sum(len(results) for results in self.results.values())

    def table(self) -> dict[str, Any]:
        """Return the figures of each subset, and their mean, as plain data that JSON can hold.

        Figures that are not defined are None, and left out of the mean.
        """
        subsets = {name: _row(results) for name, results in sorted(self.results.items())}
        rows = list(subsets.values())
        keys = [key for key in rows[0] if key != "objects"] if rows else []
        mean = {"objects": self.objects, **{key: _mean([row[key] for row in rows]) for key in keys}}
        return {"model": self.model, "subsets": subsets, "mean": mean}


def volume_iou(found: Mapping[int, Mask], truth: NDArray[np.bool_]) -> float:
    """Return the IoU of an object in a volume, of masks by plane and the truth of shape (planes, rows, cols)."""
    shared = total = 0
    for at, plane in enumerate(truth):
        mask = found.get(at)
        area = int(plane.sum())
        inside = 0 if mask is None or mask.area == 0 else int((plane[mask.box.slices] & mask.pixels).sum())
        shared += inside
        total += area + (0 if mask is None else mask.area) - inside
    return shared / total if total else 1.0


def plane_iou(mask: Mask | None, truth: NDArray[np.bool_]) -> float:
    """Return the IoU of a mask with the truth in one plane; 1 where neither has a pixel."""
    return volume_iou({} if mask is None else {0: mask}, truth[None])


def _row(results: Sequence[VolumeResult]) -> dict[str, Any]:
    planes = [each for result in results for each in result.plane_iou]
    near = [iou for distance, iou, _ in planes if abs(distance) <= NEAR]
    known = [(iou, confidence) for _, iou, confidence in planes if not np.isnan(confidence)]
    ends = [missed for result in results for missed in result.ends_missed]
    visited = sum(result.planes for result in results)
    volume = _by_planes([result.volume_iou for result in results])
    return {
        "objects": len(results),
        "volume_iou": volume,
        "volume_iou_worst": _by_planes([result.volume_iou_worst for result in results]),
        "dice_gain": rounded_or_none(_dice_gain(results)),
        "plane_iou_16": rounded_or_none(float(np.median(near)) if near else None),
        "plane_iou_by_distance": _by_distance(planes),
        "end_planes_missed": rounded_or_none(float(np.mean(ends)) if ends else None),
        "spearman": rounded_or_none(_rank_correlation(known)),
        "ms_per_plane": rounded_or_none(1000 * sum(result.seconds for result in results) / visited)
        if visited
        else None,
        "encoded_per_plane": rounded_or_none(sum(result.encoded for result in results) / visited) if visited else None,
        "box_baseline": {"volume_iou": _by_planes([result.box_baseline for result in results])},
        "interpolation": {"volume_iou": _by_planes([result.interpolation for result in results])},
    }


def _share(total: float, count: int) -> float | None:
    return rounded_or_none(total / count) if count else None


def _by_planes(figures: Sequence[Mapping[int, float]]) -> dict[str, float | None]:
    """Return the mean by number of corrected planes."""
    return {str(count): mean_of([one.get(count) for one in figures]) for count in PLANES}


def _by_distance(planes: Sequence[tuple[int, float, float]]) -> dict[str, float | None]:
    """Return the median IoU of planes at some distances from the accepted one, up to each and above the last."""
    found: dict[str, float | None] = {}
    edges = (1, 2, 4, 8, 16, 32)
    for low, high in zip((0, *edges), edges, strict=False):
        part = [iou for distance, iou, _ in planes if low < abs(distance) <= high]
        found[str(high)] = rounded_or_none(float(np.median(part)) if part else None)
    return found


def _dice_gain(results: Sequence[VolumeResult]) -> float | None:
    """Return by how much one correction on the plane that the tool names raises the Dice score of the volume."""
    gains = [_dice(result.volume_iou[2]) - _dice(result.volume_iou[1]) for result in results if 2 in result.volume_iou]
    return float(np.mean(gains)) if gains else None


def _dice(iou: float) -> float:
    return 2 * iou / (1 + iou)


def _rank_correlation(known: Sequence[tuple[float, float]]) -> float | None:
    true, predicted = ([pair[i] for pair in known] for i in (0, 1))
    if len(set(predicted)) < 2 or len(set(true)) < 2:
        return None
    return float(spearmanr(predicted, true).statistic)


def _mean(values: Sequence[Any]) -> Any:
    """Return the mean of figures, or of each figure of a dictionary."""
    if isinstance(values[0], dict):
        return {key: _mean([value[key] for value in values]) for key in values[0]}
    return mean_of(values)
