"""Meaning of the samples of a TIFF (palette, inks, chroma, opacity, white at 0), and its orientation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.images.lazy.orientation import ORIENTATION
from napari_sam.images.lazy.recoloring import (
    LUMA,
    Recoloring,
    chroma,
    divided,
    inks,
    inverted,
    lab,
    palette,
    transparent_gray,
)

if TYPE_CHECKING:
    import tifffile

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
ASSOCIATED, UNASSOCIATED = 1, 2
INK_SET, YCBCR_COEFFICIENTS, REFERENCE_BLACK_WHITE = 332, 529, 532
CMYK = 1
GDAL_METADATA = 42112
COLOR_ROLE = re.compile(r'<Item name="COLORINTERP" sample="(\d{1,5})" role="colorinterp">(\w+)</Item>')
# JPEG in its variants, which are decoded to RGB.
JPEGS = (6, 7, 33007)


def has_separate_chroma(page: tifffile.TiffPage) -> bool:
    """Return whether chroma has fewer samples than luminance without being JPEG, which tifffile does not decode."""
    subsampling = page.subsampling if page.photometric == YCBCR else None
    return subsampling not in (None, (1, 1)) and page.compression not in JPEGS


def recoloring_of(page: tifffile.TiffPage, samples: int, nodata: float | None) -> Recoloring | None:
    """Return the conversion of stored pixels to gray or RGB; None if they are that already, or channels.

    Parameters
    ----------
    page
        A page of the image.
    samples
        Length of the axis of samples; 0 where there is none.
    nodata
        The value of pixels that hold nothing, or None.
    """
    dtype, kind = page.dtype, page.photometric
    if dtype is None:
        return None
    opacity = _opacity(page)
    if kind == PALETTE and page.colormap is not None:
        if samples == 2 and opacity and dtype == np.uint8:
            return palette(_table(page.colormap), has_opacity=True)
        return palette(_table(page.colormap), None if nodata is None else int(nodata)) if samples < 2 else None
    if kind in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        if samples == 2 and opacity:
            return transparent_gray(dtype, white_is_zero=kind == WHITE_IS_ZERO, is_multiplied=opacity == ASSOCIATED)
        is_whole = kind == WHITE_IS_ZERO and dtype.kind in "bu" and nodata is None
        # tifffile writes bits with True as black, and reads them as True.
        is_misnamed = dtype.kind == "b" and page.software.startswith("tifffile")
        return inverted(dtype, page.bitspersample) if is_whole and not is_misnamed else None
    if kind == RGB and samples == 4 and opacity == ASSOCIATED and nodata is None:
        return divided(dtype)
    if kind == SEPARATED and samples >= 4 and _tag(page, INK_SET, CMYK) == CMYK and dtype.kind in "uf":
        return inks(dtype, samples)
    if kind == YCBCR and samples >= 3 and page.compression not in JPEGS and dtype == np.uint8:
        return chroma(samples, _ratios(page, YCBCR_COEFFICIENTS, 3) or LUMA, _ratios(page, REFERENCE_BLACK_WHITE, 6))
    if kind in (CIELAB, ICCLAB) and samples >= 3 and dtype.kind in "ui" and dtype.itemsize <= 2:
        return lab(dtype, samples, is_icc=kind == ICCLAB)
    return None


def is_colored(page: tifffile.TiffPage, samples: int) -> bool:
    """Return whether three stored samples are red, green and blue, and a fourth one is their opacity."""
    if page.photometric not in (RGB, YCBCR):
        return False
    # A fourth sample is opacity if its meaning is not stated, as by old programs; otherwise it may be infrared.
    return samples == 3 or (samples == 4 and (not page.extrasamples or bool(_opacity(page))))


def orientation_of(file: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    """Return the orientation of the pixels, 1 (upright) to 8; 1 for formats whose programs ignore the tag."""
    is_microscope = file.is_ome or file.is_imagej or file.is_stk or file.is_lsm or file.is_micromanager
    stated = _tag(page, ORIENTATION, 1)
    return 1 if is_microscope or not isinstance(stated, int) else int(stated)


def channels_shown(page: tifffile.TiffPage) -> tuple[int, ...]:
    """Return the channels that GDAL names red, green and blue, in this order; empty if one is not named."""
    found = {name.lower(): int(sample) for sample, name in COLOR_ROLE.findall(str(_tag(page, GDAL_METADATA, "")))}
    shown = tuple(found[name] for name in ("red", "green", "blue") if name in found)
    return shown if len(shown) == 3 and max(shown) < page.samplesperpixel else ()


def _opacity(page: tifffile.TiffPage) -> int:
    """Return the kind of opacity of the last sample; 0 for none."""
    last = int(page.extrasamples[-1]) if page.extrasamples else 0
    return last if last in (ASSOCIATED, UNASSOCIATED) and len(page.extrasamples) == 1 else 0


def _table(colormap: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the colors of a palette, shape (n, 3); of 16 bits, as TIFF demands, or wrongly of 8."""
    shift = 8 if colormap.max(initial=0) > 255 else 0
    return np.ascontiguousarray((colormap >> shift).T.astype(np.uint8))


def _tag(page: tifffile.TiffPage, code: int, default: Any) -> Any:
    tag = page.tags.get(code)
    return default if tag is None else tag.value


def _ratios(page: tifffile.TiffPage, code: int, count: int) -> list[float] | None:
    """Return a tag of rational numbers, or None if it is missing or damaged."""
    values = _tag(page, code, ())
    if not isinstance(values, tuple) or len(values) not in (count, 2 * count):
        return None
    numbers = np.asarray(values, np.float64)
    if len(values) == 2 * count:
        numbers = np.divide(numbers[::2], numbers[1::2], out=np.zeros(count), where=numbers[1::2] != 0)
    return [float(number) for number in numbers] if count == 6 or (numbers > 0).all() else None
