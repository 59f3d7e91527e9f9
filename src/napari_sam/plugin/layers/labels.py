"""LayerLabels: a Labels layer as the target of a journal, and whether it fits the image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import LabelsError
from napari_sam.images.lazy.levels import lazy_levels
from napari_sam.labels.array import LabelArray, check_labels, highest_label
from napari_sam.labels.edit import LabelEdit
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.regions import WritableArray
from napari_sam.plugin.layers.adapters import same_place, shape_of
from napari_sam.plugin.layers.factory import PYRAMID
from napari_sam.plugin.view.napari_private import draw_box

if TYPE_CHECKING:
    from napari.layers import Image, Labels

# Key in a layer's metadata: the parent of each object that a division through time has made.


class LayerLabels:
    """Labels that a layer shows, written into by a journal in any thread.

    napari's own ways to change a layer draw at once and may be used by the GUI thread only. Here pixels are written
    without notice to the layer, and drawn by `show`. Nothing of it gets into napari's own undo.

    Parameters
    ----------
    layer
        Single-scale, or the layer of a label pyramid.
    pyramid
        The label pyramid whose layer is made later; `layer` must be set then.

    Raises
    ------
    LabelsError
        The layer cannot be written to.
    """

    layer: Labels

    def __init__(self, layer: Labels | None, pyramid: LabelPyramid | None = None) -> None:
        self._pyramid = pyramid if layer is None else pyramid_of(layer)
        if layer is not None:
            self.layer = layer
        array = self._pyramid if self._pyramid is not None or layer is None else layer.data
        assert array is not None
        self._labels = LabelArray(array)
        self._changed: list[tuple[Plane, Box]] = []

    @property
    def array(self) -> WritableArray:
        """The labels; another array after they were widened, or replaced in the layer."""
        return self._labels.array

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._labels.shape

    @property
    def next_label(self) -> int:
        """See `LabelArray.next_label`."""
        return self._labels.next_label

    def free_labels(self, count: int) -> Sequence[int]:
        """See `LabelArray.free_labels`."""
        return self._labels.free_labels(count)

    @property
    def is_empty(self) -> bool:
        """Whether there is no object."""
        return self._labels.is_empty

    @property
    def is_searched(self) -> bool:
        """See `LabelArray.is_searched`."""
        return self._labels.is_searched

    @property
    def is_quick(self) -> bool:
        """Whether a small write takes no noticeable time."""
        return self.is_searched and type(self.array) is np.ndarray

    def exclusive(self) -> AbstractContextManager[None]:
        """See `LabelArray.exclusive`."""
        return self._labels.exclusive()

    def read(self, plane: Plane, box: Box) -> NDArray[Any]:
        """See `LabelArray.read`."""
        return self._labels.read(plane, box)

    def apply(self, edit: LabelEdit) -> None:
        """Write an edit, see `LabelArray.apply`; `show` draws it."""
        self._labels.apply(edit)
        self._changed.append((edit.plane, edit.box))

    def release(self, label: int, highest: int | None) -> None:
        """See `LabelArray.release`."""
        self._labels.release(label, highest)

    def note_highest(self, highest: int | None) -> None:
        """See `LabelArray.note_highest`."""
        self._labels.note_highest(highest)

    def note_used(self, label: int) -> None:
        """See `LabelArray.note_used`."""
        self._labels.note_used(label)

    def follow(self) -> None:
        """Write into the array that the layer shows now, after others gave it another one."""
        if self._pyramid is None and self.layer.data is not self.array:
            self._labels, self._changed = LabelArray(self.layer.data), []

    def show(self) -> None:
        """Draw what was written since the last time, in the GUI thread."""
        changed, self._changed = self._changed, []
        layer, array = self.layer, self.array
        if self._pyramid is not None:
            if np.dtype(layer.dtype) != np.dtype(self._pyramid.dtype):
                layer.data = lazy_levels(self._pyramid.levels)  # The pyramid was widened.
            if changed:
                layer.refresh()
        elif layer.data is not array:
            layer.data = array  # A wider copy.
        elif not all(draw_box(layer, plane, box) for plane, box in changed):
            layer.refresh()


def check_target(layer: Labels, image: Image) -> None:
    """Refuse a Labels layer that masks of an image cannot be written into.

    Raises
    ------
    LabelsError
        It is lazy or of floats, multiscale but not ours, or has another shape or place than the image.
    """
    if pyramid_of(layer) is None:
        if layer.multiscale:
            raise LabelsError(
                f"{layer.name!r} is a multiscale layer that cannot be written to: open its file by 'Open labels ...', "
                "or choose a single-scale layer."
            )
        check_labels(layer.data)
    check_place(layer, image)


def check_place(layer: Labels, image: Image) -> None:
    """Refuse a Labels layer of another shape or place than an image.

    Raises
    ------
    LabelsError
        It has another one.
    """
    if tuple(layer.data.shape) != shape_of(image):
        raise LabelsError(
            f"{layer.name!r} has shape {tuple(layer.data.shape)} and the image {shape_of(image)}: "
            "choose labels of the image's shape."
        )
    if not same_place(layer, image):
        raise LabelsError(
            f"{layer.name!r} is not aligned with {image.name!r}: copy the image's scale and translate to it."
        )


def pyramid_of(layer: Labels) -> LabelPyramid | None:
    """Return the label pyramid on disk that a layer shows, or None."""
    found = layer.metadata.get(PYRAMID)
    return found if isinstance(found, LabelPyramid) else None


def lies_on(layer: Labels, image: Image) -> bool:
    """Return whether a Labels layer has the shape and place of an image; see `check_place`."""
    try:
        check_place(layer, image)
    except LabelsError:
        return False
    return True


def fits(layer: Labels, image: Image) -> bool:
    """Return whether masks of an image can be written into a Labels layer; see `check_target`."""
    try:
        check_target(layer, image)
    except LabelsError:
        return False
    return True


def find_highest(layer: Labels) -> int:
    """Return the largest label of a layer; reads all of it, so call it off the GUI thread."""
    return highest_label(layer.data)
