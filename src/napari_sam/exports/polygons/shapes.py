"""Shapes: simplify outlines without gaps between neighbors, and square them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.exports.options import ExportOptions
from napari_sam.exports.polygons.outlines import Outline, Ring
from napari_sam.files.libraries import library

# A rectangle replaces an outline if their common area is at least this share of both together.
LEAST_FIT = 0.85


def shaped(outlines: list[Outline], options: ExportOptions) -> list[Outline]:
    """Return outlines in pixels as the options want them.

    Raises
    ------
    OutputError
        shapely is needed and missing.
    """
    if not outlines or not (options.simplify or options.squared):
        return outlines
    shapely = library("shapely", "shapely", "Simplifying and squaring outlines")
    before = np.array(geometries(shapely, outlines), object)
    after = before
    if options.simplify:
        noded = np.array(geometries(shapely, with_junctions(outlines)), object)
        # The tolerance of this algorithm is the square root of the area of a triangle that may be left out.
        after = shapely.coverage_simplify(noded, options.simplify)
    if options.squared:
        after = _squared(shapely, before, after)
    return [outline_of(shapely, outline.label, shape) for outline, shape in zip(outlines, after, strict=True)]


def geometries(shapely: Any, outlines: Sequence[Outline]) -> list[Any]:
    """Return outlines as polygons of shapely, of several parts where they have them."""
    found = []
    for outline in outlines:
        parts = [shapely.Polygon(rings[0], rings[1:]) for rings in outline.polygons]
        found.append(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))
    return found


def outline_of(shapely: Any, label: int, shape: Any) -> Outline:
    """Return a polygon of shapely as an outline, with its outer rings counterclockwise."""
    parts = []
    for part in shapely.get_parts(shapely.orient_polygons(shape)):
        rings = [part.exterior, *part.interiors]
        parts.append(tuple(np.asarray(ring.coords, np.float64)[:-1] for ring in rings))
    return Outline(label, tuple(parts))


def _squared(shapely: Any, exact: NDArray[Any], outlines: NDArray[Any]) -> NDArray[Any]:
    """Return rectangles in the place of outlines that are nearly rectangular."""
    boxes = shapely.minimum_rotated_rectangle(exact)
    corners = shapely.get_coordinates(boxes).reshape(-1, 5, 2)
    sides = np.diff(corners, axis=1)[:, :2]
    width, height = np.hypot(sides[..., 0], sides[..., 1]).T
    # The box lies around the steps of an oblique edge, and the true edge goes through their middle: shrink it to the
    # area of the object, (width - 2 d) (height - 2 d).
    total = (width + height) / 2
    margin = (total - np.sqrt(np.maximum(total**2 - (width * height - shapely.area(exact)), 0))) / 2
    centers = corners[:, :4].mean(axis=1, keepdims=True)
    axes = sides / np.stack([width, height], axis=1)[..., None]
    half = np.stack([width / 2 - margin, height / 2 - margin], axis=1)
    reach = axes * half[..., None]
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    rectangles = shapely.polygons(centers + signs @ reach)
    common = shapely.area(shapely.intersection(rectangles, exact))
    fits = common >= LEAST_FIT * shapely.area(shapely.union(rectangles, exact))
    return np.where(fits, rectangles, outlines)


def with_junctions(outlines: list[Outline]) -> list[Outline]:
    """Return outlines with a point at every corner of a neighbor that lies on one of their edges.

    Without these, a neighbor's corner could move away from an edge that stays.
    """
    corners = np.unique(
        np.concatenate([ring for outline in outlines for rings in outline.polygons for ring in rings]), axis=0
    )
    by_column = corners
    by_row = corners[np.lexsort((corners[:, 0], corners[:, 1]))]
    width = float(corners.max()) + 1
    keys = by_column[:, 0] * width + by_column[:, 1], by_row[:, 1] * width + by_row[:, 0]

    def convert(ring: Ring) -> Ring:
        ends = np.roll(ring, -1, axis=0)
        pieces = []
        for axis, key in ((0, keys[0]), (1, keys[1])):
            first, last = ring[:, axis] * width + ring[:, 1 - axis], ends[:, axis] * width + ends[:, 1 - axis]
            low, high = np.minimum(first, last), np.maximum(first, last)
            pieces.append((np.searchsorted(key, low, "right"), np.searchsorted(key, high, "left")))
        is_upright = ring[:, 0] == ends[:, 0]
        begin = np.where(is_upright, pieces[0][0], pieces[1][0])
        end = np.where(is_upright, pieces[0][1], pieces[1][1])
        if not (end > begin).any():
            return ring
        parts = []
        for number, point in enumerate(ring):
            parts.append(point[None])
            between = (by_column if is_upright[number] else by_row)[begin[number] : end[number]]
            is_backwards = (ends[number] < point).any()
            parts.append(between[::-1] if is_backwards else between)
        return np.concatenate(parts)

    return [outline.mapped(convert) for outline in outlines]
