"""Evaluate what a model finds without prompts: all objects of whole planes, beside a classical watershed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Plane
from napari_sam.evaluation.baselines import gray_plane
from napari_sam.evaluation.datasets import LabelledImage, labelled_plane
from napari_sam.evaluation.instances import (
    InstanceMatch,
    average_precision,
    f1_score,
    match_instances,
    mean_accuracy,
    panoptic_quality,
)
from napari_sam.evaluation.metrics import mean_of, rounded, rounded_or_none
from napari_sam.evaluation.watershed import watersheds
from napari_sam.segmenter import Segmenter


@dataclass
class SubsetResults:
    """Matches of the images of one data set.

    Parameters
    ----------
    matches
        Of the model, one for each image.
    watersheds
        Of the watershed, for each image one for each of its parameters.
    seconds, pixels
        Duration of finding the objects, and number of pixels, of all images together.
    """

    matches: list[InstanceMatch] = field(default_factory=list)
    watersheds: list[list[InstanceMatch]] = field(default_factory=list)
    seconds: float = 0.0
    pixels: int = 0

    @property
    def objects(self) -> int:
        """Number of labeled objects."""
        return sum(match.objects for match in self.matches)

    def row(self) -> dict[str, Any]:
        """Return the figures of the data set."""
        return {
            "images": len(self.matches),
            "objects": self.objects,
            "msa": rounded_or_none(mean_accuracy(self.matches)),
            "f1_50": rounded_or_none(f1_score(self.matches)),
            "ap50": rounded_or_none(average_precision(self.matches)),
            "pq": rounded_or_none(panoptic_quality(self.matches)),
            "seconds_per_megapixel": _per_megapixel([self]),
            "watershed": self._watershed(),
        }

    def _watershed(self) -> dict[str, float | None]:
        """Return the figures of the watershed with the parameters whose mSA on these images is best."""
        best = max(zip(*self.watersheds, strict=True), key=lambda matches: mean_accuracy(matches) or 0.0)
        return {"msa": rounded_or_none(mean_accuracy(best)), "f1_50": rounded_or_none(f1_score(best))}


@dataclass
class EverythingEvaluation:
    """Results of a model on a manifest, growing image by image."""

    model: str
    results: dict[str, SubsetResults] = field(default_factory=lambda: defaultdict(SubsetResults))

    @property
    def objects(self) -> int:
        """Number of labeled objects."""
        return sum(results.objects for results in self.results.values())

    def table(self) -> dict[str, Any]:
        """Return the figures of each subset, and their mean, as plain data that JSON can hold.

        Figures that are not defined are None, and left out of the mean.
        """
        subsets = {name: results.row() for name, results in sorted(self.results.items())}
        rows = list(subsets.values())
        mean = {
            "images": sum(row["images"] for row in rows),
            "objects": self.objects,
            **{key: mean_of([row[key] for row in rows]) for key in ("msa", "f1_50", "ap50", "pq")},
            "seconds_per_megapixel": _per_megapixel(self.results.values()),
            "watershed": {key: mean_of([row["watershed"][key] for row in rows]) for key in ("msa", "f1_50")},
        }
        return {"model": self.model, "subsets": subsets, "mean": mean}


def evaluate_everything(
    images: list[LabelledImage],
    segmenter_of: Callable[[Path], Segmenter],
    *,
    model: str,
) -> Iterator[tuple[str, EverythingEvaluation]]:
    """Find all objects of each image, and compare them with the labeled ones.

    Parameters
    ----------
    images
        The manifest, or what `drawn_images` draws from it.
    segmenter_of
        Returns a segmenter of an image file.
    model
        Name for the table.

    Yields
    ------
    subset : str
        Subset of the latest image.
    evaluation : EverythingEvaluation
        All results so far.
    """
    evaluation = EverythingEvaluation(model)
    for image in images:
        segmenter = segmenter_of(image.image)
        plane, truth, ignored = labelled_plane(image, segmenter.shape)
        match = partial(match_instances, truth=truth, ignored=ignored, is_partial=image.is_partial)
        results = evaluation.results[image.subset]
        start = perf_counter()
        labels, scores = found_labels(segmenter, plane)
        results.seconds += perf_counter() - start
        results.pixels += labels.size
        results.matches.append(match(labels, scores=scores))
        results.watersheds.append([match(labels) for labels in watersheds(gray_plane(segmenter.volume, plane))])
        yield image.subset, evaluation


def found_labels(segmenter: Segmenter, plane: Plane) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return what a segmenter finds in a plane as a label image, and the score of each label.

    Of overlapping objects the better one, which `select` names first, keeps the pixels that they share.
    """
    found = segmenter.everything(plane=plane)
    selected = found.select()
    labels = found.labels(plane.shape_in(segmenter.shape), selected)
    return labels.astype(np.int32), np.asarray(found.scores)[selected]


def _per_megapixel(results: Collection[SubsetResults]) -> float:
    pixels = sum(each.pixels for each in results)
    return float(rounded(sum(each.seconds for each in results) / pixels * 1e6))
