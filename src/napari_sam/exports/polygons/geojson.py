"""GeoJSON: outlines for QuPath in pixels, and for maps in longitude and latitude or the image's own coordinates."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.exchange.reference_systems import system_of
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.polygons.coordinates import Coordinates
from napari_sam.exports.polygons.objects import ObjectPolygon, object_polygons
from napari_sam.exports.source import ExportSource
from napari_sam.exports.units import area_in_units

# QuPath becomes slow with more annotations, and shows detections of any number.
MAX_ANNOTATIONS = 5000
Json = dict[str, Any]


class GeoJson:
    """GeoJSON of RFC 7946; see `ExportFormat`."""

    name = "GeoJSON"
    suffixes = (".geojson",)
    holds = "polygons with holes, class, scores, plane; as QuPath reads them where the image lies on no map"
    loses = "pixels that several outlines share after simplifying"
    place = "longitude and latitude, or the coordinates of the map by `--crs image`; pixels where there is no map"
    library = None

    def refusal(self, source: ExportSource) -> str | None:
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        coordinates = Coordinates.of(source.place, options.crs, "wgs84")
        head: Json = {"type": "FeatureCollection"}
        if (named := _named_system(coordinates)) is not None:
            head["crs"] = named
        is_many = len(source.extents) > MAX_ANNOTATIONS
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write(f'{json.dumps(head, ensure_ascii=False)[:-1]}, "features": [')
            for number, found in enumerate(object_polygons(source, options, coordinates)):
                kind = "detection" if is_many else "annotation"
                feature = _on_map(found, source) if coordinates.is_on_map else _in_pixels(found, source, kind)
                file.write(",\n" if number else "\n")
                file.write(json.dumps(feature, ensure_ascii=False, allow_nan=False))
            file.write("\n]}\n")


def _named_system(coordinates: Coordinates) -> Json | None:
    """Return the member `crs`, which says that coordinates are not longitude and latitude."""
    on_map = coordinates.georeference
    if on_map is None or coordinates.is_wgs84 or on_map.crs is None:
        return None
    system = system_of(on_map.crs)
    # A system without a code is written out whole: without a name other programs take it for WGS 84.
    name = on_map.crs if system is None else f"urn:ogc:def:crs:{system.replace(':', '::')}"
    return {"type": "name", "properties": {"name": name}}


def _geometry(found: ObjectPolygon) -> Json:
    parts = [[_closed(ring) for ring in rings] for rings in found.outline.polygons]
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}


def _closed(ring: Any) -> list[list[float]]:
    whole = ring.astype(np.int64) if np.array_equal(ring, np.round(ring)) else ring
    points: list[list[float]] = whole.tolist()
    return [*points, points[0]]


def _in_pixels(found: ObjectPolygon, source: ExportSource, kind: str) -> Json:
    """Return an object as QuPath writes its own."""
    geometry = _geometry(found)
    position = found.plane.position
    if position:
        geometry["plane"] = {"c": position.get("c", -1), "z": position.get("z", 0), "t": position.get("t", 0)}
    measurements: Json = {"Area px^2": found.area}
    if (area := area_in_units(source, found.area)) is not None:
        measurements[f"Area {area.sign}^2"] = area.value
    for name, value in _scores(found):
        measurements[name] = value
    properties: Json = {"objectType": kind, "object": found.label, "name": str(found.label)}
    if found.label_class is not None:
        color = [round(255 * part) for part in found.label_class.color]
        properties["classification"] = {"name": found.label_class.name, "color": color}
    return {"type": "Feature", "geometry": geometry, "properties": {**properties, "measurements": measurements}}


def _on_map(found: ObjectPolygon, source: ExportSource) -> Json:
    """Return an object with plain properties, which become the columns of a map's table."""
    return {"type": "Feature", "geometry": _geometry(found), "properties": attributes_of(found, source)}


def attributes_of(found: ObjectPolygon, source: ExportSource) -> Json:
    """Return the properties of an object on a map by their names."""
    name = None if found.label_class is None else found.label_class.name
    attributes: Json = {"object": found.label, "class": name, "area_px": found.area}
    if (area := area_in_units(source, found.area)) is not None:
        attributes[f"area_{area.sign}2"] = area.value
    scores = dict(_scores(found))
    attributes |= {"predicted_iou": scores.get("Predicted IoU"), "stability": scores.get("Stability")}
    return attributes | found.plane.position


def _scores(found: ObjectPolygon) -> Iterator[tuple[str, float]]:
    if found.part is not None:
        scores = (found.part.iou_prediction, found.part.stability_score)
        for name, score in zip(("Predicted IoU", "Stability"), scores, strict=True):
            if math.isfinite(score):
                yield name, round(score, 6)
