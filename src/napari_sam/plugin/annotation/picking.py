"""Pick an existing object of a Labels layer, to correct it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.labels.regions import loaded
from napari_sam.plugin.drafts import PickedObject
from napari_sam.plugin.layers import labels as labels_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Labels

# Side of the first window that is searched for the object's border, in pixels; it doubles until the object is inside.
WINDOW = 512


def pick_object(layers: Sequence[Labels], plane: Plane, point: tuple[float, float]) -> PickedObject | None:
    """Return the object at a point of a plane, in the first of some layers that has one there; reads only its window.

    Raises
    ------
    LabelsError
        The labels cannot be read.
    """
    for layer in layers:
        labelled = _object_at(layer, plane, point)
        if labelled is not None:
            label, mask = labelled
            return PickedObject(layer, label, plane, mask, mask)
    return None


def layers_to_search(layers: Sequence[Labels], target: Labels | None, image: Image) -> list[Labels]:
    """Return the layers whose objects can be corrected: the output, then visible ones on the image, topmost first."""
    first = [] if target is None else [target]
    others = [layer for layer in reversed(layers) if layer is not target and layer.visible]
    return first + [layer for layer in others if labels_layer.fits(layer, image)]


def _object_at(layer: Labels, plane: Plane, point: tuple[float, float]) -> tuple[int, Mask] | None:
    pyramid = labels_layer.pyramid_of(layer)
    array = layer.data if pyramid is None else pyramid
    whole = Box.of_shape(plane.shape_in(tuple(array.shape)))
    row, col = (int(np.rint(at)) for at in point)
    half = WINDOW // 2
    while True:
        box = Box(row - half, col - half, row + half, col + half).intersection(whole)
        block = plane.oriented(loaded(array, plane.slicer(box)))
        label = int(block[int(row - box.top), int(col - box.left)])
        if label == 0:
            return None
        parts, _ = ndimage.label(block == label)
        part = parts == parts[int(row - box.top), int(col - box.left)]
        mask = Mask(box, part).tightened()
        if not _is_cut(mask.box, box, whole):
            return label, mask
        half *= 2


def _is_cut(mask: Box, window: Box, whole: Box) -> bool:
    """Say whether an object reaches the border of a window that is not the plane's own."""
    return (
        (mask.top == window.top > whole.top)
        or (mask.left == window.left > whole.left)
        or (mask.bottom == window.bottom < whole.bottom)
        or (mask.right == window.right < whole.right)
    )
