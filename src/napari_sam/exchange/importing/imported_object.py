"""ImportedObject: an object of a file, as a mask in a plane."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.core.polygons import fill_polygon


@dataclass(frozen=True, slots=True)
class ImportedObject:
    """An object, or its part in one plane.

    Parameters
    ----------
    mask
        Its pixels.
    number
        Number of the object in the file, which its parts in several planes have in common; or None.
    class_name
        Its class, or None.
    plane
        Name and position of each axis that the file names; empty where it names none.
    index
        Position along the axes that are not the plane's own, or None.
    """

    mask: Mask
    number: int | None = None
    class_name: str | None = None
    plane: tuple[tuple[str, int], ...] = ()
    index: tuple[int, ...] | None = None


def mask_of_rings(rings: Iterable[NDArray[np.float64]], shape: tuple[int, int]) -> Mask | None:
    """Return the pixels whose centers lie inside an odd number of rings, so that holes stay empty.

    Parameters
    ----------
    rings
        Corners (row, col) of each, shape (n, 2), whole numbers being pixel centers.
    shape
        Of the plane.

    Returns
    -------
    Mask or None
        None where there are no such pixels in the plane.
    """
    whole = [np.asarray(ring, np.float64) for ring in rings if len(ring) >= 3]
    if not whole or not all(np.isfinite(ring).all() for ring in whole):
        return None
    low, high = np.min([ring.min(0) for ring in whole], 0), np.max([ring.max(0) for ring in whole], 0)
    limits = np.array(shape, float)
    top, left = np.clip(np.floor(low), 0, limits)
    bottom, right = np.clip(np.ceil(high) + 1, 0, limits)
    box = Box(int(top), int(left), int(bottom), int(right))
    if box.is_empty:
        return None
    filled = np.zeros(box.pixel_shape, bool)
    for ring in whole:
        filled ^= fill_polygon(ring - (box.top, box.left), box.pixel_shape)
    mask = Mask(box, filled).tightened()
    return mask if mask.area else None


def union(masks: Sequence[Mask | None]) -> Mask | None:
    """Return the pixels of any of several masks; None for none."""
    found = [mask for mask in masks if mask is not None]
    if not found:
        return None
    box = found[0].box
    for mask in found[1:]:
        box = box.union(mask.box)
    pixels = np.zeros(box.pixel_shape, bool)
    for mask in found:
        pixels |= mask.in_box(box)
    return Mask(box, pixels)
