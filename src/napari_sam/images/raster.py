"""Rasters that GDAL reads, where rasterio is installed."""

from __future__ import annotations

from pathlib import Path

from napari_sam.geo import open_raster
from napari_sam.images.source import Opened, checked

# What is left to GDAL where rasterio is installed.
RASTER_SUFFIXES = {".vrt", ".jp2", ".j2k", ".img", ".asc", ".dem", ".hgt", ".ecw", ".sid", ".nc", ".hdf", ".h5"} | {
    ".bil",
    ".dat",
}


def open_by_gdal(path: Path) -> Opened:
    """Open a raster with GDAL, with its overviews and where it lies."""
    raster = open_raster(path)
    place = raster.georeference
    return checked(Opened(raster.levels, raster.axes, nodata=place.nodata if place else None, georeference=place), path)
