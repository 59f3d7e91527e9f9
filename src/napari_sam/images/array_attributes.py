"""Attributes that describe a single zarr array: axis names, steps and origin, without OME metadata.

Written by us beside labels in a plain zarr array, and read from what zarr 3, xarray and N5 tools write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from napari_sam.geo import Georeference

NAME_KEYS = ("_ARRAY_DIMENSIONS", "axes", "dimension_names")
STEP_KEYS = ("scale", "resolution", "pixelResolution", "spacing")
ORIGIN_KEYS = ("translation", "translate", "offset")


def names_in(attributes: Mapping[str, Any], dimension_names: Sequence[Any] | None = None) -> list[str] | None:
    """Return the axis names of an array: those of zarr 3, of xarray, or of N5; None where there are none."""
    if dimension_names and all(name is not None for name in dimension_names):
        return [str(name) for name in dimension_names]
    for holder in _holders(attributes):
        for key in NAME_KEYS:
            names = holder.get(key)
            if isinstance(names, (str, list)) and all(isinstance(name, str) for name in names):
                return list(names)
    return None


def grid_in(
    attributes: Mapping[str, Any], ndim: int
) -> tuple[tuple[float, ...], tuple[float, ...], list[str | None]] | None:
    """Return the steps, the origin and the units of an array along its axes; None where no steps are given."""
    for holder in _holders(attributes):
        steps = next((found for key in STEP_KEYS if (found := _numbers(holder.get(key), ndim))), None)
        if steps is not None and all(steps):
            origin = next((found for key in ORIGIN_KEYS if (found := _numbers(holder.get(key), ndim))), None)
            units = holder.get("units")
            known = units if isinstance(units, list) and len(units) == ndim else [None] * ndim
            return steps, origin or (0.0,) * ndim, [None if unit is None else str(unit) for unit in known]
    return None


def grid_attributes(
    axes: str, scale: Sequence[float], origin: Sequence[float], units: Sequence[str | None]
) -> dict[str, Any]:
    """Return the attributes from which `names_in` and `grid_in` read the same again."""
    return {
        "axes": list(axes),
        "scale": [float(step) for step in scale],
        "translation": [float(start) for start in origin],
        "units": list(units),
    }


def map_attributes(place: Georeference) -> dict[str, Any]:
    """Return the attributes from which `map_in` reads a position on the earth again, named as rioxarray names them."""
    if place.transform is None:
        return {}
    a, b, c, d, e, f = place.transform
    return {"GeoTransform": [c, a, b, f, d, e]} | ({} if place.crs is None else {"crs_wkt": place.crs})


def map_in(attributes: Mapping[str, Any]) -> Georeference | None:
    """Return the position on the earth that an array's attributes give it, or None."""
    given, crs = attributes.get("GeoTransform"), attributes.get("crs_wkt")
    numbers = _numbers(given.split() if isinstance(given, str) else given, 6)
    if numbers is None:
        return None
    c, a, b, f, d, e = numbers
    return Georeference(crs if isinstance(crs, str) else None, (a, b, c, d, e, f))


def _holders(attributes: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    inner = attributes.get("transform")
    return [attributes, inner] if isinstance(inner, Mapping) else [attributes]


def _numbers(values: Any, ndim: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == ndim and all(map(math.isfinite, numbers)) else None
