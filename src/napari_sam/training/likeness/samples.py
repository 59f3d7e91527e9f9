"""PlaneSample: the described proposals of one labeled plane, and which of them outline an object of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.evaluation.datasets import LabelledImage, labelled_plane
from napari_sam.evaluation.instances import best_match
from napari_sam.everything.agreement import quality_of
from napari_sam.everything.suppression import Overlaps
from napari_sam.segmenter import Segmenter
from napari_sam.similarity.descriptors import DescriptorLayout

# Planes with more pixels are searched in part.
MOST_PIXELS, SEARCHED = 640_000, 700
# Objects are searched at sizes around the median of the labeled ones, as an example would have it.
SIZES = 1.7
LEAST_AREA = 20


@dataclass(frozen=True, slots=True, eq=False)
class PlaneSample:
    """The proposals of one plane.

    Parameters
    ----------
    subset
        The data set: its objects are of one kind.
    descriptors, quality
        Shapes (n, width) and (n, m), float16 and float32; see `DescriptorLayout` and `quality_of`.
    ious, objects
        Shape (n,): the IoU of each with the labeled object that it matches best, and the label of that.
    counts
        Shape (n,), bool: not on ignored pixels, and not where objects may be without a label.
    """

    subset: str
    descriptors: NDArray[np.float16]
    quality: NDArray[np.float32]
    ious: NDArray[np.float64]
    objects: NDArray[np.int64]
    counts: NDArray[np.bool_]

    @classmethod
    def of(cls, image: LabelledImage, segmenter: Segmenter, layout: DescriptorLayout) -> Self | None:
        """Search the plane of a labeled image; None where there is nothing to learn from it."""
        plane, truth, ignored = labelled_plane(image, segmenter.shape)
        values, sizes = np.unique(truth[truth > 0], return_counts=True)
        areas = dict(zip(values.tolist(), sizes.tolist(), strict=True))
        large = sizes[sizes > LEAST_AREA]
        if len(large) < 1:
            return None
        rows, cols = truth.shape
        side = SEARCHED if rows * cols > MOST_PIXELS else max(rows, cols)
        diameter = float(np.median(2 * np.sqrt(large / np.pi)))
        found = segmenter.everything(
            plane=plane,
            box=Box(0, 0, min(rows, side), min(cols, side)),
            sizes=(diameter / SIZES, diameter * SIZES),
        ).proposals
        if len(found) < 2:
            return None
        under = [truth[found.box(i).slices][found.pixels(i)] for i in range(len(found))]
        matches = [best_match(labels, areas) for labels in under]
        ious, objects = np.array([iou for iou, _ in matches]), np.array([label for _, label in matches], np.int64)
        counts = np.ones(len(found), bool) if not image.is_partial else ious > 0
        if ignored is not None:
            counts &= [ignored[found.box(i).slices][found.pixels(i)].mean() < 0.5 for i in range(len(found))]
        quality = quality_of(found, layout, Overlaps.of(found))
        return cls(image.subset, found.descriptors, quality, ious, objects, counts)

    def save(self, path: Path) -> None:
        """Write the sample to a file."""
        np.savez(path, **{name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a sample from a file of `save`."""
        with np.load(path) as file:
            return cls(str(file["subset"]), *(file[name] for name in cls.__slots__[1:]))
