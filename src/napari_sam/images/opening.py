"""Open images of any size: find the reader of a file or store."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from napari_sam.errors import ImageError, first_line
from napari_sam.files.libraries import INSTALL, needs
from napari_sam.images.files.folders import explain_folder, is_zarr_folder
from napari_sam.images.files.inner_names import split_name
from napari_sam.images.files.local import existing
from napari_sam.images.files.unsupported_formats import is_tiff, known_format
from napari_sam.images.formats.readable import is_without_library, reader_of
from napari_sam.images.ome_zarr.reader import open_url, open_zarr
from napari_sam.images.ome_zarr.zips import check_zip
from napari_sam.images.pictures import open_picture
from napari_sam.images.rasters.gdal import RASTERIO, has_rasterio
from napari_sam.images.rasters.reader import PHOTO_SUFFIXES, RASTER_SUFFIXES, open_by_gdal
from napari_sam.images.rasters.sidecars import placed
from napari_sam.images.source import ArrayLike, ImageSource, checked
from napari_sam.images.tiff.reader import TIFF_SUFFIXES, open_tiff

__all__ = ["ArrayLike", "ImageSource", "open_image"]

KNOWN = ".tif, .png, .jpg or .zarr"
ZIPS = (".zip", ".ozx")


def open_image(image: str | Path, *, as_labels: bool = False) -> ImageSource:
    """Open an image file or store.

    Parameters
    ----------
    image
        A TIFF of any kind (pyramids, whole slides, GeoTIFF, ImageJ and OME), a folder or zip of a zarr array or an
        OME-Zarr image, an .npy file, a picture (.png, .jpg, .gif ...), with rasterio anything that GDAL reads
        (.vrt, .jp2 ...), with their libraries the files of medicine and microscopes (see `images.formats`), of which
        FILE:/NAME is one of several images; or the URL of a zarr.
    as_labels
        Whether the stored numbers are labels. Indices of a palette are then returned instead of its colors.

    Returns
    -------
    ImageSource
        The arrays of all levels. Palettes, inks, luminance and chroma are RGB, gray with an opacity is gray, images
        with an orientation are upright, and frames of an animation are the first axis. TIFFs of up to 64 MiB and
        pictures are read at once, everything else when it is sliced.

    Raises
    ------
    ImageError
        It is missing, a pipe or a device, not an image or of an unknown format, parts of it are missing, it refers to
        files outside its folder (see `docs/large_data.md`), or its levels do not belong to one image.
    """
    text = str(image)
    path, name = (Path(image), None) if "://" in text else split_name(image)
    if "://" not in text and not existing(path):
        raise ImageError(f"There is no file {path}: check the path.")
    try:
        if name is not None:
            return _open_inner(path, name)
        return open_url(text) if "://" in text else _open_path(path, as_labels=as_labels)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_reason(text if name is None else str(path), error)) from error


def _open_inner(path: Path, name: str) -> ImageSource:
    """Open an image inside a file or a folder that holds several."""
    reader = reader_of(path)
    if reader is None or reader.open is None:
        if path.is_file() and known_format(path) is not None:
            raise ValueError("its library is missing")
        if path.is_dir() and not is_zarr_folder(path):
            raise ImageError(explain_folder(path))
        raise ImageError(f"{path} holds no images with names: leave out :/{name}.")
    return reader.open(path, name)


def _open_path(path: Path, *, as_labels: bool) -> ImageSource:
    suffix = path.suffix.lower()
    reader = reader_of(path)
    if path.is_dir():
        if reader is not None and reader.open is not None:
            return reader.open(path, None)
        if not is_zarr_folder(path):
            raise ImageError(explain_folder(path))
        return open_zarr(str(path))
    if path.stat().st_size == 0:
        raise ImageError(f"{path} cannot be read as an image, since it is empty: copy it again, as a {KNOWN}.")
    if suffix in ZIPS:
        check_zip(path)
        return open_zarr(str(path))
    if is_tiff(path):
        return open_tiff(path, as_labels=as_labels)
    if suffix == ".npy":
        return checked(ImageSource((np.lib.format.open_memmap(path, mode="r"),)), path)
    if reader is not None and reader.open is not None:
        return reader.open(path, None)
    if suffix in RASTER_SUFFIXES and has_rasterio():
        return _open_raster(path)
    return placed(open_picture(path, as_labels=as_labels), path)


def _open_raster(path: Path) -> ImageSource:
    try:
        return open_by_gdal(path)
    except ImageError:
        if path.suffix.lower() in PHOTO_SUFFIXES:
            with suppress(Exception):  # Then the error of GDAL is raised.
                return open_picture(path)
        raise


def _reason(where: str, error: Exception) -> str:
    """Return the error message: the reason, and what to do."""
    first = first_line(error)
    if type(error).__name__ == "UnknownCodecError":
        return f"{where} is compressed in a way that is not known here ({first}): write it again with zstd or blosc."
    if "://" not in where:
        return _reason_of_file(Path(where), first)
    if isinstance(error, ImportError):
        return f"{where} cannot be reached without a package that is missing ({first}): install it with pip."
    if isinstance(error, FileNotFoundError):
        return f"There is no zarr at {where}: check the URL, and download files of other kinds to open them."
    return f"{where} cannot be read as an image ({first}): is it there, and can it be reached?"


def _reason_of_file(path: Path, first: str) -> str:
    is_own = path.suffix.lower() in (*TIFF_SUFFIXES, *ZIPS, ".npy")
    known = known_format(path) if path.is_file() and not is_own and is_without_library(path) else None
    install = f"{INSTALL} {RASTERIO}, or " if path.suffix.lower() in RASTER_SUFFIXES and not has_rasterio() else ""
    if known is not None:
        name, advice = known
        return f"{path} cannot be read as an image directly, since it is {name}: {install}{advice}."
    if install:
        return needs(f"The file {path}", RASTERIO)
    return f"{path} cannot be read as an image ({first}): is it complete, and a {KNOWN}?"
