"""Georeference: the position of an image on the earth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Georeference:
    """Position of the pixels of an image on the earth.

    Parameters
    ----------
    crs
        Coordinate reference system as WKT, or its code, such as "EPSG:32633", as read without rasterio; or None.
    transform
        (a, b, c, d, e, f): x = a col + b row + c and y = d col + e row + f, of pixel edges; or None.
    nodata
        The value of pixels that hold nothing, or None.
    gcps
        Ground control points, (row, col, x, y, z) each, in pixel edges and in coordinates of `crs`; or nothing.
    rpcs
        Rational polynomial coefficients of the sensor by their names in GDAL, or None.
    """

    crs: str | None
    transform: tuple[float, float, float, float, float, float] | None
    nodata: float | None = None
    gcps: tuple[tuple[float, float, float, float, float], ...] = ()
    rpcs: Mapping[str, Any] | None = None

    @property
    def is_known(self) -> bool:
        """Whether a position on the earth is known."""
        return self.transform is not None or bool(self.gcps) or self.rpcs is not None

    def transposed(self) -> Georeference:
        """Return the georeference of the same image with rows and columns exchanged."""
        turned = self.transform
        if turned is not None:
            a, b, c, d, e, f = turned
            turned = (b, a, c, e, d, f)
        gcps = tuple((col, row, *on_map) for row, col, *on_map in self.gcps)
        return Georeference(self.crs, turned, self.nodata, gcps)  # type: ignore[arg-type]

    def shifted(self, row: float, col: float) -> Georeference:
        """Return the georeference of a part that begins at an edge (row, col)."""
        moved, rpcs = self.transform, self.rpcs
        if moved is not None:
            a, b, c, d, e, f = moved
            moved = (a, b, c + a * col + b * row, d, e, f + d * col + e * row)
        if rpcs is not None:
            rpcs = {**rpcs, "line_off": rpcs["line_off"] - row, "samp_off": rpcs["samp_off"] - col}
        gcps = tuple((at - row, along - col, x, y, z) for at, along, x, y, z in self.gcps)
        return replace(self, transform=moved, gcps=gcps, rpcs=rpcs)
