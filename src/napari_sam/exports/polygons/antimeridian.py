"""Cut outlines in longitude and latitude where they cross the antimeridian, as RFC 7946 says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import OutputError
from napari_sam.exports.polygons.outlines import Outline, Ring
from napari_sam.exports.polygons.shapes import outline_of
from napari_sam.files.libraries import library

CIRCLE, HALF, POLE = 360.0, 180.0, 90.0


def may_cross(points: NDArray[np.float64]) -> bool:
    """Return whether rings in longitude and latitude, one after the other, may cross the antimeridian."""
    longitudes = points[:, 0]
    return bool(np.ptp(longitudes) > HALF or np.abs(longitudes).max() > HALF)


def cut(outlines: list[Outline]) -> list[Outline]:
    """Return outlines whose longitudes are between -180 and 180, in parts on both sides of the antimeridian.

    Raises
    ------
    OutputError
        shapely is missing, or an object lies around a pole.
    """
    return [
        _cut(outline) if any(may_cross(ring) for part in outline.polygons for ring in part) else outline
        for outline in outlines
    ]


def _cut(outline: Outline) -> Outline:
    shapely = library("shapely", "shapely", "An outline across the antimeridian")
    parts: list[Any] = []
    for rings in outline.polygons:
        outer, *holes = (_unwrapped(ring, outline.label) for ring in rings)
        middle = outer[:, 0].mean()
        for hole in holes:  # Its longitudes may have begun on the other side.
            hole[:, 0] += CIRCLE * round((middle - hole[:, 0].mean()) / CIRCLE)
        shape = shapely.Polygon(outer, holes)
        first, last = (math.floor((edge + HALF) / CIRCLE) for edge in (outer[:, 0].min(), outer[:, 0].max()))
        for turn in range(first, last + 1):
            west = CIRCLE * turn - HALF
            pieces = shapely.intersection(shape, shapely.box(west, -POLE, west + CIRCLE, POLE))
            moved = shapely.transform(pieces, lambda at, turn=turn: at - (CIRCLE * turn, 0))
            parts += [piece for piece in shapely.get_parts(moved) if piece.geom_type == "Polygon"]
    return outline_of(shapely, outline.label, shapely.MultiPolygon(parts))


def _unwrapped(ring: Ring, label: int) -> Ring:
    """Return a ring whose longitudes go on beyond 180 degrees in place of a jump."""
    longitudes = np.unwrap(ring[:, 0], period=CIRCLE)
    if abs(longitudes[-1] - longitudes[0]) > HALF:
        raise OutputError(f"The object {label} lies around a pole: export the map's coordinates, with crs image.")
    return np.column_stack([longitudes, ring[:, 1]])
