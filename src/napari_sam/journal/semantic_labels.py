"""Semantic labels: the class of each pixel, from the labels of objects and the table of their classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import LabelsError
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.journal.objects import LabelledObject
from napari_sam.journal.storage.object_table import ObjectView
from napari_sam.labels.array import check_labels
from napari_sam.labels.regions import WritableArray, loaded
from napari_sam.labels.written import written_blocks


@dataclass(frozen=True, slots=True, eq=False)
class ClassMap:
    """Which class each label belongs to.

    Parameters
    ----------
    labels
        Shape (n,), int64, ascending.
    numbers
        Shape (n,), int64: the class of each.
    others
        What becomes of labels that have no class: 0 makes them background.
    """

    labels: NDArray[np.int64]
    numbers: NDArray[np.int64]
    others: int = 0

    @classmethod
    def of(cls, objects: Iterable[LabelledObject], others: int = 0) -> ClassMap:
        """Return the classes of the objects of a journal."""
        if isinstance(objects, ObjectView):
            table = objects.class_numbers()
        else:
            pairs = sorted((o.label, o.label_class.number) for o in objects if o.label_class is not None)
            table = np.array(pairs, np.int64).reshape(-1, 2)
        return cls(table[:, 0], table[:, 1], others)

    @property
    def highest(self) -> int:
        """The highest number that comes out."""
        return max(int(self.numbers.max(initial=0)), self.others)

    def __call__(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Turn labels of any shape into the numbers of their classes; 0 stays 0."""
        values = labels.astype(np.int64)
        others = np.where(values > 0, self.others, 0)
        if len(self.labels) == 0:
            return others
        at = np.minimum(np.searchsorted(self.labels, values), len(self.labels) - 1)
        return np.where(self.labels[at] == values, self.numbers[at], others)


def update_semantic(labels: WritableArray, semantic: WritableArray, classes: ClassMap, plane: Plane, box: Box) -> None:
    """Bring the semantic labels of a box up to date, after something happened there.

    Parameters
    ----------
    labels, semantic
        Instance labels, and what is written into, of one shape.
    classes
        See `ClassMap.of`.
    plane, box
        Where.

    Raises
    ------
    LabelsError
        The shapes differ, a number does not fit, or one of them cannot be read or written to.
    """
    _check(labels, semantic, classes)
    key = plane.slicer(box)
    _put(semantic, key, classes(loaded(labels, key)))


def write_semantic(labels: WritableArray, semantic: WritableArray, classes: ClassMap) -> None:
    """Write the semantic labels of everything, chunk by chunk; of zarr, only chunks that were ever written are read.

    Parameters
    ----------
    labels
        Instance labels.
    semantic
        What is written into, of the same shape; new, or made by this before.
    classes
        See `ClassMap.of`.

    Raises
    ------
    LabelsError
        The shapes differ, a number does not fit, or one of them cannot be read or written to.
    """
    _check(labels, semantic, classes)
    for region, block in written_blocks(labels):
        _put(semantic, region, classes(block))


def _check(labels: WritableArray, semantic: WritableArray, classes: ClassMap) -> None:
    check_labels(semantic)
    if tuple(labels.shape) != tuple(semantic.shape):
        raise LabelsError(
            f"The labels have shape {tuple(labels.shape)} and the semantic ones {tuple(semantic.shape)}: make them "
            "equal."
        )
    limit = np.iinfo(dtype_of(semantic)).max
    if classes.highest > limit:
        raise LabelsError(
            f"Class {classes.highest} does not fit into {dtype_of(semantic)} labels (0 to {limit}): use a larger type."
        )


def _put(semantic: WritableArray, key: Any, values: NDArray[np.int64]) -> None:
    try:
        semantic[key] = values.astype(dtype_of(semantic))
    except LabelsError:
        raise
    except Exception as error:
        raise LabelsError(
            f"The semantic labels cannot be written ({error}): make space on the disk or check its permissions."
        ) from error
