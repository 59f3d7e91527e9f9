"""Reproject coordinates between reference systems with rasterio."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import OutputError, first_line
from napari_sam.images.rasters.gdal import INSTALL, has_rasterio

WGS84 = "EPSG:4326"


def to_wgs84(crs: str, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return map coordinates as longitude and latitude.

    Parameters
    ----------
    crs
        Their reference system as WKT.
    points
        Shape (n, 2): (x, y).

    Raises
    ------
    OutputError
        rasterio is missing, or the system has no known position on the earth.
    """
    if not has_rasterio():
        raise OutputError(f"Longitude and latitude cannot be computed without rasterio: {INSTALL}, or keep the map's.")
    from rasterio.crs import CRS
    from rasterio.errors import CRSError, RasterioError
    from rasterio.warp import transform

    if not len(points):
        return points
    try:
        x, y = transform(CRS.from_wkt(crs), CRS.from_string(WGS84), points[:, 0], points[:, 1])
    except (CRSError, RasterioError) as error:
        raise OutputError(
            f"The map of the image cannot be converted to longitude and latitude ({first_line(error)}): keep its own "
            "coordinates, with crs image."
        ) from error
    found = np.column_stack([x, y])
    if not np.isfinite(found).all():
        raise OutputError(
            "The image lies outside of the area for which its map is defined, so there is no longitude and latitude: "
            "keep its own coordinates, with crs image."
        )
    return found


@lru_cache
def meters_per_unit(crs: str) -> float | None:
    """Return the length of a unit of a projected reference system; None of others, or without rasterio."""
    if not has_rasterio():
        return None
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        system = CRS.from_wkt(crs)
        return float(system.linear_units_factor[1]) if system.is_projected else None
    except CRSError:
        return None
