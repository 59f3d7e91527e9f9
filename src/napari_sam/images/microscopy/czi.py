"""Read Zeiss CZI files with pylibCZIrw, in parts and at any zoom."""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.errors import ImageError, first_line
from napari_sam.images.axes.units import length_of
from napari_sam.images.files.external_references import parsed_text
from napari_sam.images.lazy.blocks import whole_key
from napari_sam.images.microscopy.choice import chosen_image
from napari_sam.images.source import ImageSource, checked

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

TYPES = {
    "Gray8": ("u1", 0),
    "Gray16": ("u2", 0),
    "Gray32Float": ("f4", 0),
    "Bgr24": ("u1", 3),
    "Bgr48": ("u2", 3),
    "Bgr96Float": ("f4", 3),
}
# Axes of a file that planes are picked along, in the order of ours.
PLANES = ("T", "C", "Z")
CHUNK_SIDE = 512
# The coarsest level is about this long.
COARSEST = 1024


class CziArray:
    """One level of a scene, read part by part.

    Parameters
    ----------
    file
        The open file, and the lock that readers of it take.
    region
        (left, top, width, height) of the scene, in pixels of the finest level.
    lengths
        First number and length of each axis that planes are picked along.
    dtype, samples
        Type of the pixels, and their number of colors or 0.
    factor
        Pixels of the finest level along one pixel of this level.
    """

    def __init__(
        self,
        file: tuple[Any, Lock],
        region: tuple[int, int, int, int],
        lengths: dict[str, tuple[int, int]],
        dtype: np.dtype[Any],
        samples: int,
        factor: int,
    ) -> None:
        self._file, self._region, self._lengths, self._factor = file, region, lengths, factor
        side = (max(region[3] // factor, 1), max(region[2] // factor, 1))
        last = (samples,) if samples else ()
        self.shape = (*(length for _, length in lengths.values()), *side, *last)
        self.chunks = (*(1 for _ in lengths), *(min(CHUNK_SIDE, length) for length in side), *last)
        self.dtype = dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part, by whole numbers and slices."""
        parts = whole_key(key, len(self.shape))
        ranges = [_range(part, length) for part, length in zip(parts, self.shape, strict=True)]
        count = len(self._lengths)
        rows, cols, *last = ranges[count:]
        block = np.zeros([len(each) for each in ranges], self.dtype)
        if block.size:
            for at in np.ndindex(*(len(each) for each in ranges[:count])):
                plane = {
                    name: first + ranges[axis][at[axis]]
                    for axis, (name, (first, _)) in enumerate(self._lengths.items())
                }
                pixels = self._read(plane, rows, cols)
                block[at] = pixels[..., last[0]] if last else pixels
        return np.asarray(block[tuple(slice(None) if isinstance(part, slice) else 0 for part in parts)])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[...], dtype)

    def _read(self, plane: dict[str, int], rows: range, cols: range) -> NDArray[Any]:
        left, top, *_ = self._region
        low = min(rows[0], rows[-1]), min(cols[0], cols[-1])
        height, width = max(rows[0], rows[-1]) + 1 - low[0], max(cols[0], cols[-1]) + 1 - low[1]
        factor = self._factor
        roi = (left + low[1] * factor, top + low[0] * factor, width * factor, height * factor)
        reader, lock = self._file
        with lock:
            pixels = np.asarray(reader.read(roi=roi, plane=plane, zoom=1 / factor))
        pixels = pixels[:height, :width]
        # Colors are stored as blue, green and red.
        pixels = pixels[..., ::-1] if pixels.shape[-1] == 3 else pixels[..., 0]
        rows, cols = (
            range(each[0] - base, each[-1] - base + each.step, each.step)
            for each, base in ((rows, low[0]), (cols, low[1]))
        )
        return np.asarray(pixels[np.ix_(np.asarray(rows), np.asarray(cols))])


def open_czi(path: Path, wanted: str | None = None) -> ImageSource:
    """Open a scene of a CZI file, with levels that the library scales.

    Parameters
    ----------
    path
        The file.
    wanted
        Number of the scene, where there are several.

    Raises
    ------
    ImageError
        It is damaged, has pixels of a kind that is not known, or holds several scenes.
    """
    from pylibCZIrw.czi import CziReader

    try:
        reader = CziReader(str(path))
        bounds, kinds = reader.total_bounding_box, reader.pixel_types
        scenes = reader.scenes_bounding_rectangle
        xml = reader.raw_metadata
    except RuntimeError as error:
        raise ImageError(f"{path} is damaged or cut off ({first_line(error)}): copy it again.") from error
    numbers = sorted(scenes)
    scene = numbers[chosen_image(path, [""] * len(numbers), wanted)] if numbers else None
    if scene is None:
        (left, right), (top, bottom) = bounds["X"], bounds["Y"]
        region = left, top, right - left, bottom - top
    else:
        found = scenes[scene]
        region = found.x, found.y, found.w, found.h
    if len(set(kinds.values())) != 1 or (kind := next(iter(kinds.values()))) not in TYPES:
        raise ImageError(f"{path} has pixels of the kinds {kinds}, which are not supported: export it as OME-TIFF.")
    code, samples = TYPES[kind]
    lengths = {
        name: (bounds[name][0], bounds[name][1] - bounds[name][0])
        for name in PLANES
        if name in bounds and not (name == "C" and samples) and bounds[name][1] - bounds[name][0] > 1
    }
    file = reader, Lock()
    factors = [2**level for level in range(_count_of_levels(region))]
    levels = tuple(CziArray(file, region, lengths, np.dtype(code), samples, factor) for factor in factors)
    axes = "".join(lengths).lower() + ("yxs" if samples else "yx")
    steps = tuple(tuple(float(factor) if letter in "yx" else 1.0 for letter in axes) for factor in factors)
    return checked(_described(ImageSource(levels, axes, factors=steps), xml, path), path)


def _count_of_levels(region: tuple[int, int, int, int]) -> int:
    return max(1, math.ceil(math.log2(max(region[2:]) / COARSEST)) + 1)


def _described(opened: ImageSource, xml: str, path: Path) -> ImageSource:
    """Add pixel sizes in micrometers, and the names and colors of the channels."""
    root = parsed_text(xml, path)
    sizes = {
        (element.get("Id") or "").lower(): length_of(element.findtext("Value"))
        for element in root.findall(".//Scaling/Items/Distance")
    }
    axes = opened.axes or ""
    spacing = None
    if sizes.get("x") and sizes.get("y"):
        # The file counts in meters.
        spacing = tuple((sizes.get(letter) or 1e-6) * 1e6 if letter in "zyx" else 1.0 for letter in axes)
    count = opened.levels[0].shape[axes.index("c")] if "c" in axes else 0
    channels = root.findall(".//Information/Image/Dimensions/Channels/Channel")[:count]
    shown = {element.get("Name"): element for element in root.findall(".//DisplaySetting/Channels/Channel")}
    names = tuple(element.get("Name") or f"channel {number}" for number, element in enumerate(channels))
    colors = tuple(color for name in names if (color := _color(shown.get(name))))
    return replace(
        opened,
        spacing=spacing,
        unit="micrometer" if spacing else None,
        channel_names=names if len(names) == count else (),
        colors=colors if len(colors) == count else (),
    )


def _color(element: Element | None) -> str | None:
    """Return the color of a channel as RRGGBB; the file writes #AARRGGBB."""
    text = "" if element is None else (element.findtext("Color") or "").lstrip("#")
    return text[-6:] if len(text) in (6, 8) else None


def _range(part: Any, length: int) -> range:
    if isinstance(part, slice):
        return range(*part.indices(length))
    at = range(length)[operator.index(part)]
    return range(at, at + 1)
