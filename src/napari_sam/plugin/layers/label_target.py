"""LayerTarget: a Labels layer as a journal writes into it, in any thread; what changed is drawn by `show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.images.lazy.levels import lazy_levels
from napari_sam.labels.targets import LabelTarget
from napari_sam.plugin.layers.labels import pyramid_of
from napari_sam.plugin.view.napari_private import draw_box

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
        elif not all(draw_box(layer, plane, box) for plane, box in changed):
            layer.refresh()
