"""PlaneTruth: the labeled objects of a plane, what was found against them, and what a user would answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.masks import Mask, mask_of
from napari_sam.evaluation.instances import LEAST_IOU, MOST_IGNORED, InstanceMatch, best_match, match_instances
from napari_sam.everything.found import FoundObjects


@dataclass(frozen=True, eq=False)
class PlaneTruth:
    """The labeled objects of a plane.

    Parameters
    ----------
    objects
        Shape (rows, cols), int64: labels, 0 for background.
    ignored
        Shape (rows, cols), bool: pixels that do not count.
    is_partial
        Whether objects may be without a label.
    """

    objects: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    is_partial: bool

    def object(self, label: int) -> Mask:
        """Return a labeled object."""
        return mask_of(self.objects == label)

    def without(self, label: int) -> PlaneTruth:
        """Return the rest of the plane: without an object, and with its pixels ignored."""
        is_object = self.objects == label
        return replace(self, objects=np.where(is_object, 0, self.objects), ignored=self.ignored | is_object)

    def match(self, found: FoundObjects, chosen: NDArray[np.intp]) -> InstanceMatch:
        """Compare chosen proposals, the best first, with the labeled objects."""
        labels = found.labels(self.objects.shape, chosen).astype(np.int64)
        return match_instances(labels, self.objects, ignored=self.ignored, is_partial=self.is_partial)

    def answer(self, mask: Mask) -> bool | None:
        """Return whether a user accepts a proposal: its IoU with a labeled object is at least 0.5.

        None where nobody knows: most of it is ignored or, if objects may be without a label, meets no labeled one.
        """
        ignored = self.ignored[mask.box.slices][mask.pixels]
        if np.count_nonzero(ignored) > MOST_IGNORED * mask.area:
            return None
        iou, label = best_match(self.objects[mask.box.slices][mask.pixels][~ignored], self._areas)
        return None if self.is_partial and not label else iou >= LEAST_IOU

    @cached_property
    def _areas(self) -> dict[int, int]:
        values, areas = np.unique(self.objects[~self.ignored], return_counts=True)
        return dict(zip(values.tolist(), areas.tolist(), strict=True))


def large_objects(objects: NDArray[np.int64], least_area: int) -> Sequence[int]:
    """Return the labels of the objects with at least `least_area` pixels."""
    values, areas = np.unique(objects[objects != 0], return_counts=True)
    return [int(value) for value in values[areas >= least_area]]
