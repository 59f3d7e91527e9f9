"""Prompts as GeoJSON: points, boxes and polygons, in pixels or on the map.

A position is (x, y). Of an image that lies nowhere these are column and row, whole numbers being pixel centres; of one
that lies on a map they are in its own coordinate reference system.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from napari_sam.core.object_prompts import ObjectPrompts, Point, PromptBuilder
from napari_sam.crs import crs_code, crs_name, is_same_crs
from napari_sam.errors import PromptError
from napari_sam.geo import Georeference

CLASS = ("class", "class_name", "category")
OBJECT, SIGN = ("object", "object_id", "id"), ("label", "positive", "sign")
NEGATIVE = (0, -1, False, "0", "-1", "-", "negative", "false")
# How far corners, in pixels, may lie from those of an upright rectangle that is meant as a box.
UPRIGHT = 1e-6
Json = dict[str, Any]
Turn = Callable[[float, float], Point]


def parse_geojson(text: str, name: str, place: Georeference | None = None) -> list[ObjectPrompts]:
    """Read the prompts of many objects.

    Parameters
    ----------
    text
        A feature collection, a feature or a geometry: Point, MultiPoint, Polygon and MultiPolygon. The properties
        object (what belongs together; left out, every feature is one), label (0 or "negative" for points that are not
        on it) and plane count. An upright rectangle is a box, any other polygon a mask prompt; holes do not count.
    name
        Of the file, for messages.
    place
        Where the image lies, or None.

    Raises
    ------
    PromptError
        It is no GeoJSON, holds other geometries, or is in another reference system than the image.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{name} is no GeoJSON ({error}): export it again.") from error
    features = _features(data, name)
    _check_system(data, place, name)
    turn = _to_pixels(place, name)
    builders: dict[str, PromptBuilder] = {}
    names = {_name_of(feature) for feature in features}
    for number, feature in enumerate(features, start=1):
        try:
            key = _name_of(feature) or next(str(n) for n in itertools.count(number) if str(n) not in names)
            names.add(key)
            _add_feature(builders.setdefault(key, PromptBuilder(key)), feature, turn)
        except PromptError as error:
            raise PromptError(f"Feature {number} of {name} is not understood: {error}.") from error
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise PromptError(f"Feature {number} of {name} is no GeoJSON geometry: export it again.") from error
    return [builder.built() for builder in builders.values()]


def format_geojson(objects: Sequence[ObjectPrompts], place: Georeference | None = None) -> str:
    """Return the prompts of many objects as GeoJSON that `parse_geojson` reads.

    Parameters
    ----------
    objects
        In any order.
    place
        Where the image lies, or None.
    """
    turn = _from_pixels(place)
    features = [feature for one in objects for feature in _features_of(one, turn)]
    data: Json = {"type": "FeatureCollection", "features": features}
    if place is not None and place.crs is not None and place.transform is not None:
        code = crs_code(place.crs)
        # Without a code, GDAL and what is built on it read WKT in its place; nothing at all would mean WGS 84.
        name = place.crs if code is None else "urn:ogc:def:crs:{}::{}".format(*code.split(":"))
        data["crs"] = {"type": "name", "properties": {"name": name}}
    return json.dumps(data, indent=1) + "\n"


def _features(data: Any, name: str) -> list[Any]:
    kind = data.get("type") if isinstance(data, dict) else None
    if kind == "FeatureCollection" and isinstance(data.get("features"), list):
        return list(data["features"])
    if kind == "Feature":
        return [data]
    if kind in ("Point", "MultiPoint", "Polygon", "MultiPolygon"):
        return [{"type": "Feature", "properties": {}, "geometry": data}]
    raise PromptError(f"{name} holds no GeoJSON features: export points or polygons as a FeatureCollection.")


def _name_of(feature: Any) -> str | None:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    given = properties if isinstance(properties, dict) else {}
    name = next((given[key] for key in OBJECT if given.get(key) is not None), None)
    whole = isinstance(name, float) and name.is_integer()
    return None if name is None else str(int(name) if whole else name)


def _add_feature(builder: PromptBuilder, feature: Json, turn: Turn) -> None:
    properties = feature.get("properties") or {}
    sign = next((properties[key] for key in SIGN if properties.get(key) is not None), 1)
    is_positive = (sign.lower() if isinstance(sign, str) else sign) not in NEGATIVE
    geometry: Json = feature["geometry"] or {}
    kind: Any = geometry.get("type")
    at: Any = geometry.get("coordinates")
    if kind in ("Point", "MultiPoint"):
        for position in [at] if kind == "Point" else at:
            builder.add_point(_turned(position, turn), is_positive)
    elif kind in ("Polygon", "MultiPolygon"):
        if not is_positive:
            raise PromptError("a polygon cannot be negative: use points for that")
        for polygon in [at] if kind == "Polygon" else at:
            _add_polygon(builder, [_turned(position, turn) for position in polygon[0]])
    else:
        raise PromptError(f"the geometry {kind!r} is no prompt: use points or polygons")
    kind = next((properties[key] for key in CLASS if properties.get(key) is not None), "")
    builder.set_class(str(kind).strip())
    plane = properties.get("plane")
    if plane is not None:
        builder.set_plane(tuple(int(at) for at in (plane if isinstance(plane, list) else [plane])))


def _add_polygon(builder: PromptBuilder, corners: list[Point]) -> None:
    ring = corners[:-1] if len(corners) > 1 and corners[0] == corners[-1] else corners
    low, high = np.min(ring, axis=0), np.max(ring, axis=0)
    tolerance = UPRIGHT * max(1.0, *np.abs(high))
    upright = {(bool(abs(row - low[0]) <= tolerance), bool(abs(col - low[1]) <= tolerance)) for row, col in ring}
    at_edges = all(
        min(abs(value - low[axis]), abs(value - high[axis])) <= tolerance
        for corner in ring
        for axis, value in enumerate(corner)
    )
    if len(ring) == 4 and len(upright) == 4 and at_edges and builder.box is None:
        top, left, bottom, right = (_rounded(float(edge) + 0.5) for edge in (*low, *high))
        builder.set_box((top, left, bottom, right))
    else:
        builder.polygons.append(tuple(ring))


def _features_of(one: ObjectPrompts, turn: Callable[[float, float], list[float]]) -> Iterator[Json]:
    properties: Json = {"object": one.number or one.name}
    if one.class_name is not None:
        properties["class"] = one.class_name
    if one.plane is not None:
        properties["plane"] = one.plane[0] if len(one.plane) == 1 else list(one.plane)
    if one.box is not None:
        top, left, bottom, right = (edge - 0.5 for edge in one.box)
        ring = [(top, left), (top, right), (bottom, right), (bottom, left)]
        yield _feature("Polygon", [[turn(*corner) for corner in (*ring, ring[0])]], properties)
    for polygon in one.polygons:
        yield _feature("Polygon", [[turn(*corner) for corner in (*polygon, polygon[0])]], properties)
    for sign in (True, False):
        at = [turn(*point) for point, label in zip(one.points, one.labels, strict=True) if label is sign]
        if at:
            yield _feature("MultiPoint", at, {**properties, "label": "positive" if sign else "negative"})


def _feature(kind: str, coordinates: Any, properties: Json) -> Json:
    return {"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates}}


def _turned(position: Sequence[float], turn: Turn) -> Point:
    x, y = float(position[0]), float(position[1])
    if not (math.isfinite(x) and math.isfinite(y)):
        raise PromptError("a coordinate is no number: correct it")
    return turn(x, y)


def _to_pixels(place: Georeference | None, name: str) -> Turn:
    if place is None or place.transform is None:
        return lambda x, y: (y, x)
    a, b, c, d, e, f = place.transform
    area = a * e - b * d
    if area == 0:
        raise PromptError(f"The image's place on the map cannot be used for {name}: give prompts in pixels as CSV.")

    def turn(x: float, y: float) -> Point:
        # The transform is of pixel edges, and whole numbers are pixel centres here.
        col, row = (e * (x - c) - b * (y - f)) / area, (a * (y - f) - d * (x - c)) / area
        return row - 0.5, col - 0.5

    return turn


def _from_pixels(place: Georeference | None) -> Callable[[float, float], list[float]]:
    if place is None or place.transform is None:
        return lambda row, col: [col, row]
    a, b, c, d, e, f = place.transform
    return lambda row, col: [
        a * (col + 0.5) + b * (row + 0.5) + c,
        d * (col + 0.5) + e * (row + 0.5) + f,
    ]


def _check_system(data: Json, place: Georeference | None, name: str) -> None:
    """Refuse a file that says of itself that it is in another reference system than the image."""
    crs = data.get("crs")
    said = (crs.get("properties") or {}).get("name") if isinstance(crs, dict) else None
    if not isinstance(said, str):
        return
    code = crs_code(said)
    if place is None or place.crs is None or place.transform is None:
        if code is not None and code != "OGC:CRS84":
            where = "by control points alone" if place is not None and place.is_known else "on none"
            raise PromptError(f"{name} lies on a map ({said}) and the image {where}: export it in pixels of the image.")
        return
    if is_same_crs(said, place.crs) is False:
        theirs = "EPSG:4326" if code == "OGC:CRS84" else crs_name(said)
        raise PromptError(
            f"{name} is in {theirs} and the image in {crs_name(place.crs)}: export it in the image's reference system."
        )


def _rounded(value: float) -> float:
    """Return a number without what is left of turning it to the map and back."""
    near = round(value)
    return float(near) if abs(value - near) < UPRIGHT else value
