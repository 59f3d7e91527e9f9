"""Read rasters and georeferences with GDAL, and write labels as GeoTIFF. No other module imports rasterio."""

from __future__ import annotations

import errno
import math
import operator
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, OutputError
from napari_sam.files.libraries import MissingLibraryWarning, is_installed, needs
from napari_sam.files.outputs import replacing
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.files.external_references import may_follow_outside
from napari_sam.images.lazy.blocks import whole_key
from napari_sam.images.rasters.array_formats import ends_in_colors, leading_axes

RASTERIO = "rasterio"
BLOCK_SIDE = 512
# Formats of GDAL that contain pixels; many others are descriptions that refer to other files or URLs.
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


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """A raster opened with GDAL, with pixels not yet read.

    Parameters
    ----------
    levels
        Finest first.
    axes
        "yx", "yxs" of colors, "yxc" of other bands, or for example "zyx" of the slices of a scientific format.
    georeference
        Where it lies, or None.
    interpretation
        What GDAL says that each band is: "red", "alpha", "palette", "undefined" ...
    colormap
        (red, green, blue, alpha) of each index of a palette, or None.
    guessed
        Letters of `axes` that stand for axes without a known name.
    names
        Of the bands, "band 1" for one without.
    """

    levels: tuple[RasterioArray, ...]
    axes: str
    georeference: Georeference | None
    interpretation: tuple[str, ...] = ()
    colormap: dict[int, tuple[int, int, int, int]] | None = None
    guessed: str = ""
    names: tuple[str, ...] = ()


def has_rasterio() -> bool:
    """Return whether rasterio is installed."""
    return is_installed(RASTERIO)


def read_georeference(path: Path, driver: str | None = None) -> Georeference | None:
    """Return the position of an image file on the earth.

    Parameters
    ----------
    path
        The file; GDAL looks for world files and the like beside it.
    driver
        Name of the format that GDAL may take it for; by default any.

    Returns
    -------
    Georeference or None
        None where the file does not say, or rasterio cannot read it; or is missing, which a warning says.
    """
    if not has_rasterio():
        warnings.warn(needs(f"{path} may lie on a map, which", RASTERIO), MissingLibraryWarning, 2)
        return None
    import rasterio

    options = {} if driver is None else {"driver": driver}
    try:
        with _gdal(), _open(path, **options) as dataset:
            points, points_crs = dataset.gcps
            transform = None if dataset.transform.is_identity else tuple(dataset.transform)[:6]
            crs = dataset.crs or (points_crs if points else None)
            place = Georeference(
                crs.to_wkt() if crs else None,
                transform,
                None if dataset.nodata is None else float(dataset.nodata),
                tuple((point.row, point.col, point.x, point.y, point.z or 0.0) for point in points),
                None if dataset.rpcs is None else dataset.rpcs.to_dict(),
            )
    except (rasterio.errors.RasterioError, rasterio.errors.CRSError):
        return None
    return None if place == Georeference(None, None) else place


def band_names(path: Path) -> tuple[str, ...]:
    """Return the names of the bands of a GeoTIFF that lies somewhere, "band 1" for one without."""
    with _gdal(), _open(path, driver="GTiff") as dataset:
        return _named(dataset)


def _named(dataset: Any) -> tuple[str, ...]:
    return tuple(name or f"band {number}" for number, name in enumerate(dataset.descriptions, 1))


class RasterioArray:
    """One level of a raster, read by GDAL window by window, in any number of threads.

    Parameters
    ----------
    path
        The file.
    overview
        Which overview of it, from 0 on; None is the finest level.
    leading
        Lengths of the axes that the bands are spread over, the last one fastest, and that come before rows and columns;
        left out, bands are one axis after them.

    Attributes
    ----------
    shape
        (rows, cols), (rows, cols, bands) of several bands, or (*leading, rows, cols).
    dtype
        The type that holds the pixels of every band.
    chunks
        Shape of what the file stores in one piece.
    """

    def __init__(self, path: Path, overview: int | None = None, leading: Sequence[int] = ()) -> None:
        self._path, self._overview, self._leading = path, overview, tuple(leading)
        self._local = threading.local()
        dataset = self._dataset()
        bands = [int(dataset.count)] if dataset.count > 1 and not self._leading else []
        self.shape: tuple[int, ...] = (*self._leading, int(dataset.height), int(dataset.width), *bands)
        self.dtype: np.dtype[Any] = np.result_type(*(np.dtype(name) for name in dataset.dtypes))
        block = (int(n) for n in dataset.block_shapes[0])
        self.chunks: tuple[int, ...] = (*(1 for _ in self._leading), *block, *(1 for _ in bands))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part, by whole numbers and slices; GDAL reads the smallest window around it."""
        parts = whole_key(key, len(self.shape))
        ranges = [_range(part, length) for part, length in zip(parts, self.shape, strict=True)]
        if not all(ranges):
            lengths = [len(r) for part, r in zip(parts, ranges, strict=True) if isinstance(part, slice)]
            return np.empty(lengths, self.dtype)
        first = len(self._leading)
        rows, cols, *others = *ranges[first:], *ranges[:first]
        numbers = np.arange(math.prod(self._leading) if first else self.shape[-1] if others else 1)
        numbers = (
            numbers.reshape(self._leading)[np.ix_(*others)] if first else numbers[others[0]] if others else numbers
        )
        window = tuple((min(r), max(r) + 1) for r in (rows, cols))
        with _gdal():
            block = self._dataset().read(
                [int(number) + 1 for number in numbers.ravel()], window=window, out_dtype=self.dtype
            )
        block = block[:, :: rows.step, :: cols.step].reshape(*(len(r) for r in others), len(rows), len(cols))
        if others and not first:
            block = np.moveaxis(block, 0, -1)
        return np.asarray(block[tuple(slice(None) if isinstance(part, slice) else 0 for part in parts)])

    def _dataset(self) -> Any:
        """Return the handle of this thread; handles of GDAL must not be shared."""
        if not hasattr(self._local, "dataset"):
            options: dict[str, Any] = {} if self._overview is None else {"overview_level": self._overview}
            with _gdal():
                self._local.dataset = _open(self._path, **options)
        return self._local.dataset


def open_raster(path: Path) -> Raster:
    """Open a raster with GDAL, with its overviews as levels.

    Raises
    ------
    ImageError
        GDAL cannot read it, or it contains several images or bands of different types.
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
            colors = [band.name for band in dataset.colorinterp]
            colormap = dataset.colormap(1) if colors[:1] == ["palette"] else None
            is_color = colors[:3] == ["red", "green", "blue"] and colors[3:] in ([], ["alpha"])
            leading, letters, guessed = leading_axes(dataset)
            names = _named(dataset)
        levels = [RasterioArray(path, None, leading), *(RasterioArray(path, level, leading) for level in range(count))]
    except (rasterio.errors.RasterioError, TypeError) as error:
        raise ImageError(f"{path} cannot be read as a raster ({error}): is it complete?") from error
    axes = f"{letters}yx" if leading else "yx" if len(levels[0].shape) == 2 else "yxs" if is_color else "yxc"
    if axes == "zyx" and guessed and ends_in_colors(levels[0]):
        axes, guessed = "yxs", ""
    return Raster(tuple(levels), axes, read_georeference(path), tuple(colors), colormap, guessed, names)


def write_labels_geotiff(path: Path, labels: NDArray[Any], place: Georeference) -> None:
    """Write a label image as a tiled, compressed GeoTIFF at the position of the image; 0 is nodata.

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
        raise OutputError(needs("A GeoTIFF", RASTERIO))
    import rasterio
    from affine import Affine

    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": labels.shape[0],
        "width": labels.shape[1],
        "count": 1,
        "dtype": labels.dtype,
        "crs": place.crs if place.transform is not None or not place.gcps else None,
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
                _write_points(dataset, place)
                dataset.write(labels, 1)
            _check_written(temporary, labels)
        except rasterio.errors.RasterioError as error:
            raise OSError(errno.EIO, str(error).rstrip(".")) from error
        except rasterio.errors.CRSError as error:
            raise OutputError(
                f"{path} cannot be written in the image's coordinate reference system ({error}): write .zarr instead."
            ) from error


def _write_points(dataset: Any, place: Georeference) -> None:
    """Write the ground control points and the sensor coefficients of an image that has them."""
    from rasterio.control import GroundControlPoint
    from rasterio.rpc import RPC

    if place.gcps and place.transform is None:
        points = [GroundControlPoint(row, col, x, y, z) for row, col, x, y, z in place.gcps]
        dataset.gcps = (points, place.crs)
    if place.rpcs is not None:
        dataset.rpcs = RPC(**place.rpcs)


def same_system(named: str, wkt: str) -> bool | None:
    """Return whether two coordinate reference systems are the same; None if it cannot be decided.

    Parameters
    ----------
    named
        Authority and code, such as "EPSG:32633", or WKT.
    wkt
        The other one.
    """
    if not has_rasterio():
        return None
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        with _gdal():
            return bool(CRS.from_user_input(named) == CRS.from_user_input(wkt))
    except CRSError:
        return None


def in_system(positions: NDArray[np.float64], source: str, target: str) -> NDArray[np.float64] | None:
    """Convert positions (x, y), shape (n, 2), from one reference system to another; None where that is not possible.

    Parameters
    ----------
    positions
        x is the easting or the longitude.
    source, target
        Authority and code, such as "EPSG:4326", or WKT.
    """
    if not has_rasterio():
        return None
    from rasterio.crs import CRS
    from rasterio.warp import transform

    try:
        with _gdal():
            x, y = transform(CRS.from_user_input(source), CRS.from_user_input(target), *positions.T.tolist())
    except Exception:  # rasterio passes on what PROJ raises, of private kinds, such as for a system of no place.
        return None
    moved = np.column_stack([x, y]).astype(np.float64)
    return moved if np.isfinite(moved).all() else None


@lru_cache
def meters_per_unit(wkt: str) -> float | None:
    """Return the length of a unit of a projected reference system; None of others, or without rasterio."""
    if not has_rasterio():
        return None
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        with _gdal():
            crs = CRS.from_user_input(wkt)
            return float(crs.linear_units_factor[1]) if crs.is_projected else None
    except CRSError:
        return None


def is_in_meters(wkt: str) -> bool:
    """Return whether a reference system counts in meters along both axes; False without rasterio."""
    return meters_per_unit(wkt) == 1.0


def _range(part: Any, length: int) -> range:
    if isinstance(part, slice):
        return range(*part.indices(length))
    at = range(length)[operator.index(part)]
    return range(at, at + 1)


def _check_written(path: Path, labels: NDArray[Any]) -> None:
    """Read a written file back: GDAL reports no error if the disk is full when it closes a file."""
    with _gdal(), _open(path) as dataset:
        for top in range(0, labels.shape[0], BLOCK_SIDE):
            bottom = min(top + BLOCK_SIDE, labels.shape[0])
            if not np.array_equal(dataset.read(1, window=((top, bottom), (0, labels.shape[1]))), labels[top:bottom]):
                raise OSError(errno.EIO, "it cannot be read back")


def _gdal() -> Any:
    """Return a GDAL environment that runs no code from files and connects to no server named in them."""
    import rasterio

    # No file has this extension, so none is fetched.
    network = {} if may_follow_outside() else {"CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none"}
    return rasterio.Env(GDAL_VRT_ENABLE_PYTHON="NO", **network)


def _open(path: Path, mode: str = "r", **options: Any) -> Any:
    """Open a raster without the warning about a missing georeference, which is not an error."""
    import rasterio

    # Python's warning filters are global: two threads that change them at once could leave them changed.
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        if mode != "r" or may_follow_outside() or "driver" in options:
            return rasterio.open(path, mode, **options)
        with rasterio.Env() as environment:
            drivers = sorted(DRIVERS & set(environment.drivers()))
        # rasterio.open takes one driver only.
        return rasterio.io.DatasetReader(str(path), driver=drivers, **options)
