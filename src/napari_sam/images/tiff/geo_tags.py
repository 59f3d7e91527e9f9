"""Geographic tags of a GeoTIFF: read by GDAL, and by tifffile alone where rasterio is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.files.external_references import check_raster
from napari_sam.images.rasters.gdal import has_rasterio, read_georeference
from napari_sam.images.rasters.sidecars import has_sidecar

if TYPE_CHECKING:
    import tifffile

# Pixel scale, tie points, transform, keys and sensor coefficients.
PLACE_TAGS = (33550, 33922, 34264, 34735, 50844)
GDAL_NODATA = 42113
PIXEL_IS_POINT = 2
# Codes from 32767 on are those of a user, who describes the system by further keys.
EPSG_CODES = range(1024, 32767)
# The key of the system by the kind of the map: a projection, or longitude and latitude.
SYSTEM_KEYS = {1: "ProjectedCSTypeGeoKey", 2: "GeographicTypeGeoKey"}


def place_of_tiff(path: Path, file: tifffile.TiffFile) -> Georeference | None:
    """Return where a TIFF lies by its tags or the files beside it; None where they do not say.

    Without rasterio the tags of usual files are enough, and a warning says what is lost of others.

    Raises
    ------
    ImageError
        The files beside it lead out of its folder.
    """
    page = file.pages.first
    is_placed = any(code in page.tags for code in PLACE_TAGS) or has_sidecar(path)
    if not (is_placed or (has_rasterio() and has_geo_tags(page))):
        return None
    check_raster(path)
    place = None if has_rasterio() else _usual_place(file)
    return read_georeference(path, "GTiff") if place is None else place


def has_geo_tags(page: tifffile.TiffPage) -> bool:
    """Return whether a page has tags of a GeoTIFF, if only the value of pixels without data."""
    return any(code in page.tags for code in (*PLACE_TAGS, GDAL_NODATA))


def stated_nodata(file: tifffile.TiffFile) -> float | None:
    """Return the value of pixels without data, or None."""
    tag = file.pages.first.tags.get(GDAL_NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip("\x00 "))
    except ValueError:
        return None


def _usual_place(file: tifffile.TiffFile) -> Georeference | None:
    """Return the place of a usual GeoTIFF, an affine transform in a system with a code; None of any other."""
    try:
        tags: Mapping[str, Any] = file.pages.first.geotiff_tags or {}
        code = int(tags[SYSTEM_KEYS[int(tags["GTModelTypeGeoKey"])]])
        transform = _transform(tags)
    except (LookupError, TypeError, ValueError):
        return None
    if code not in EPSG_CODES or not all(map(math.isfinite, transform)):
        return None
    return Georeference(f"EPSG:{code}", transform, stated_nodata(file))


def _transform(tags: Mapping[str, Any]) -> tuple[float, float, float, float, float, float]:
    """Return the transform of pixel edges.

    Raises
    ------
    LookupError, TypeError, ValueError
        There is none.
    """
    if "ModelTransformation" in tags:
        (a, b, _, c), (d, e, _, f) = tags["ModelTransformation"][:2]
    else:
        width, height = tags["ModelPixelScale"][:2]
        # One tie point: with more of them, each holds for its surroundings.
        col, row, _, x, y, _ = map(float, tags["ModelTiepoint"])
        a, b, c, d, e, f = width, 0.0, x - col * width, 0.0, -height, y + row * height
    if int(tags.get("GTRasterTypeGeoKey", 1)) == PIXEL_IS_POINT:  # Then positions are those of centers.
        c, f = c - 0.5 * (a + b), f - 0.5 * (d + e)
    return float(a), float(b), float(c), float(d), float(e), float(f)
