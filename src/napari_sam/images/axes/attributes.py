"""Attributes that describe a single zarr array: axis names, steps and origin, without OME metadata.

Written by us beside labels in a plain zarr array, and read from what zarr 3, xarray and N5 tools write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from napari_sam.images.axes.georeference import Georeference

NAME_KEYS = ("_ARRAY_DIMENSIONS", "axes", "dimension_names")
STEP_KEYS = ("scale", "resolution", "pixelResolution", "spacing")
ORIGIN_KEYS = ("translation", "translate", "offset")


def names_in(attributes: Mapping[str, Any], dimension_names: Sequence[Any] | None = None) -> list[str] | None:
    """Return the axis names of an array: those of zarr 3, of xarray, or of N5; None if there are none."""
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
    """Return the steps, the origin and the units of an array along its axes; None if no steps are given."""
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
    """Return attributes that `names_in` and `grid_in` read."""
    return {
        "axes": list(axes),
        "scale": [float(step) for step in scale],
        "translation": [float(start) for start in origin],
        "units": list(units),
    }


def map_attributes(place: Georeference) -> dict[str, Any]:
    """Return attributes of a position on the earth that `map_in` reads, with the names of rioxarray."""
    attributes: dict[str, Any] = {}
    if place.transform is not None:
        a, b, c, d, e, f = place.transform
        attributes["GeoTransform"] = [c, a, b, f, d, e]
    elif place.gcps:
        attributes["gcps"] = {"type": "FeatureCollection", "features": [_feature(point) for point in place.gcps]}
    if place.rpcs is not None:
        attributes["rpcs"] = dict(place.rpcs)
    return attributes | ({"crs_wkt": place.crs} if attributes and place.crs is not None else {})


def map_in(attributes: Mapping[str, Any]) -> Georeference | None:
    """Return the position on the earth in an array's attributes, or None."""
    given, crs, rpcs = (attributes.get(key) for key in ("GeoTransform", "crs_wkt", "rpcs"))
    numbers = _numbers(given.split() if isinstance(given, str) else given, 6)
    transform = None
    if numbers is not None:
        c, a, b, f, d, e = numbers
        transform = (a, b, c, d, e, f)
    place = Georeference(
        crs if isinstance(crs, str) else None,
        transform,
        gcps=_points(attributes.get("gcps")),
        rpcs=rpcs if isinstance(rpcs, Mapping) and {"line_off", "samp_off"} <= set(rpcs) else None,
    )
    return place if place.is_known else None


def _feature(point: Sequence[float]) -> dict[str, Any]:
    row, col, *on_map = point
    return {
        "type": "Feature",
        "properties": {"row": row, "col": col},
        "geometry": {"type": "Point", "coordinates": on_map},
    }


def _points(given: Any) -> tuple[tuple[float, float, float, float, float], ...]:
    """Return ground control points from GeoJSON; none if it is damaged."""
    found = []
    try:
        for feature in given["features"]:
            at, (x, y, *height) = feature["properties"], feature["geometry"]["coordinates"]
            point = float(at["row"]), float(at["col"]), float(x), float(y), float(height[0]) if height else 0.0
            found.append(point)
    except (TypeError, ValueError, LookupError):
        return ()
    return tuple(found) if all(map(math.isfinite, (value for point in found for value in point))) else ()


def _holders(attributes: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    inner = attributes.get("transform")
    return [attributes, inner] if isinstance(inner, Mapping) else [attributes]


def _numbers(values: Any, ndim: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == ndim and all(map(math.isfinite, numbers)) else None
