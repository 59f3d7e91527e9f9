"""Read polygons from GeoJSON and GeoPackage, in any coordinate reference system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.masks import Mask
from napari_sam.errors import PromptError, first_line
from napari_sam.exchange.importing.imported_object import ImportedObject, mask_of_rings, union
from napari_sam.exchange.prompts_geojson import class_of, features_in
from napari_sam.exchange.reference_systems import WGS84, system_of
from napari_sam.files.libraries import library
from napari_sam.files.paths import shortened
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.rasters.gdal import in_system

Turn = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Turns (x, y) of a file into (row, col), whole numbers being pixel centers."""
PLANE_AXES = ("z", "t")
# What QuPath and our own export in pixels call their objects; such files name no system.
IN_PIXELS = ("annotation", "detection", "cell", "tile", "tma_core")


def read_geojson(
    data: Any, path: Path, place: Georeference | None, shape: tuple[int, int]
) -> tuple[list[ImportedObject], int]:
    """Return the objects of GeoJSON in the pixels of an image, and how many features are none of its polygons.

    Coordinates are in the system that the file names; without one in that of the image, or in WGS 84 where all of them
    would miss it. For an image that lies on no map they are pixels, counted from the corner of the first one, and so
    they are in files of QuPath, unless all of them would miss the image.

    Parameters
    ----------
    data
        The content of the file.
    path
        The file, for messages.
    place
        Where the image lies, or None.
    shape
        Rows and columns of the image.

    Raises
    ------
    PromptError
        It is no GeoJSON, or its coordinates cannot be converted.
    """
    features = features_in(data, path.name)
    crs = data.get("crs") if isinstance(data, dict) else None
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    given = str(name) if name else None
    choices: list[tuple[str | None, Georeference | None]] = [(given, place)]
    if given is None and place is not None and place.transform is not None:
        is_in_pixels = any(_is_in_pixels(feature) for feature in features)
        choices = [*([(None, None)] if is_in_pixels else []), (None, place), (WGS84, place)]
    for system, lies in choices:
        turn = _turn(system, lies, path)
        found = [one for feature in features for one in _object_of(feature, turn, shape, path)]
        if found:
            break
    return found, len(features) - len(found)


def read_geopackage(path: Path, place: Georeference | None, shape: tuple[int, int]) -> tuple[list[ImportedObject], int]:
    """Return the objects of all layers of a GeoPackage or another file of vectors, as `read_geojson` does.

    Raises
    ------
    PromptError
        A library is missing, or the file cannot be read.
    """
    pyogrio, shapely = (
        library(name, name, f"The file {shortened(path)}", PromptError) for name in ("pyogrio", "shapely")
    )
    try:
        # Layers without a kind of geometry are tables.
        layers = [pyogrio.raw.read(path, layer=name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        read = [(meta, shapely.from_wkb(geometries), columns) for meta, _, geometries, columns in layers]
    except Exception as error:  # GDAL and GEOS raise kinds of their own.
        raise PromptError(f"{shortened(path)} cannot be read ({first_line(error)}): export it again.") from error
    found: list[ImportedObject] = []
    for meta, shapes, columns in read:
        turn = _turn(meta.get("crs"), place, path)
        names = [str(name) for name in meta["fields"]]
        for number, geometry in enumerate(shapes):
            row = {name: column[number] for name, column in zip(names, columns, strict=True)}
            properties = {name: value for name, value in row.items() if isinstance(value, str) and value}
            feature = {"geometry": None if geometry is None else geometry.__geo_interface__, "properties": properties}
            found += _object_of(feature, turn, shape, path)
    return found, sum(len(shapes) for _, shapes, _ in read) - len(found)


def _is_in_pixels(feature: Any) -> bool:
    properties = feature.get("properties") if isinstance(feature, Mapping) else None
    return isinstance(properties, Mapping) and properties.get("objectType") in IN_PIXELS


def _object_of(feature: Any, turn: Turn, shape: tuple[int, int], path: Path) -> Iterator[ImportedObject]:
    """Yield the object of a feature; nothing for points, lines and what lies outside the image."""
    if not isinstance(feature, Mapping) or not isinstance(feature.get("geometry"), Mapping):
        return
    geometry = feature["geometry"]
    given = feature.get("properties")
    properties = given if isinstance(given, dict) else {}
    try:
        mask = _mask_of(geometry, turn, shape)
        class_name = class_of(properties) or None
        plane = geometry.get("plane")
        named = plane if isinstance(plane, Mapping) else {}
        positions = tuple((name, int(named[name])) for name in PLANE_AXES if named.get(name) is not None)
    except PromptError as error:
        raise PromptError(f"A feature of {shortened(path)} is not understood: {error}.") from error
    except (TypeError, ValueError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise PromptError(f"A feature of {shortened(path)} is no GeoJSON geometry: export it again.") from error
    if mask is not None:
        # The parts of an object in several planes of a file of our own.
        label = properties.get("object") if _is_in_pixels(feature) else None
        yield ImportedObject(mask, label if type(label) is int else None, class_name=class_name, plane=positions)


def _mask_of(geometry: Mapping[str, Any], turn: Turn, shape: tuple[int, int]) -> Mask | None:
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        return union([_mask_of(part, turn, shape) for part in geometry["geometries"]])
    if kind not in ("Polygon", "MultiPolygon"):
        return None
    parts = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
    rings = ([turn(np.array([position[:2] for position in ring], float)) for ring in part] for part in parts)
    return union([mask_of_rings(part, shape) for part in rings])


def _turn(system: str | None, place: Georeference | None, path: Path) -> Turn:
    """Return what turns coordinates of a file into pixels.

    Raises
    ------
    PromptError
        The file lies on a map and the image on none, or the two systems cannot be converted.
    """
    if place is None or place.transform is None:
        code = None if system is None else system_of(system)
        # Programs for images name WGS 84 too, since GeoJSON knows no pixels.
        if code not in (None, WGS84):
            raise PromptError(
                f"{shortened(path)} lies on a map ({code}) and the image on none: export it in pixels of the image."
            )
        return lambda at: at[:, ::-1] - 0.5
    a, b, c, d, e, f = place.transform
    try:
        back = np.linalg.inv([[a, b], [d, e]])
    except np.linalg.LinAlgError as error:
        raise PromptError(f"The image's place on the map cannot be used for {shortened(path)}.") from error
    source = None if system is None else system_of(system) or system
    crs = place.crs

    def turn(at: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = at if source is None or crs is None else in_system(at, source, crs)
        if moved is None:
            raise PromptError(f"its coordinates cannot be converted from {source}: export it in the image's system")
        turned = (moved - (c, f)) @ back.T
        return np.asarray(turned[:, ::-1] - 0.5)

    return turn
