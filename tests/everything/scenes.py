"""Images with known objects, and what a sweep over them finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_sam import Segmenter
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.sweep import Region, Sweep, propose_all
from napari_sam.testing import BlobFinder

# Sizes of the discs, and of what is searched: one level, on which a tile reads 192 x 192 pixels.
RADIUS = 14
SIZES = (26.0, 30.0)


def discs(shape: tuple[int, int], centers: Sequence[tuple[float, float]], radius: float = RADIUS) -> np.ndarray:
    """Return the labels of discs; later ones do not cover earlier ones."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for label, (row, col) in enumerate(centers, 1):
        labels[((rows - row) ** 2 + (cols - col) ** 2 <= radius**2) & (labels == 0)] = label
    return labels


def picture(labels: np.ndarray) -> np.ndarray:
    return np.where(labels > 0, 200, 20).astype(np.uint8)


def segmenter_of(pixels: np.ndarray, model: Any = None, **options: Any) -> Segmenter:
    return Segmenter(pixels, model=model or BlobFinder(), **{"contrast_limits": (0, 255), **options})


def swept(segmenter: Segmenter, shift: tuple[int, int] = (0, 0), **options: Any) -> FoundObjects:
    """Return what is found on tiles that are shifted."""
    plane = segmenter.plane()
    region = Region(Box.of_shape(plane.shape_in(segmenter.shape)))
    *_, last = propose_all(plane, Sweep(segmenter.encoder, plane, region, shift=shift, **{"sizes": SIZES, **options}))
    return last.found


def ious_of_the_best(found: FoundObjects, labels: np.ndarray) -> list[float]:
    """Return for each object of the labels the IoU of the selected mask that fits it best."""
    made = found.labels(labels.shape)
    best = []
    for label in range(1, labels.max() + 1):
        truth = labels == label
        overlapping = np.unique(made[truth])
        shares = [((made == o) & truth).sum() / ((made == o) | truth).sum() for o in overlapping if o]
        best.append(float(max(shares, default=0)))
    return best


def assert_each_is_found_once(found: FoundObjects, labels: np.ndarray, least: float = 0.85) -> None:
    """Check that what counts are the objects of the labels, each once and whole, and nothing else."""
    count = len(np.unique(labels)) - 1
    assert len(found.select()) == count
    best = ious_of_the_best(found, labels)
    assert min(best, default=1) >= least, np.round(best, 2).tolist()


def proposals_of(masks: Sequence[Mask], points: Any = None, level: int = 0) -> Proposals:
    at = [mask.box.center for mask in masks] if points is None else points
    return Proposals.of(masks, np.array(at, np.float64).reshape(-1, 2), level)
