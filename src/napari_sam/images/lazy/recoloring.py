"""Pixels stored as palette indices, inks, luminance and chroma, or with transparency, as gray or RGB when read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.images.lazy.blocks import whole_key
from napari_sam.images.lazy.levels import LazyArray
from napari_sam.images.source import ArrayLike

Conversion = Callable[[NDArray[Any]], NDArray[Any]]
# Rec. 601, the default of TIFF and JPEG: red, green and blue parts of the luminance.
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Recoloring:
    """A conversion of stored samples to gray or RGB values.

    Parameters
    ----------
    convert
        Takes a block of stored pixels, samples last where there are several, and returns gray or RGB values.
    dtype
        Of what it returns.
    samples
        Stored samples of a pixel; 0 where the stored pixels have no such axis.
    channels
        Length of the last axis of what it returns; 0 for gray without such an axis.
    """

    convert: Conversion
    dtype: np.dtype[Any]
    samples: int
    channels: int

    def __call__(self, array: Any) -> Any:
        """Return the converted array: at once if it is in memory, else when parts of it are read."""
        in_memory = isinstance(array, np.ndarray) and not isinstance(array, np.memmap)
        return self.convert(array) if in_memory else Recolored(array, self)


class Recolored:
    """An array whose pixels are converted to gray or RGB when they are read.

    Parameters
    ----------
    array
        The stored pixels, samples last where there are several.
    recoloring
        The conversion.
    """

    def __init__(self, array: ArrayLike, recoloring: Recoloring) -> None:
        self._array, self._recoloring = array, recoloring
        lead = tuple(array.shape[:-1] if recoloring.samples else array.shape)
        last = (recoloring.channels,) if recoloring.channels else ()
        self.shape: tuple[int, ...] = (*lead, *last)
        self.dtype = recoloring.dtype
        chunks = LazyArray(array).chunks
        self.chunks = None if chunks is None else (*chunks[: len(lead)], *last)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        parts = whole_key(key, len(self.shape))
        lead, last = (parts[:-1], parts[-1:]) if self._recoloring.channels else (parts, ())
        stored = (*lead, slice(None)) if self._recoloring.samples else lead
        block = self._recoloring.convert(np.asarray(self._array[stored]))
        return np.asarray(block[(..., *last)] if last else block)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[...], dtype)


def largest(dtype: Any) -> float:
    """Return the value of white, or of full opacity: that of the type, or 1 for real numbers."""
    known = np.dtype(dtype)
    return 1.0 if known.kind in "fb" else float(np.iinfo(known).max)


def palette(table: NDArray[np.uint8], nothing: int | None = None, *, has_opacity: bool = False) -> Recoloring:
    """Return the conversion of indices into a table of shape (n, 3).

    Parameters
    ----------
    table
        The colors.
    nothing
        The index of pixels that hold nothing, or None; with one, colors become float32 from 0 to 1, and NaN.
    has_opacity
        Whether an opacity of 8 bits is stored after each index.
    """
    colors: NDArray[Any] = table
    if nothing is not None and 0 <= nothing < len(table):
        colors = table.astype(np.float32) / np.float32(255)
        colors[nothing] = np.nan
    top = len(table) - 1

    def convert(stored: NDArray[Any]) -> NDArray[Any]:
        indices = stored[..., 0] if has_opacity else stored
        found = colors[np.clip(indices, 0, top).astype(np.intp)]
        return np.concatenate([found, stored[..., 1:2].astype(colors.dtype)], -1) if has_opacity else found

    return Recoloring(convert, colors.dtype, 2, 4) if has_opacity else Recoloring(convert, colors.dtype, 0, 3)


def inverted(dtype: Any, bits: int) -> Recoloring:
    """Return the conversion of gray values of which 0 is white."""
    known = np.dtype(dtype)

    def convert(values: NDArray[Any]) -> NDArray[Any]:
        return ~values if known.kind == "b" else np.asarray(known.type(2**bits - 1) - values)

    return Recoloring(convert, known, 0, 0)


def inks(dtype: Any, samples: int) -> Recoloring:
    """Return the conversion of cyan, magenta, yellow and black to RGB."""
    known, white = np.dtype(dtype), largest(dtype)

    def convert(stored: NDArray[Any]) -> NDArray[Any]:
        values = stored[..., :4].astype(np.float32)
        paper = (white - values[..., :3]) * (white - values[..., 3:]) / white
        return (paper + 0.5 if known.kind in "ui" else paper).astype(known)

    return Recoloring(convert, known, samples, 3)


def chroma(samples: int, luma: Sequence[float] = LUMA, reference: Sequence[float] | None = None) -> Recoloring:
    """Return the conversion of 8-bit luminance and chroma (YCbCr) to RGB.

    Parameters
    ----------
    samples
        Stored samples of a pixel.
    luma
        Red, green and blue parts of the luminance.
    reference
        The values of black and white of each of the three samples; full range when left out.
    """
    red, green, blue = luma
    black = np.array([0, 128, 128] if reference is None else [reference[0], reference[2], reference[4]], np.float32)
    white = np.array([255, 255, 255] if reference is None else [reference[1], reference[3], reference[5]], np.float32)
    span = np.array([255, 127, 127], np.float32) / np.maximum(white - black, 1)

    def convert(stored: NDArray[Any]) -> NDArray[Any]:
        y, cb, cr = np.moveaxis((stored[..., :3].astype(np.float32) - black) * span, -1, 0)
        r = y + (2 - 2 * red) * cr
        b = y + (2 - 2 * blue) * cb
        g = (y - red * r - blue * b) / green
        return np.clip(np.stack([r, g, b], -1) + 0.5, 0, 255).astype(np.uint8)

    return Recoloring(convert, np.dtype(np.uint8), samples, 3)


def lab(dtype: Any, samples: int, *, is_icc: bool = False) -> Recoloring:
    """Return the conversion of CIE L*a*b* to 8-bit sRGB.

    Parameters
    ----------
    dtype
        That of the stored samples, 8 or 16 bits.
    samples
        Stored samples of a pixel.
    is_icc
        Whether a* and b* are stored with an offset of half the range, as ICC profiles do, instead of signed.
    """
    kind = np.dtype(dtype)
    top, scale = (255.0, 1.0) if kind.itemsize == 1 else (65280.0 if is_icc else 65535.0, 256.0)
    signed = np.dtype(f"i{kind.itemsize}")

    def convert(stored: NDArray[Any]) -> NDArray[Any]:
        from skimage.color import lab2rgb

        light = stored[..., :1].astype(np.float64) * (100 / top)
        plane = stored[..., 1:3]
        shifted = plane.astype(np.float64) - 128 * scale if is_icc else plane.astype(signed).astype(np.float64)
        # White paper under any illuminant is white on the screen.
        colors = lab2rgb(np.concatenate([light, shifted / scale], -1), illuminant="D65")
        return np.asarray(np.clip(colors, 0, 1) * 255 + 0.5, np.uint8)

    return Recoloring(convert, np.dtype(np.uint8), samples, 3)


def transparent_gray(dtype: Any, *, white_is_zero: bool = False, is_multiplied: bool = False) -> Recoloring:
    """Return the conversion of gray with an opacity to gray over black, NaN where it is fully transparent."""
    top = largest(dtype)

    def convert(stored: NDArray[Any]) -> NDArray[Any]:
        gray, opacity = stored[..., 0].astype(np.float32), stored[..., 1].astype(np.float32) / np.float32(top)
        if white_is_zero:
            gray = np.float32(top) - gray
        return np.where(opacity > 0, gray if is_multiplied else gray * opacity, np.float32(np.nan))

    return Recoloring(convert, np.dtype(np.float32), 2, 0)


def divided(dtype: Any) -> Recoloring:
    """Return the conversion of RGBA whose colors were multiplied with the opacity to plain RGBA."""
    known, top = np.dtype(dtype), largest(dtype)

    def convert(stored: NDArray[Any]) -> NDArray[Any]:
        opacity = stored[..., 3:].astype(np.float32)
        colors = stored[..., :3].astype(np.float32) * np.float32(top) / np.where(opacity > 0, opacity, np.float32(top))
        colors = np.clip(colors + (0.5 if known.kind in "ui" else 0), 0, top).astype(known)
        return np.concatenate([colors, stored[..., 3:]], -1)

    return Recoloring(convert, known, 4, 4)


def over_black(block: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Return RGBA pixels as a viewer shows them over black, as RGB.

    Parameters
    ----------
    block
        Shape (..., 4).
    dtype
        That of the image, whose largest value is full opacity; 1 for real numbers.

    Returns
    -------
    numpy.ndarray
        Shape (..., 3); where pixels are not opaque in float32, and NaN where they are fully transparent.
    """
    opacity = block[..., 3]
    top = largest(dtype)
    if block.dtype.kind == "b" or (opacity == top).all():
        return block[..., :3]
    share = opacity[..., None].astype(np.float32) / np.float32(top)
    mixed = block[..., :3].astype(np.float32) * np.clip(share, 0, 1)
    return np.where(share > 0, mixed, np.float32(np.nan))
