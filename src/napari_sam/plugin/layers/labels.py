"""Masks into napari's Labels layers, and back out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.errors import LabelsError
from napari_sam.labels.array import Edit, check_labels, highest_label, plan_edit, reverted
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.layers.adapters import same_place, shape_of
from napari_sam.plugin.layers.factory import PYRAMID

if TYPE_CHECKING:
    from napari.layers import Image, Labels


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
    if tuple(layer.data.shape) != shape_of(image):
        raise LabelsError(
            f"{layer.name!r} has shape {tuple(layer.data.shape)} and the image {shape_of(image)}: "
            "choose labels of the image's shape."
        )
    if not same_place(layer, image):
        raise LabelsError(
            f"{layer.name!r} lies elsewhere than {image.name!r}: give it the image's scale and translate."
        )


def pyramid_of(layer: Labels) -> LabelPyramid | None:
    """Return the label pyramid on disk that a layer shows, or None."""
    found = layer.metadata.get(PYRAMID)
    return found if isinstance(found, LabelPyramid) else None


def fits(layer: Labels, image: Image) -> bool:
    """Say whether masks of an image can be written into a Labels layer; see `check_target`."""
    try:
        check_target(layer, image)
    except LabelsError:
        return False
    return True


def find_highest(layer: Labels) -> int:
    """Return the largest label of a layer; reads all of it, so call it off the GUI thread."""
    return highest_label(layer.data)


def widen(layer: Labels) -> None:
    """Give a layer of a numpy array room for more labels, uint32."""
    layer.data = layer.data.astype(np.uint32)


def write(layer: Labels, plane: Plane, mask: Mask, label: int, overlap: Overlap = "keep") -> Edit:
    """Write a mask into a layer and return what that changed.

    Raises
    ------
    LabelsError
        The mask is empty, no pixel of it is free, or the label does not fit the layer's type.
    """
    edit = plan_edit(layer.data, plane, mask, label, overlap)
    _set(layer, edit, edit.written, np.full(edit.area, edit.label, edit.before.dtype))
    return edit


def replace(layer: Labels, plane: Plane, old: Mask, mask: Mask, label: int, overlap: Overlap = "keep") -> list[Edit]:
    """Write a mask in the place of an object's earlier one and return what that changed, in order.

    Raises
    ------
    LabelsError
        As in `write`; the layer is as it was.
    """
    erased = plan_edit(layer.data, plane, old, label, "overwrite")
    gone = Edit(plane, old.box, 0, old.pixels & (erased.before == label), erased.before)
    _set(layer, gone, gone.written, np.zeros(gone.area, gone.before.dtype))
    try:
        return [gone, write(layer, plane, mask, label, overlap)]
    except LabelsError:
        revert(layer, gone)
        raise


def revert(layer: Labels, edit: Edit) -> bool:
    """Put back what a write replaced, where the layer still holds its label; say whether it does anywhere."""
    changed, values = reverted(layer.data, edit)
    if not changed.any():
        return False
    _set(layer, edit, changed, values[changed])
    return True


def _set(layer: Labels, edit: Edit, where: NDArray[np.bool_], values: NDArray[Any]) -> None:
    rows, cols = np.nonzero(where)
    indices: list[NDArray[np.intp]] = [np.full(len(rows), at, np.intp) for at in edit.plane.index]
    indices[edit.plane.axes[0]] = rows + int(edit.box.top)
    indices[edit.plane.axes[1]] = cols + int(edit.box.left)
    layer.data_setitem(tuple(indices), values)
