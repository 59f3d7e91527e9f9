"""Layers of images that lie on the earth: on the map, in natural colors, and one hidden layer for each band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.rendering import percentile_limits
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.lazy.blocks import whole_key
from napari_sam.images.lazy.levels import LazyArray
from napari_sam.images.rasters.gdal import is_in_meters

# Hidden layers of single bands; of more bands there are none.
MAX_BANDS = 12
# The graphics card counts in 32 bits: pixels of a smaller share of their coordinates would be out of shape.
FINEST_SHARE = 1e-7
SAMPLED_SIDE = 1024


class ComposedColors:
    """Three bands of an array, stretched between limits, as 8-bit red, green and blue; read in parts.

    Parameters
    ----------
    array
        Shape (rows, cols, bands).
    bands
        Red, green and blue.
    limits
        Value of black and of white of each of them.
    """

    def __init__(self, array: Any, bands: Sequence[int], limits: Sequence[tuple[float, float]]) -> None:
        self._array, self._bands, self._limits = array, tuple(bands), tuple(limits)
        self.shape = (*(int(length) for length in array.shape[:2]), 3)
        self.dtype = np.dtype(np.uint8)
        chunks = LazyArray(array).chunks
        self.chunks = None if chunks is None else (*chunks[:2], 3)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        rows, cols, samples = whole_key(key, 3)
        chosen = range(3)[samples]
        if isinstance(chosen, int):
            return self._band(chosen, rows, cols)
        return np.stack([self._band(number, rows, cols) for number in chosen], -1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[...], dtype)

    def _band(self, number: int, rows: Any, cols: Any) -> NDArray[Any]:
        low, high = self._limits[number]
        values = np.asarray(self._array[rows, cols, self._bands[number]]).astype(np.float32)
        stretched = (values - low) * (255 / max(high - low, 1e-9))
        return np.asarray(np.clip(np.nan_to_num(stretched), 0, 255) + 0.5, np.uint8)


def natural_bands(count: int, shown: Sequence[int]) -> tuple[int, int, int]:
    """Return red, green and blue of an image of at least three bands: those that the file names, else the first."""
    red, green, blue = tuple(shown) if len(shown) == 3 else (0, 1, 2)
    return (red, green, blue) if max(red, green, blue) < count else (0, 1, 2)


def valid_limits(coarse: LazyArray, nodata: float | None) -> tuple[float, float]:
    """Return the 0.5 and 99.5 percentiles of the pixels with a value, in the middle of the coarsest level."""
    spread = [
        slice(max((n - SAMPLED_SIDE) // 2, 0), max((n - SAMPLED_SIDE) // 2, 0) + SAMPLED_SIDE) for n in coarse.shape
    ]
    seen = np.asarray(coarse[tuple(spread)])
    if nodata is not None:
        seen = seen[seen != nodata]
    low, high = percentile_limits(seen)
    return (low, high) if low < high else (low, low + 1)


def place_on_map(place: Georeference, ndim: int) -> dict[str, Any]:
    """Return the arguments that put a layer on the map: downwards is south, to the right is east.

    Rows count southwards, so the first world axis is minus the northing (or the latitude).

    Parameters
    ----------
    place
        Of the image; its rows and columns are the last two axes of the layer.
    ndim
        Number of axes of the layer.
    """
    assert place.transform is not None
    a, b, c, d, e, f = place.transform
    starts = [-(f + 0.5 * (d + e)), c + 0.5 * (a + b)]
    size = min(np.hypot(a, d), np.hypot(b, e))
    if size < FINEST_SHARE * max(map(abs, starts)):
        starts = [0.0, 0.0]
    unit = "meter" if place.crs is not None and is_in_meters(place.crs) else "pixel"
    options: dict[str, Any] = {"units": [*["pixel"] * (ndim - 2), unit, unit]}
    if b == d == 0:
        return options | {"scale": [*[1.0] * (ndim - 2), -e, a], "translate": [*[0.0] * (ndim - 2), *starts]}
    affine = np.eye(ndim + 1)
    affine[-3:-1, -3:-1] = [[-e, -d], [b, a]]
    affine[-3:-1, -1] = starts
    return options | {"affine": affine}


def map_metadata(place: Georeference) -> dict[str, Any]:
    """Return the position on the map for the metadata of a layer: CRS as WKT, and x and y of pixel edges."""
    return {"crs": place.crs, "transform": place.transform, "nodata": place.nodata}
