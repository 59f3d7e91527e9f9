"""Where on the earth an image lies: read with rasterio, and carried to the labels. Nothing else knows rasterio."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, OutputError
from napari_sam.files import replacing

INSTALL = "pip install 'napari-sam[geo]'"


@dataclass(frozen=True, slots=True)
class Georeference:
    """Where on the earth the pixels of an image lie.

    Parameters
    ----------
    crs
        Coordinate reference system as WKT, or None.
    transform
        (a, b, c, d, e, f): x = a col + b row + c and y = d col + e row + f, of pixel edges; or None.
    nodata
        The value of pixels that hold nothing, or None.
    """

    crs: str | None
    transform: tuple[float, float, float, float, float, float] | None
    nodata: float | None = None

    def shifted(self, row: float, col: float) -> Georeference:
        """Return the georeference of a part that begins at an edge (row, col)."""
        if self.transform is None:
            return self
        a, b, c, d, e, f = self.transform
        return Georeference(self.crs, (a, b, c + a * col + b * row, d, e, f + d * col + e * row), self.nodata)


def has_rasterio() -> bool:
    """Say whether rasterio is installed."""
    return find_spec("rasterio") is not None


def read_georeference(path: Path) -> Georeference | None:
    """Return where an image file lies, or None where it does not say, or rasterio is missing or cannot read it."""
    if not has_rasterio():
        return None
    import rasterio

    try:
        with _quiet(), rasterio.open(path) as dataset:
            transform = None if dataset.transform.is_identity else tuple(dataset.transform)[:6]
            crs = dataset.crs.to_wkt() if dataset.crs else None
            nodata = None if dataset.nodata is None else float(dataset.nodata)
    except rasterio.errors.RasterioError:
        return None
    return None if transform is None and crs is None and nodata is None else Georeference(crs, transform, nodata)


class RasterioArray:
    """One level of a raster that GDAL reads, window by window, by any number of threads.

    Parameters
    ----------
    path
        The file.
    overview
        Which overview of it, from 0 on; None is the finest level.

    Attributes
    ----------
    shape
        (rows, cols), or (bands, rows, cols) of several bands.
    """

    def __init__(self, path: Path, overview: int | None = None) -> None:
        self._path, self._overview = path, overview
        self._local = threading.local()
        dataset = self._dataset()
        self._bands = int(dataset.count)
        plane = (int(dataset.height), int(dataset.width))
        self.shape = plane if self._bands == 1 else (self._bands, *plane)
        self.dtype = np.dtype(dataset.dtypes[0])
        block = tuple(int(n) for n in dataset.block_shapes[0])
        self.chunks = block if self._bands == 1 else (1, *block)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part: whole numbers and slices of step 1, one for each axis."""
        parts = key if isinstance(key, tuple) else (key,)
        full = (*parts, *(slice(None),) * (len(self.shape) - len(parts)))
        ranges = [
            part.indices(n) if isinstance(part, slice) else (int(part), int(part) + 1, 1)
            for part, n in zip(full, self.shape, strict=True)
        ]
        if any(step != 1 for _, _, step in ranges):
            raise IndexError("Only slices of step 1 can be read.")
        (top, bottom, _), (left, right, _) = ranges[-2:]
        bands = range(*ranges[0]) if self._bands > 1 else range(1)
        window = ((top, max(bottom, top)), (left, max(right, left)))
        with _quiet():
            block = self._dataset().read([band + 1 for band in bands], window=window)
        inside = block if self._bands > 1 else block[0]
        return np.asarray(inside[tuple(slice(None) if isinstance(part, slice) else 0 for part in full)])

    def _dataset(self) -> Any:
        """Return this thread's own handle: GDAL's are not to be shared."""
        if not hasattr(self._local, "dataset"):
            import rasterio

            options = {} if self._overview is None else {"overview_level": self._overview}
            with _quiet():
                self._local.dataset = rasterio.open(self._path, **options)
        return self._local.dataset


def open_raster(path: Path) -> tuple[tuple[RasterioArray, ...], Georeference | None]:
    """Open a raster that GDAL reads: its levels, finest first, and where it lies.

    Raises
    ------
    ImageError
        GDAL cannot read it.
    """
    import rasterio

    try:
        with _quiet(), rasterio.open(path) as dataset:
            count = len(dataset.overviews(1)) if dataset.count else 0
        levels = [RasterioArray(path), *(RasterioArray(path, level) for level in range(count))]
    except rasterio.errors.RasterioError as error:
        raise ImageError(f"{path} cannot be read as a raster ({error}): is it complete?") from error
    return tuple(levels), read_georeference(path)


def write_labels_geotiff(path: Path, labels: NDArray[Any], place: Georeference) -> None:
    """Write a label image as a tiled, compressed GeoTIFF that lies where the image lies; 0 holds nothing.

    Parameters
    ----------
    path
        Ends in .tif or .tiff; replaced if it exists.
    labels
        Shape (rows, cols), whole numbers.
    place
        That of the image.

    Raises
    ------
    OutputError
        rasterio is missing, or the file cannot be written; whatever stood there before still does.
    """
    if not has_rasterio():
        raise OutputError(f"A GeoTIFF cannot be written without rasterio: {INSTALL}.")
    import rasterio
    from affine import Affine

    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": labels.shape[0],
        "width": labels.shape[1],
        "count": 1,
        "dtype": labels.dtype,
        "crs": place.crs,
        "nodata": 0,
        "compress": "deflate",
        "bigtiff": "if_safer",
    }
    if place.transform is not None:
        profile["transform"] = Affine(*place.transform)
    if min(labels.shape) >= 512:
        profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512}
    with replacing(path) as temporary:
        try:
            with _quiet(), rasterio.open(temporary, "w", **profile) as dataset:
                dataset.write(labels, 1)
        except rasterio.errors.RasterioError as error:
            raise OSError(str(error)) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Say nothing of images that lie nowhere: that is no fault."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        yield
