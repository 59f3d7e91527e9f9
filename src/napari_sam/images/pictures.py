"""Pictures that Pillow reads: .png, .jpg and their like."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from napari_sam.errors import ImageError
from napari_sam.geo import INSTALL
from napari_sam.images.raster import RASTER_SUFFIXES
from napari_sam.images.source import Opened


def open_picture(path: Path) -> Opened:
    """Read a file that Pillow knows."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                mode = {"LA": "L", "La": "L", "RGBa": "RGB"}.get(image.mode, image.mode)
                if mode in ("P", "PA", "CMYK", "YCbCr", "HSV", "LAB"):
                    mode = "RGB"
                return Opened((np.asarray(image if mode == image.mode else image.convert(mode)),))
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{path} has more pixels than such files are read with, which is at once: save it as a tiled .tif."
        ) from error
    except UnidentifiedImageError as error:
        if path.suffix.lower() in RASTER_SUFFIXES:
            raise ImageError(f"{path} is not read without rasterio: {INSTALL}.") from error
        raise
