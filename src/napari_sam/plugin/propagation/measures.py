"""Measures of objects in a stack: number of planes, pixels, and their volume in the units of the image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_sam.plugin.layers import adapters

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.plugin.propagation.object_planes import ObjectPlanes
    from napari_sam.plugin.propagation.plane_choice import FollowedAxis

SIGNS = {"millimeter": "mm", "micrometer": "µm", "nanometer": "nm", "centimeter": "cm", "meter": "m", "angstrom": "Å"}
# A cube of so many of a unit has a side of ten: volumes of organs are told in cubic centimeters.
CUBIC_CENTIMETER = 1000.0


def measures_text(planes: ObjectPlanes, image: Image, axis: FollowedAxis) -> str:
    """Return the number of planes, of pixels, and the volume of an object, in one line."""
    count = len(planes.states)
    if axis.is_time:
        return f"Label {planes.label}: {count} frame{'s' if count != 1 else ''}, {_number(planes.area)} pixels"
    volume = volume_text(planes, image, axis)
    text = f"Label {planes.label}: {count} plane{'s' if count != 1 else ''}, {_number(planes.area)} voxels"
    return text if volume is None else f"{text}, {volume}"


def volume_text(planes: ObjectPlanes, image: Image, axis: FollowedAxis) -> str | None:
    """Return the volume in the units of the image, or None where it has none or several."""
    axes = (axis.number, *planes.stack.plane.axes)
    units = {str(image.units[at]) for at in axes}
    sign = SIGNS.get(units.pop()) if len(units) == 1 else None
    if sign is None:
        return None
    steps, _ = adapters.grid_of(image)
    volume = planes.area * math.prod(abs(steps[at]) for at in axes)
    if sign == "mm" and volume >= CUBIC_CENTIMETER:
        volume, sign = volume / CUBIC_CENTIMETER, "cm"
    return f"{_short(volume)} {sign}³"


def _number(value: int) -> str:
    """Return a whole number with narrow spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def _short(value: float) -> str:
    """Return a number with three digits that count, written out."""
    if value == 0 or not math.isfinite(value):
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return _number(round(value)) if digits == 0 else f"{value:.{digits}f}"
