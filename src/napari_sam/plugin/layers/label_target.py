"""LayerTarget: a Labels layer as a journal writes into it, in any thread; what changed is drawn by `show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.images.lazy.levels import lazy_levels
from napari_sam.labels.targets import LabelTarget
from napari_sam.plugin.layers.labels import pyramid_of

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.labels.pyramid import LabelPyramid


class LayerTarget(LabelTarget):
    """Labels that a layer shows.

    napari's own ways to change a layer draw at once, and may be used by the GUI thread only: here pixels are written
    without a word to the layer, and drawn later. Nothing of it gets into napari's own undo.

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
        super().__init__(array)
        self._changed: list[tuple[Plane, Box]] = []

    @property
    def is_searched(self) -> bool:
        """Whether the highest label is known, so that a write need not look through all labels."""
        return self._highest is not None

    @property
    def is_quick(self) -> bool:
        """Whether a small write is done in no time."""
        return self.is_searched and type(self.array) is np.ndarray

    def note_highest(self, highest: int | None) -> None:
        """Take it that no label is above this one; None: that is not known any more."""
        self._highest = highest

    def note_used(self, label: int) -> None:
        """Take it that a label is in use."""
        if self._highest is not None:
            self._highest = max(self._highest, label)

    def follow(self) -> None:
        """Write into what the layer shows now, after others gave it another array."""
        if self._pyramid is None and self.layer.data is not self.array:
            self.array, self._highest, self._changed = self.layer.data, None, []
            self._levels = LabelTarget(self.array)._levels

    def put(self, plane: Plane, box: Box, values: NDArray[Any]) -> None:
        """Write the labels, shape (rows, cols), of a box; `show` draws them.

        Raises
        ------
        LabelsError
            As in `LabelTarget.put`.
        """
        super().put(plane, box, values)
        self._changed.append((plane, box))

    def show(self) -> None:
        """Draw what was written since the last time, in the GUI thread."""
        changed, self._changed = self._changed, []
        layer, array = self.layer, self.array
        if self._pyramid is not None:
            if np.dtype(layer.dtype) != np.dtype(self._pyramid.dtype):
                layer.data = lazy_levels(self._pyramid.levels)  # It was given room for more labels.
            if changed:
                layer.refresh()
        elif layer.data is not array:
            layer.data = array  # A wider copy.
        elif not all(_draw(layer, plane, box) for plane, box in changed):
            layer.refresh()


def _draw(layer: Labels, plane: Plane, box: Box) -> bool:
    """Draw a box of a numpy layer; say whether that was possible, or whether all must be drawn anew.

    napari works on all of a plane of 32-bit labels at a `refresh`: 160 ms for 4096 x 4096. What it does itself after a
    stroke of the brush is private, so whatever goes wrong with it is made good by `refresh`.
    """
    whole: Any = layer
    if type(layer.data) is not np.ndarray:
        return False
    try:
        shown = whole._slice_input
        displayed = tuple(int(axis) for axis in shown.displayed)
        if len(displayed) != 2 or layer.contour or not layer.loaded:
            return False
        point = np.asarray(whole._data_slice.point)
        hidden = [axis for axis in range(layer.ndim) if axis not in displayed]
        if set(displayed) == set(plane.axes) and any(round(point[axis]) != plane.index[axis] for axis in hidden):
            return True  # It is not in view.
        if set(displayed) != set(plane.axes):
            return False
        spans = [slice(at, at + 1) for at in plane.index]
        spans[plane.axes[0]], spans[plane.axes[1]] = box.slices
        view = tuple(spans[axis] for axis in displayed)
        image = whole._slice.image
        image.view[view] = layer.colormap._data_to_texture(image.raw[view])
        whole._accumulate_updated_slice(tuple(spans))
        whole._partial_labels_refresh()
    except Exception:
        return False
    return True
