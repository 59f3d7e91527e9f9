"""Access private attributes of napari. Every caller works without them.

`tests/plugin/test_contracts.py` tests what is relied on, and that no other module touches a private attribute.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtWidgets import QListView, QWidget

if TYPE_CHECKING:
    from napari.layers import Labels, Layer
    from napari.viewer import Viewer

    from napari_sam.core.geometry import Box, Plane


def canvas_of(viewer: Viewer) -> QWidget | None:
    """Return the Qt widget that shows a viewer's image, or None where napari keeps it elsewhere by now."""
    qt_viewer: Any = getattr(viewer.window, "_qt_viewer", None)
    native = getattr(getattr(qt_viewer, "canvas", None), "native", None)
    return native if isinstance(native, QWidget) else None


def layer_list_of(viewer: Viewer) -> QListView | None:
    """Return the Qt view of a viewer's layer list, the last layer first; None where there is none."""
    view = getattr(getattr(viewer.window, "_qt_viewer", None), "layers", None)
    return view if isinstance(view, QListView) else None


def thick_slice_of(layer: Layer) -> NDArray[np.float64] | None:
    """Return the slice of its data that a layer shows, or None where napari does not tell.

    Rows are its middle and how far it reaches before and after it, in data coordinates; displayed axes are NaN. It is
    out of date for a moment where napari slices in a thread.
    """
    with contextlib.suppress(Exception):
        return np.asarray(layer._data_slice.as_array(), np.float64)
    return None


def draw_box(layer: Labels, plane: Plane, box: Box) -> bool:
    """Draw a box of the labels of a numpy layer after its pixels were changed in place.

    napari updates all of a plane of 32-bit labels at a `refresh`: 160 ms for 4096 x 4096. Its own way after a stroke of
    the brush is private.

    Returns
    -------
    bool
        Whether the box was drawn or is out of view; if not, the layer must be refreshed.
    """
    whole: Any = layer
    if type(layer.data) is not np.ndarray:
        return False
    try:
        displayed = tuple(int(axis) for axis in whole._slice_input.displayed)
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
