"""Where on the earth an image lies: read with rasterio, and carried to the labels. Nothing else knows rasterio."""

from __future__ import annotations

import errno
import operator
import os
import threading
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, OutputError
from napari_sam.files import replacing

INSTALL = "pip install rasterio"
BLOCK_SIDE = 512
# Set to 1, files may refer to others outside their folder, or on the network.
OUTSIDE_VARIABLE = "NAPARI_SAM_ALLOW_OUTSIDE_FILES"
# Formats of GDAL that hold pixels; many others are descriptions that name files or addresses elsewhere.
DRIVERS = {"AAIGrid", "BMP", "DTED", "ECW", "EHdr", "ENVI", "GIF", "GRASSASCIIGrid", "GTiff", "GenBin", "HDF4"} | {
    "HDF4Image",
    "HDF5",
    "HDF5Image",
    "HFA",
    "JP2ECW",
    "JP2KAK",
    "JP2OpenJPEG",
    "JPEG",
    "MrSID",
    "PNG",
    "SRTMHGT",
    "USGSDEM",
    "VRT",
    "WEBP",
    "netCDF",
}
_OPENING = threading.Lock()


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


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """A raster that GDAL reads: opened, not read.

    Parameters
    ----------
    levels
        Finest first.
    axes
        "yx", "yxs" of colours, or "yxc" of other bands.
    georeference
        Where it lies, or None.
    interpretation
        What GDAL says that each band is: "red", "alpha", "palette", "undefined" ...
    colormap
        (red, green, blue, alpha) of each index of a palette, or None.
    """

    levels: tuple[RasterioArray, ...]
    axes: str
    georeference: Georeference | None
    interpretation: tuple[str, ...] = ()
    colormap: dict[int, tuple[int, int, int, int]] | None = None


def may_follow_outside() -> bool:
    """Return whether the user allows files to refer to others outside their folder, by an environment variable."""
    return os.environ.get(OUTSIDE_VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


def has_rasterio() -> bool:
    """Say whether rasterio is installed."""
    return find_spec("rasterio") is not None


def read_georeference(path: Path) -> Georeference | None:
    """Return where an image file lies, or None where it does not say, or rasterio is missing or cannot read it."""
    if not has_rasterio():
        return None
    import rasterio

    try:
        with _gdal(), _open(path) as dataset:
            transform = None if dataset.transform.is_identity else tuple(dataset.transform)[:6]
            crs = dataset.crs.to_wkt() if dataset.crs else None
            nodata = None if dataset.nodata is None else float(dataset.nodata)
    except (rasterio.errors.RasterioError, rasterio.errors.CRSError):
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
        (rows, cols), or (rows, cols, bands) of several bands.
    dtype
        The type that holds the pixels of every band.
    chunks
        Shape of what the file stores in one piece.
    """

    def __init__(self, path: Path, overview: int | None = None) -> None:
        self._path, self._overview = path, overview
        self._local = threading.local()
        dataset = self._dataset()
        bands = int(dataset.count)
        self.shape: tuple[int, ...] = (int(dataset.height), int(dataset.width), *([bands] if bands > 1 else []))
        self.dtype: np.dtype[Any] = np.result_type(*(np.dtype(name) for name in dataset.dtypes))
        block = (int(n) for n in dataset.block_shapes[0])
        self.chunks: tuple[int, ...] = (*block, *([1] if bands > 1 else []))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part: whole numbers and slices, of which no more is read than the window that holds it."""
        parts = whole_key(key, len(self.shape))
        ranges = [_range(part, length) for part, length in zip(parts, self.shape, strict=True)]
        if not all(ranges):
            lengths = [len(r) for part, r in zip(parts, ranges, strict=True) if isinstance(part, slice)]
            return np.empty(lengths, self.dtype)
        rows, cols, *bands = ranges
        window = tuple((min(r), max(r) + 1) for r in (rows, cols))
        with _gdal():
            block = self._dataset().read(
                [band + 1 for band in bands[0]] if bands else [1], window=window, out_dtype=self.dtype
            )
        block = np.moveaxis(block, 0, -1)
        taken = [slice(None, None, r.step) for r in (rows, cols)] + [slice(None)] * len(bands)
        picked = tuple(a if isinstance(part, slice) else 0 for part, a in zip(parts, taken, strict=True))
        return np.asarray((block if bands else block[..., 0])[picked])

    def _dataset(self) -> Any:
        """Return this thread's own handle: GDAL's are not to be shared."""
        if not hasattr(self._local, "dataset"):
            options: dict[str, Any] = {} if self._overview is None else {"overview_level": self._overview}
            with _gdal():
                self._local.dataset = _open(self._path, **options)
        return self._local.dataset


def open_raster(path: Path) -> Raster:
    """Open a raster that GDAL reads, with its overviews as levels.

    Raises
    ------
    ImageError
        GDAL cannot read it, or it holds several images or pixels that are no numbers of one kind.
    """
    import rasterio

    try:
        with _gdal(), _open(path) as dataset:
            if dataset.count == 0:
                first = next(iter(dataset.subdatasets), "none")
                raise ImageError(
                    f"{path} holds several images, such as {first}: write one of them as .tif, with gdal_translate."
                )
            count = len(dataset.overviews(1))
            colours = [band.name for band in dataset.colorinterp]
            colormap = dataset.colormap(1) if colours[:1] == ["palette"] else None
            is_colour = colours[:3] == ["red", "green", "blue"] and colours[3:] in ([], ["alpha"])
        levels = [RasterioArray(path), *(RasterioArray(path, level) for level in range(count))]
    except (rasterio.errors.RasterioError, TypeError) as error:
        raise ImageError(f"{path} cannot be read as a raster ({error}): is it complete?") from error
    axes = "yx" if len(levels[0].shape) == 2 else "yxs" if is_colour else "yxc"
    return Raster(tuple(levels), axes, read_georeference(path), tuple(colours), colormap)


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
        "tiled": True,
        "blockxsize": BLOCK_SIDE,
        "blockysize": BLOCK_SIDE,
    }
    if place.transform is not None:
        profile["transform"] = Affine(*place.transform)
    with replacing(path) as temporary:
        try:
            with _gdal(), _open(temporary, "w", **profile) as dataset:
                dataset.write(labels, 1)
            _check_written(temporary, labels)
        except rasterio.errors.RasterioError as error:
            raise OSError(errno.EIO, str(error).rstrip(".")) from error
        except rasterio.errors.CRSError as error:
            raise OutputError(
                f"{path} cannot be written in the image's coordinate reference system ({error}): write .zarr instead."
            ) from error


def whole_key(key: Any, ndim: int) -> tuple[Any, ...]:
    """Return an index with one entry for each axis, however it was abbreviated.

    Raises
    ------
    IndexError
        It has more entries than there are axes.
    """
    parts = key if isinstance(key, tuple) else (key,)
    missing = ndim - sum(part is not Ellipsis for part in parts)
    if missing < 0:
        raise IndexError(f"{len(parts)} indices were given and there are {ndim} axes.")
    if not any(part is Ellipsis for part in parts):
        return (*parts, *(slice(None),) * missing)
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    return (*parts[:at], *(slice(None),) * missing, *parts[at + 1 :])


def _range(part: Any, length: int) -> range:
    if isinstance(part, slice):
        return range(*part.indices(length))
    at = range(length)[operator.index(part)]
    return range(at, at + 1)


def _check_written(path: Path, labels: NDArray[Any]) -> None:
    """Read back what was written: GDAL says nothing of a disk that is full when it closes a file."""
    with _gdal(), _open(path) as dataset:
        for top in range(0, labels.shape[0], BLOCK_SIDE):
            bottom = min(top + BLOCK_SIDE, labels.shape[0])
            if not np.array_equal(dataset.read(1, window=((top, bottom), (0, labels.shape[1]))), labels[top:bottom]):
                raise OSError(errno.EIO, "it cannot be read back")


def _gdal() -> Any:
    """Return an environment in which GDAL runs no code that a file brings along, and asks no server it names."""
    import rasterio

    # No file has this extension, so none is fetched.
    network = {} if may_follow_outside() else {"CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none"}
    return rasterio.Env(GDAL_VRT_ENABLE_PYTHON="NO", **network)


def _open(path: Path, mode: str = "r", **options: Any) -> Any:
    """Open a raster, and say nothing of one that lies nowhere: that is no fault."""
    import rasterio

    # Python's warning filters belong to all threads: two that change them at once would leave them changed.
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        if mode != "r" or may_follow_outside():
            return rasterio.open(path, mode, **options)
        with rasterio.Env() as environment:
            drivers = sorted(DRIVERS & set(environment.drivers()))
        # rasterio.open takes one driver only.
        return rasterio.io.DatasetReader(str(path), driver=drivers, **options)
