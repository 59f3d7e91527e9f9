"""Read and write prompts as GeoJSON: points, boxes and polygons, in pixels or map coordinates.

A position is (x, y). Of an image that lies nowhere these are column and row, whole numbers being pixel centres; of one
that lies on a map they are in its own coordinate reference system.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from napari_sam.errors import PromptError
from napari_sam.exchange.named_planes import AXIS_OF
from napari_sam.exchange.object_prompts import GivenPlane, ObjectPrompts, Point, PromptBuilder, PromptBuilders
from napari_sam.exchange.reference_systems import check_system, system_of
from napari_sam.files.paths import shortened
from napari_sam.images.axes.georeference import Georeference

CLASS, QUPATH_CLASS = ("class", "class_name", "category"), "classification"
OBJECT, SIGN = ("object", "object_id", "id"), ("label", "positive", "sign")
# Keys that mean something here; the measurements that other programs add may repeat.
MEANT = {"type", "features", "geometry", "coordinates", "properties", "crs", "plane", QUPATH_CLASS}
MEANT |= {*CLASS, *OBJECT, *SIGN}
MAX_NAME = 200
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
        A feature collection, a list of features, a feature or a geometry: Point, MultiPoint, Polygon and MultiPolygon.
        Properties: object (a name that several features share, in one plane or in several; left out, every feature is
        one object), label (0 or "negative" for points that are not on it), class, or the classification of QuPath, and
        plane: a number, a list in the order of the image's axes, or an object such as {"z": 2, "t": 1} as QuPath
        writes it. An upright rectangle is a box, any other polygon a mask prompt; holes do not count.
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
        data = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{name} is no GeoJSON ({_reason(error)}): export it again.") from error
    features = features_in(data, name)
    check_system(data.get("crs") if isinstance(data, dict) else None, place, name)
    is_on_map = place is not None and place.transform is not None
    turn = _to_pixels(place, name)
    given: list[tuple[str, GivenPlane]] = []
    names: set[str | None] = set()
    for number, feature in enumerate(features, start=1):
        with _told(number, name):
            names.add(_name_of(feature))
    free = 0
    for number, feature in enumerate(features, start=1):
        with _told(number, name):
            key = _name_of(feature)
            if key is None:
                # Only upwards from the last one: to look from the beginning for each feature takes quadratic time.
                free = next(n for n in itertools.count(max(free + 1, number)) if str(n) not in names)
                key = str(free)
                names.add(key)
            given.append((key, _plane_of(feature, is_on_map=is_on_map)))
    builders = PromptBuilders(given)
    for number, (feature, one) in enumerate(zip(features, given, strict=True), start=1):
        with _told(number, name):
            _add_feature(builders.builder(*one), feature, turn)
    return builders.built()


@contextmanager
def _told(number: int, name: str) -> Iterator[None]:
    """Turn whatever a feature raises into a message that says which one it is."""
    try:
        yield
    except PromptError as error:
        raise PromptError(f"Feature {number} of {name} is not understood: {error}.") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise PromptError(f"Feature {number} of {name} is no GeoJSON geometry: export it again.") from error
    except ArithmeticError as error:
        raise PromptError(f"Feature {number} of {name} has a number that is too large: correct it.") from error


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
        system = system_of(place.crs)
        # A system without a code is written out whole: without a name other programs take it for WGS 84.
        name = place.crs if system is None else f"urn:ogc:def:crs:{system.replace(':', '::')}"
        data["crs"] = {"type": "name", "properties": {"name": name}}
    return json.dumps(data, indent=1) + "\n"


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    """Return an object, and refuse one that says something of its prompts twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next((key for key in keys if key in MEANT and keys.count(key) > 1), None)
        if twice is not None:
            raise ValueError(f"an object has the key {twice!r} twice")
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "its lists are nested too deeply"
    # Python's own message for an endless number advises to change a setting of Python.
    return "a number has too many digits" if "digits" in str(error) else shortened(str(error))


def features_in(data: Any, name: str) -> list[Any]:
    """Return the features of GeoJSON; raise PromptError where it has none."""
    kind = data.get("type") if isinstance(data, dict) else None
    if kind == "FeatureCollection" and isinstance(data.get("features"), list):
        return list(data["features"])
    if isinstance(data, list) and data and all(isinstance(one, dict) and one.get("type") == "Feature" for one in data):
        return data
    if kind == "Feature":
        return [data]
    if kind in ("Point", "MultiPoint", "Polygon", "MultiPolygon"):
        return [{"type": "Feature", "properties": {}, "geometry": data}]
    raise PromptError(f"{name} holds no GeoJSON features: export points or polygons as a FeatureCollection.")


def _name_of(feature: Any) -> str | None:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    given = properties if isinstance(properties, dict) else {}
    name = next((given[key] for key in OBJECT if given.get(key) is not None), None)
    if name is None:
        return None
    return _text(int(name) if isinstance(name, float) and name.is_integer() else name, "the object")


def _text(value: Any, kind: str) -> str:
    """Return a name that is text or a number.

    Raises
    ------
    PromptError
        It is something else, too long, or holds half a character.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise PromptError(f"{kind} is neither a number nor a name: correct it")
    text = str(value).strip()
    is_damaged = any("\ud800" <= character <= "\udfff" for character in text)
    if len(text) > MAX_NAME or is_damaged:
        raise PromptError(f"the name of {kind} is {'damaged' if is_damaged else 'too long'}: give it another one")
    return text


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
        raise PromptError(f"the geometry {shortened(repr(kind))} is no prompt: use points or polygons")
    builder.set_class(class_of(properties))


def class_of(properties: Json) -> str:
    """Return the class of a feature, or nothing.

    QuPath writes `classification`: null, a name, an object with a name or with the names of a derived class, whose
    parts it shows as "Tumor: Positive".
    """
    value = next((properties[key] for key in (*CLASS, QUPATH_CLASS) if properties.get(key) is not None), "")
    if isinstance(value, dict):
        value = value.get("names") or value.get("name") or ""
    parts = value if isinstance(value, list) else [value]
    return ": ".join(_text(part, "its class") for part in parts)


def _plane_of(feature: Json, *, is_on_map: bool) -> GivenPlane:
    """Return the plane that a feature names: QuPath names it in the geometry."""
    properties, geometry = feature.get("properties") or {}, feature["geometry"] or {}
    plane = properties.get("plane", geometry.get("plane"))
    if isinstance(plane, dict):
        unknown = next((name for name in plane if name not in AXIS_OF), None)
        if unknown is not None:
            raise PromptError(f"the plane names the axis {shortened(unknown)!r}: use z and t")
        # QuPath's c = -1 stands for all channels.
        return GivenPlane(named=tuple((name, _whole(at)) for name, at in plane.items() if at not in (None, -1)))
    if plane is not None:
        return GivenPlane(tuple(_whole(at) for at in (plane if isinstance(plane, list) else [plane])))
    if is_on_map:  # There z is a height.
        return GivenPlane()
    given = {name: properties[name] for name in ("t", "z") if properties.get(name) is not None}
    return GivenPlane(named=tuple((name, _whole(at)) for name, at in given.items()))


def _whole(value: Any) -> int:
    is_text = isinstance(value, str) and value.isascii() and value.strip().lstrip("+-").isdigit() and len(value) < 19
    if not is_text and (isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1):
        raise PromptError(f"the plane {shortened(repr(value))} is no whole number: planes count from 0")
    return int(value)


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
    x, y = position[0], position[1]
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in (x, y)):
        raise TypeError("a coordinate is no number")
    row, col = turn(float(x), float(y))
    if not (math.isfinite(row) and math.isfinite(col)):
        raise PromptError("a coordinate is no number: correct it")
    return row, col


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


def _rounded(value: float) -> float:
    """Return a number without what is left of turning it to the map and back."""
    near = round(value)
    return float(near) if abs(value - near) < UPRIGHT else value
