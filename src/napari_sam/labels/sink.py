"""LabelSink: labels as a journal writes into them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.labels.edit import LabelEdit
from napari_sam.labels.regions import WritableArray


class LabelSink(Protocol):
    """Labels as a journal writes into them: a `LabelArray`, or the layer of a viewer that shows one."""

    @property
    def array(self) -> WritableArray:
        """The labels; another array after they were widened."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def next_label(self) -> int:
        """See `LabelArray.next_label`."""
        ...

    def free_labels(self, count: int) -> Sequence[int]:
        """See `LabelArray.free_labels`."""
        ...

    @property
    def is_empty(self) -> bool:
        """Whether there is no object."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other writers of the same labels out."""
        ...

    def read(self, plane: Plane, box: Box) -> NDArray[Any]:
        """Return a copy of the labels of a box, shape (rows, cols)."""
        ...

    def apply(self, edit: LabelEdit) -> None:
        """Write a planned edit, or raise LabelsError and leave the labels as they were."""
        ...

    def release(self, label: int, highest: int | None) -> None:
        """See `LabelArray.release`."""
        ...
