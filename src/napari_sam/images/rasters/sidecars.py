"""Georeferences in files beside an image: world files, and files of GDAL and sensors."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.rasters.gdal import read_georeference
from napari_sam.images.source import ImageSource

# Only these drivers may open the file: other formats of GDAL may refer to further files.
DRIVERS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".webp": "WEBP",
}


def has_sidecar(path: Path) -> bool:
    """Return whether a world file or a file of GDAL lies beside an image, in upper or lower case."""
    suffix = path.suffix.lower().removeprefix(".")
    world = {f"{suffix}w", "wld"} | ({f"{suffix[0]}{suffix[-1]}w"} if suffix else set())
    stem, name = path.stem.lower(), path.name.lower()
    wanted = {f"{stem}.{end}" for end in (*world, "rpb", "tab")} | {f"{stem}_rpc.txt", f"{name}.aux.xml"}
    with suppress(OSError), os.scandir(path.absolute().parent) as entries:
        return any(entry.name.lower() in wanted for entry in entries)
    return False


def place_beside(path: Path) -> Georeference | None:
    """Return the position of a picture on the earth from files beside it; None without rasterio."""
    driver = DRIVERS.get(path.suffix.lower())
    return read_georeference(path, driver) if driver is not None and has_sidecar(path) else None


def placed(opened: ImageSource, path: Path) -> ImageSource:
    """Add the position on the earth from files beside a picture, if there are any."""
    place = None if opened.georeference is not None else place_beside(path)
    if place is None:
        return opened
    nodata = place.nodata if opened.nodata is None else opened.nodata
    return replace(opened, georeference=place, nodata=nodata)
