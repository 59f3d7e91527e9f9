"""Units: areas and lengths of objects in the unit of the image or of its map."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_sam.exports.source import ExportSource
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.rasters.gdal import meters_per_unit

# Signs that can stand in the name of a column.
SIGNS = {
    "meter": "m",
    "centimeter": "cm",
    "millimeter": "mm",
    "micrometer": "um",
    "nanometer": "nm",
    "angstrom": "angstrom",
    "inch": "inch",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A number with its unit.

    Parameters
    ----------
    value
        The number.
    sign
        Its unit.
    """

    value: float
    sign: str


def unit_sign(source: ExportSource) -> str | None:
    """Return the sign of the unit of length, "units" where the image has pixel sizes without a unit, or None."""
    calibration = source.place.calibration
    if calibration is None or calibration.scale is None:
        return None
    return "units" if calibration.unit is None else SIGNS.get(calibration.unit, calibration.unit)


def area_in_units(source: ExportSource, pixels: int) -> Measured | None:
    """Return an area in a plane in square units: of the map in meters, else of the image; None where it is unknown."""
    on_map = source.place.georeference
    if on_map is not None and (meters := _square_meters(on_map)) is not None:
        return Measured(pixels * meters, "m")
    sign = unit_sign(source)
    if sign is None or source.scale is None:
        return None
    rows, cols = (abs(source.scale[axis]) for axis in source.plane_axes)
    return Measured(pixels * rows * cols, sign)


def _square_meters(on_map: Georeference) -> float | None:
    """Return the area of a pixel of a projected map."""
    if on_map.crs is None or on_map.transform is None or (meters := meters_per_unit(on_map.crs)) is None:
        return None
    a, b, _, d, e, _ = on_map.transform
    area = abs(a * e - b * d) * meters**2
    return area if math.isfinite(area) else None
