"""GeoPackage: outlines with their attributes on a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import OutputError, first_line
from napari_sam.exchange.reference_systems import WGS84
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.polygons.coordinates import Coordinates
from napari_sam.exports.polygons.geojson import attributes_of
from napari_sam.exports.polygons.objects import object_polygons
from napari_sam.exports.polygons.shapes import geometries
from napari_sam.exports.source import ExportSource
from napari_sam.files.libraries import library

LAYER = "objects"
# GeoPackage's own name for a plane that lies nowhere.
UNKNOWN = 'LOCAL_CS["Undefined Cartesian SRS",UNIT["metre",1]]'


class GeoPackage:
    """GeoPackage, with one layer of polygons; see `ExportFormat`."""

    name = "GeoPackage"
    suffixes = (".gpkg",)
    holds = "polygons with holes, class, scores, areas, plane"
    loses = "colors of classes"
    place = "the coordinates and the reference system of the map; longitude and latitude by `--crs wgs84`"
    library = ("pyogrio", "pyogrio")

    def refusal(self, source: ExportSource) -> str | None:
        on_map = source.place.georeference
        if on_map is None or not on_map.is_known:
            return "The image lies on no map, as a GeoPackage needs: export .geojson, in pixels."
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        shapely = library("shapely", "shapely", "A GeoPackage")
        raw = library("pyogrio.raw", "pyogrio", "A GeoPackage")
        coordinates = Coordinates.of(source.place, options.crs, "image")
        if coordinates.georeference is None:
            raise OutputError("A GeoPackage holds map coordinates and no pixels: export .geojson with crs pixels.")
        found = list(object_polygons(source, options, coordinates))
        shapes = geometries(shapely, [each.outline for each in found])
        parts = [shape if shape.geom_type == "MultiPolygon" else shapely.MultiPolygon([shape]) for shape in shapes]
        rows = [attributes_of(each, source) for each in found]
        names = list(rows[0]) if rows else ["object", "class", "area_px"]
        crs = WGS84 if coordinates.is_wgs84 else coordinates.georeference.crs or UNKNOWN
        try:
            raw.write(
                path,
                np.array(shapely.to_wkb(parts), object),
                [_column([row[name] for row in rows], name) for name in names],
                names,
                layer=LAYER,
                driver="GPKG",
                geometry_type="MultiPolygon",
                crs=crs,
            )
        except Exception as error:
            raise OutputError(f"The GeoPackage cannot be written ({first_line(error)}): export .geojson.") from error


def _column(values: list[Any], name: str) -> np.ndarray[Any, Any]:
    """Return a column of the type of its values, or of what it would hold."""
    if name == "class":
        return np.array(values, object)
    if name in ("predicted_iou", "stability") or any(isinstance(value, float) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(values, np.int64)
