"""Refine: an object that stands in a Labels layer already, taken up as the prompt for a better mask of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.labels.regions import loaded
from napari_sam.plugin.layers import labels as labels_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Labels

    from napari_sam.journal.entries import Provenance

# First window that is searched for the object's border; it doubles until the object lies inside.
WINDOW = 512


@dataclass(frozen=True, slots=True, eq=False)
class PickedObject:
    """An object that the next accept replaces.

    Parameters
    ----------
    layer, label
        Where it stands.
    plane, mask
        Its pixels: those of the label that hang together with the one that was clicked.
    hint
        The mask that is a prompt as long as the user draws no box and no outline, or None.
    made
        How its mask was made, where that is known.
    """

    layer: Labels
    label: int
    plane: Plane
    mask: Mask
    hint: Mask | None = None
    made: Provenance | None = None


def pick_object(layers: Sequence[Labels], plane: Plane, point: tuple[float, float]) -> PickedObject | None:
    """Return the object at a point of a plane in the first of some layers that has one there; reads what it needs.

    Raises
    ------
    LabelsError
        The labels cannot be read.
    """
    for layer in layers:
        found = _object_at(layer, plane, point)
        if found is not None:
            return PickedObject(layer, found[0], plane, found[1], found[1])
    return None


def layers_to_search(layers: Sequence[Labels], target: Labels | None, image: Image) -> list[Labels]:
    """Return the layers whose objects can be refined: the output first, then what lies on the image, topmost first."""
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
