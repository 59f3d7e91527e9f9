"""Coordinates: convert corners in pixels into those of a map, or of longitude and latitude."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import OutputError
from napari_sam.exchange.reference_systems import WGS84
from napari_sam.exports.options import System
from napari_sam.exports.polygons.antimeridian import cut, may_cross
from napari_sam.exports.polygons.outlines import Outline, Ring
from napari_sam.exports.source import Place
from napari_sam.files.libraries import needs
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.rasters.gdal import RASTERIO, has_rasterio, in_system

# A straight edge on a map is curved in longitude and latitude. Over 64 pixels it bends by 0.01 pixels of 100 m.
LONGEST_EDGE = 64
DECIMALS_OF_DEGREES = 9


@dataclass(frozen=True, slots=True)
class Coordinates:
    """A way to state positions.

    Parameters
    ----------
    georeference
        Where the pixels lie on a map; None for positions in pixels.
    is_wgs84
        Whether positions are longitude and latitude, and not those of the map.
    """

    georeference: Georeference | None = None
    is_wgs84: bool = False

    @classmethod
    def of(cls, place: Place, wanted: System, default: System) -> Coordinates:
        """Return the coordinates that are asked for.

        Parameters
        ----------
        place
            Where the labels lie.
        wanted, default
            See `ExportOptions`; "auto" is the default of the format, or pixels for an image that lies on no map.

        Raises
        ------
        OutputError
            The image lies on no map, or not so that its pixels can be placed.
        """
        on_map = place.georeference
        if wanted == "pixels" or (wanted == "auto" and (on_map is None or not on_map.is_known)):
            return cls()
        if on_map is None or not on_map.is_known:
            raise OutputError("The image lies on no map, so its polygons have no map coordinates: leave crs out.")
        if on_map.transform is None:
            raise OutputError(
                "The image is placed by control points, between which no pixel has a sure place: warp it first, for "
                "example with gdalwarp, or export pixels, with crs pixels."
            )
        system = default if wanted == "auto" else wanted
        if on_map.crs is None:
            if wanted == "wgs84":
                raise OutputError(
                    "The image does not name its reference system, so there is no longitude and latitude: export the "
                    "map's own coordinates, with crs image."
                )
            return cls(on_map)
        return cls(on_map, system == "wgs84")

    @property
    def is_on_map(self) -> bool:
        """Whether positions are those of a map."""
        return self.georeference is not None

    def on_map(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the positions of points in pixel edges, (x, y), shape (n, 2)."""
        if self.georeference is None or self.georeference.transform is None:
            return points
        a, b, c, d, e, f = self.georeference.transform
        found = np.column_stack([a * points[:, 0] + b * points[:, 1] + c, d * points[:, 0] + e * points[:, 1] + f])
        if not self.is_wgs84 or self.georeference.crs is None:
            return found
        return _in_degrees(self.georeference.crs, found)

    def converted(self, outlines: list[Outline]) -> list[Outline]:
        """Return outlines in these coordinates; outer rings are counterclockwise with y upwards."""
        if self.georeference is None:
            return outlines
        if self.is_wgs84:
            outlines = [outline.mapped(_with_short_edges) for outline in outlines]
        rings = [ring for outline in outlines for part in outline.polygons for ring in part]
        if not rings:
            return outlines
        points = np.round(self.on_map(np.concatenate(rings)), self._decimals)
        parts = iter(np.split(points, np.cumsum([len(ring) for ring in rings])[:-1]))
        is_mirrored = self._is_mirrored

        def convert(_: Ring) -> Ring:
            ring = next(parts)
            return ring[::-1] if is_mirrored else ring

        placed = [outline.mapped(convert) for outline in outlines]
        return cut(placed) if self.is_wgs84 and may_cross(points) else placed

    @property
    def _is_mirrored(self) -> bool:
        a, b, _, d, e, _ = self._transform
        return a * e - b * d < 0

    @property
    def _transform(self) -> tuple[float, float, float, float, float, float]:
        assert self.georeference is not None
        assert self.georeference.transform is not None
        return self.georeference.transform

    @property
    def _decimals(self) -> int:
        """Decimals that state a thousandth of a pixel."""
        if self.is_wgs84:
            return DECIMALS_OF_DEGREES
        a, b, _, d, e, _ = self._transform
        smallest = min(math.hypot(a, d), math.hypot(b, e))
        return max(math.ceil(3 - math.log10(smallest)), 0) if smallest > 0 else DECIMALS_OF_DEGREES


def _in_degrees(crs: str, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return map coordinates as longitude and latitude."""
    if not has_rasterio():
        raise OutputError(needs("A file in longitude and latitude", RASTERIO, "keep those of the map, with crs image"))
    found = in_system(points, crs, WGS84) if len(points) else points
    if found is None:
        raise OutputError(
            "The map of the image cannot be converted to longitude and latitude, because it has no known place on the "
            "earth or does not reach there: keep its own coordinates, with crs image."
        )
    return found


def _with_short_edges(ring: Ring) -> Ring:
    """Return a ring with points between corners that are far from each other."""
    ends = np.roll(ring, -1, axis=0)
    counts = np.maximum(np.ceil(np.abs(ends - ring).max(axis=1) / LONGEST_EDGE).astype(int), 1)
    if (counts == 1).all():
        return ring
    edge = np.repeat(np.arange(len(ring)), counts)
    share = (np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[edge]
    return np.asarray(ring[edge] + share[:, None] * (ends - ring)[edge], np.float64)
