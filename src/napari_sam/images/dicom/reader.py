"""Open a DICOM file, or a folder with a series of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.images.axes.anatomy import Anatomy
from napari_sam.images.dicom.frames import FrameArray
from napari_sam.images.dicom.headers import (
    directions_of,
    numbers_in,
    pixel_spacing,
    plane_distance,
    value_scale,
    window_of,
)
from napari_sam.images.dicom.series import OrderedFrames, frames_in_order
from napari_sam.images.lazy.blocks import whole_key
from napari_sam.images.lazy.recoloring import Recoloring, palette
from napari_sam.images.lazy.rescaling import rescaled
from napari_sam.images.source import ImageSource, checked


def open_dicom(path: Path, wanted: str | None = None) -> ImageSource:
    """Open a DICOM file with all its frames, or the series in a folder.

    Values are rescaled (Hounsfield units), gray of which 0 is white is inverted, and the first window of the file is
    the contrast.

    Parameters
    ----------
    path
        A file or a folder.
    wanted
        Number or UID of the series, where a folder holds several.

    Raises
    ------
    ImageError
        It is damaged, holds no image or several, or planes are missing.
    """
    header, files, order = frames_in_order(path, wanted)
    samples = int(header.get("SamplesPerPixel", 1))
    side = (int(header.Rows), int(header.Columns), *((samples,) if samples > 1 else ()))
    stored = FrameArray(order.frames, side, _dtype_of(path, header))
    array, window = _values(header, stored)
    letters, key = _letters(header, order)
    inside = "yxs" if len(array.shape) > 4 else "yx"
    opened = ImageSource((_Part(array, key),), letters + inside, windows=(window,) if inside == "yx" and window else ())
    return checked(_placed(opened, header, order, files), path)


class _Part:
    """An array without its axes of one entry for time and planes.

    Parameters
    ----------
    array
        With axes for time and planes.
    key
        0 for each of the two that is left out.
    """

    def __init__(self, array: Any, key: tuple[int | None, int | None]) -> None:
        self._array, self._key = array, key
        keeps = (*(part is None for part in key), *(True,) * (len(array.shape) - 2))
        self.shape = tuple(length for length, keep in zip(array.shape, keeps, strict=True) if keep)
        chunks = (1, 1, *array.shape[2:])
        self.chunks = tuple(length for length, keep in zip(chunks, keeps, strict=True) if keep)
        self.dtype = array.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        given = iter(whole_key(key, len(self.shape)))
        leading = tuple(next(given) if part is None else part for part in self._key)
        return np.asarray(self._array[(*leading, *given)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[...], dtype)


def _dtype_of(path: Path, header: Any) -> np.dtype[Any]:
    bits = int(header.get("BitsAllocated", 0))
    if "FloatPixelData" in header or "DoubleFloatPixelData" in header or bits not in (1, 8, 16, 32):
        raise ImageError(f"{path} has pixels of {bits} bits, which are not supported: export it with 8 or 16 bits.")
    kind = "i" if int(header.get("PixelRepresentation", 0)) else "u"
    return np.dtype(f"{kind}{max(bits // 8, 1)}")


def _values(header: Any, stored: FrameArray) -> tuple[Any, tuple[float, float] | None]:
    """Return the values of the pixels, and the window in which they are shown."""
    interpretation = str(header.get("PhotometricInterpretation", "")).strip()
    if interpretation == "PALETTE COLOR":
        return palette(_table_of(header, stored.dtype))(stored), None
    if len(stored.shape) > 4:
        return stored, None
    bits = int(header.get("BitsStored", 8 * stored.dtype.itemsize))
    slope, intercept = value_scale(header)
    window = window_of(header)
    if interpretation != "MONOCHROME1":
        return rescaled(stored, slope, intercept, bits), window
    # Low values are white. Reversed in the range of what is stored, all values stay in their range.
    total = -1 if stored.dtype.kind == "i" else 2**bits - 1

    def reverse(values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(total - values.astype(np.int64)).astype(stored.dtype)

    if window is not None:
        low, high = (slope * total + 2 * intercept - value for value in reversed(window))
        window = low, high
    return rescaled(Recoloring(reverse, stored.dtype, 0, 0)(stored), slope, intercept, bits), window


def _table_of(header: Any, dtype: np.dtype[Any]) -> NDArray[np.uint8]:
    """Return the palette of a file as a table of 8-bit colors."""
    from pydicom.pixels import apply_color_lut

    indices = np.arange(2 ** (8 * min(dtype.itemsize, 2)), dtype=f"u{dtype.itemsize}")
    table = np.asarray(apply_color_lut(indices[None], header))[0][:, :3]
    return np.asarray(table if table.dtype == np.uint8 else table >> 8, np.uint8)


def _letters(header: Any, order: OrderedFrames) -> tuple[str, tuple[int | None, int | None]]:
    """Return the letters of the axes before rows and columns, and which of the two are left out."""
    times, planes = len(order.frames), len(order.frames[0])
    if order.normal_step is None and times > 1:
        # Frames without positions follow one another in time, unless the file gives their distance.
        is_depth = plane_distance(header) is not None
        return ("z" if is_depth else "t"), (None, 0)
    letters = ("t" if times > 1 else "") + ("z" if planes > 1 else "")
    return letters, (None if times > 1 else 0, None if planes > 1 else 0)


def _placed(opened: ImageSource, header: Any, order: OrderedFrames, files: list[Path]) -> ImageSource:
    """Add pixel sizes, the position in the body, and the files for the writers of other plugins."""
    sizes, directions = pixel_spacing(header), directions_of(header)
    steps = {"z": plane_distance(header) or 1.0}
    starts: dict[str, float] = {}
    if sizes is not None:
        steps |= {"y": sizes[0], "x": sizes[1]}
    first = order.frames[0][0].position
    anatomy = None
    if sizes is not None and directions is not None and first is not None and order.normal_step is not None:
        columns = [directions[0] * sizes[1], directions[1] * sizes[0], np.array(order.normal_step), np.array(first)]
        anatomy = Anatomy.of(np.column_stack(columns))
    if anatomy is not None:
        found, at = anatomy.grid()
        steps |= dict(zip("zyx", found, strict=True))
        starts = dict(zip("zyx", at, strict=True))
    axes = (opened.axes or "").removesuffix("s")
    times = numbers_in(header, "FrameTime", 1) or (1.0,)
    has_time = "t" in axes and "FrameTime" in header
    known = steps | {"t": times[0] / 1000 if has_time else 1.0, "s": 1.0}
    return replace(
        opened,
        spacing=tuple(known.get(letter, 1.0) for letter in opened.axes or "") if sizes is not None else None,
        origin=tuple(starts.get(letter, 0.0) for letter in opened.axes or "") if starts else None,
        unit="millimeter" if sizes is not None else None,
        time_unit="second" if has_time else None,
        anatomy=anatomy,
        metadata={"dicom_files": [str(path) for path in files]},
    )
