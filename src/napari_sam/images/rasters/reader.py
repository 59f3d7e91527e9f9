"""Open rasters with GDAL, if rasterio is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.images.files.external_references import check_raster
from napari_sam.images.lazy.recoloring import Recoloring, palette, transparent_gray
from napari_sam.images.rasters.gdal import Raster, open_raster
from napari_sam.images.source import ImageSource, checked

# Endings that GDAL opens if rasterio is installed.
RASTER_SUFFIXES = {".vrt", ".jp2", ".j2k", ".img", ".asc", ".dem", ".hgt", ".ecw", ".sid", ".nc", ".hdf", ".h5"} | {
    ".bil",
    ".dat",
}
PHOTO_SUFFIXES = (".jp2", ".j2k")


def open_by_gdal(path: Path) -> ImageSource:
    """Open a raster with GDAL: in its colors, with its overviews and its georeference.

    Raises
    ------
    ImageError
        GDAL cannot read it, or it refers to files outside its folder.
    """
    check_raster(path)
    raster = open_raster(path)
    place = raster.georeference
    nodata = place.nodata if place else None
    axes = raster.axes
    if path.suffix.lower() in PHOTO_SUFFIXES and raster.levels[0].shape[2:] == (3,):
        axes = "yxs"  # JPEG 2000 often does not state that three bands are colors.
    levels: tuple[Any, ...] = raster.levels
    windows: tuple[tuple[float, float], ...] = ()
    recoloring = _recoloring(raster, nodata)
    if recoloring is not None:
        levels = tuple(recoloring(level) for level in levels)
        axes = "yxs" if recoloring.channels else "yx"
        if recoloring.dtype.kind == "f":
            nodata, windows = None, ((0.0, 1.0),) * recoloring.channels
    opened = ImageSource(
        levels,
        axes,
        windows=windows,
        nodata=nodata,
        georeference=place,
        guessed_axes=raster.guessed,
        shown_channels=_shown(raster.interpretation) if axes == "yxc" else (),
        channel_names=raster.names if axes == "yxc" else (),
    )
    return checked(opened, path)


def _recoloring(raster: Raster, nodata: float | None) -> Recoloring | None:
    """Return the conversion of palette indices, or of gray with an opacity, to colors or gray."""
    dtype = raster.levels[0].dtype
    if raster.interpretation == ("palette",) and raster.colormap and dtype.kind == "u":
        return palette(_table(raster.colormap), None if nodata is None else int(nodata))
    if raster.interpretation == ("gray", "alpha") and dtype.kind == "u" and nodata is None:
        return transparent_gray(dtype)
    return None


def _table(colormap: Mapping[int, tuple[int, ...]]) -> NDArray[np.uint8]:
    table = np.zeros((max(colormap) + 1, 3), np.uint8)
    for index, color in colormap.items():
        table[index] = color[:3]
    return table


def _shown(interpretation: tuple[str, ...]) -> tuple[int, ...]:
    """Return the red, green and blue band, in this order; empty if one of them is missing."""
    colors = ("red", "green", "blue")
    return tuple(interpretation.index(color) for color in colors) if set(colors) <= set(interpretation) else ()
