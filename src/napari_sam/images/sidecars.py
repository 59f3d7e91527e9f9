"""Files beside an image that say where it lies: world files, and what GDAL and sensors write."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from napari_sam.geo import read_georeference
from napari_sam.images.source import Opened

# GDAL must take the file for the picture that it is: its other formats may refer to further files.
DRIVERS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".webp": "WEBP",
}
ORIENTATION = 274


def has_sidecar(path: Path) -> bool:
    """Say whether a world file or one of GDAL's own lies beside an image, in letters of either case."""
    suffix = path.suffix.lower().removeprefix(".")
    world = {f"{suffix}w", "wld"} | ({f"{suffix[0]}{suffix[-1]}w"} if suffix else set())
    stem, name = path.stem.lower(), path.name.lower()
    wanted = {f"{stem}.{end}" for end in (*world, "rpb", "tab")} | {f"{stem}_rpc.txt", f"{name}.aux.xml"}
    with suppress(OSError), os.scandir(path.absolute().parent) as entries:
        return any(entry.name.lower() in wanted for entry in entries)
    return False


def placed(opened: Opened, path: Path) -> Opened:
    """Add the position on the earth that files beside a picture give it, where rasterio is installed.

    A photograph that is turned by its EXIF orientation keeps none: world files describe it as it is stored.
    """
    driver = DRIVERS.get(path.suffix.lower())
    if driver is None or opened.georeference is not None or not has_sidecar(path) or _is_turned(path):
        return opened
    place = read_georeference(path, driver)
    if place is None:
        return opened
    axes = opened.axes or {2: "yx"}.get(len(opened.levels[0].shape))
    return replace(
        opened, axes=axes, georeference=place, nodata=place.nodata if opened.nodata is None else opened.nodata
    )


def _is_turned(path: Path) -> bool:
    from PIL import Image

    with suppress(Exception), Image.open(path) as image:
        return bool(image.getexif().get(ORIENTATION, 1) != 1)
    return False
