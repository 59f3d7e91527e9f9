"""Opening images of any size: which arrays hold the pixels, and what the file says of them. Nothing is read here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sam.errors import ImageError
from napari_sam.geo import has_rasterio
from napari_sam.images.ome_zarr import open_url, open_zarr
from napari_sam.images.pictures import open_picture
from napari_sam.images.raster import RASTER_SUFFIXES, open_by_gdal
from napari_sam.images.sidecars import placed
from napari_sam.images.source import ArrayLike, Opened, checked
from napari_sam.images.tiff import TIFF_SUFFIXES, open_tiff

__all__ = ["ArrayLike", "Opened", "open_image"]

KNOWN = ".tif, .png, .jpg or .zarr"


def open_image(image: str | Path) -> Opened:
    """Open an image file or store.

    Parameters
    ----------
    image
        A TIFF of any kind (pyramids, whole slides, GeoTIFF, ImageJ and OME), a folder or zip of a zarr array or an
        OME-Zarr image (0.4 or 0.5), an .npy file, anything that Pillow reads (.png, .jpg ...), with rasterio anything
        that GDAL reads (.vrt, .jp2 ...); or the URL of a zarr.

    Raises
    ------
    ImageError
        There is nothing, it holds no image, or the levels of its pyramid are not those of one image.
    """
    text = str(image)
    path = Path(image)
    if "://" not in text and not path.exists():
        raise ImageError(f"There is no file {path}: check the path.")
    try:
        if "://" in text:
            return open_url(text)
        if path.is_dir() or path.suffix.lower() in (".zip", ".ozx"):
            return open_zarr(text)
        if path.suffix.lower() in TIFF_SUFFIXES:
            return open_tiff(path)
        if path.suffix.lower() == ".npy":
            return checked(Opened((np.lib.format.open_memmap(path, mode="r"),)), path)
        if path.suffix.lower() in RASTER_SUFFIXES and has_rasterio():
            return open_by_gdal(path)
        return placed(open_picture(path), path)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_reason(text, error)) from error


def _reason(where: str, error: Exception) -> str:
    """Return the sentence that tells why nothing could be opened, and what to do."""
    lines = str(error).strip().splitlines()
    first = lines[0].rstrip(".") if lines else type(error).__name__
    if type(error).__name__ == "UnknownCodecError":
        return f"{where} is compressed in a way that is not known here ({first}): write it anew with zstd or blosc."
    if "://" not in where:
        return f"{where} cannot be read as an image ({first}): is it complete, and a {KNOWN}?"
    if isinstance(error, ImportError):
        return f"{where} cannot be reached without a package that is missing ({first}): install it with pip."
    if isinstance(error, FileNotFoundError):
        return f"There is no zarr at {where}: check the URL, and download files of other kinds to open them."
    return f"{where} cannot be read as an image ({first}): is it there, and can it be reached?"
