"""Former names of what `labels.array` defines."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.labels.array import LabelArray as LabelTarget
from napari_sam.labels.array import LabelSink as Target
from napari_sam.labels.regions import WritableArray, loaded

__all__ = ["LabelTarget", "Target"]


def exclusive(target: Target) -> AbstractContextManager[None]:
    return target.exclusive()


def is_empty(target: Target) -> bool:
    return target.is_empty


def read(array: WritableArray, plane: Plane, box: Box) -> NDArray[Any]:
    return plane.oriented(loaded(array, plane.slicer(box)))
