"""Opening images of any size: which arrays hold the pixels, and what the file says of them. Nothing is read here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_sam.errors import ImageError
from napari_sam.geo import Georeference, has_rasterio, open_raster, read_georeference

if TYPE_CHECKING:
    import tifffile
    import zarr

# TIFFs of fewer bytes are read at once: that is faster than to seek in them.
SMALL_TIFF = 64 * 2**20
TIFF_SUFFIXES = (".tif", ".tiff", ".svs", ".ndpi", ".scn", ".bif", ".qptiff", ".lsm", ".stk", ".gel")
# What is left to GDAL where rasterio is installed.
RASTER_SUFFIXES = (".vrt", ".jp2", ".img", ".asc", ".dem", ".hgt", ".ecw", ".sid", ".nc", ".hdf", ".h5", ".bil", ".dat")
KNOWN = ".tif, .png, .jpg or .zarr"
GDAL_NODATA = 42113
# What tifffile calls the axes that it cannot name: positions one after the other.
UNNAMED_AXES = "iqrh"


class ArrayLike(Protocol):
    """What an image must offer: numpy, zarr, dask and tensorstore arrays all do."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """An image file or store: opened, not read.

    Parameters
    ----------
    levels
        Finest first, each sliced lazily; with the same number of axes and the same type.
    axes
        One letter for each axis of the arrays, out of "tczyx" and s, colour samples; None where that is unknown.
    spacing
        Size of a pixel of the finest level along each axis, or None.
    unit
        Of the space axes, or None.
    factors
        How many pixels of the finest level one of each level covers along each axis; None: as the shapes say.
    windows
        Contrast limits of each channel that the file suggests, or nothing.
    colors, channel_names
        Of each channel, "RRGGBB" and a word, or nothing.
    nodata
        The value of pixels that hold nothing, or None.
    georeference
        Where on the earth the image lies, or None.
    """

    levels: tuple[ArrayLike, ...]
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    unit: str | None = None
    factors: tuple[tuple[float, ...], ...] | None = None
    windows: tuple[tuple[float, float] | None, ...] = ()
    colors: tuple[str, ...] = ()
    channel_names: tuple[str, ...] = ()
    nodata: float | None = None
    georeference: Georeference | None = None


def open_image(image: str | Path) -> Opened:
    """Open an image file or store.

    Parameters
    ----------
    image
        A TIFF of any kind (pyramids, whole slides, GeoTIFF, ImageJ and OME), a folder or zip of a zarr array or an
        OME-Zarr image (0.4 or 0.5), an .npy file, anything that Pillow reads (.png, .jpg ...), with rasterio anything
        that GDAL reads (.vrt, .jp2 ...); or the URL of a zarr.

    Raises
    ------
    ImageError
        There is nothing, or it holds no image.
    """
    text = str(image)
    path = Path(image)
    if "://" not in text and not path.exists():
        raise ImageError(f"There is no file {path}: check the path.")
    try:
        if "://" in text or path.is_dir() or path.suffix.lower() in (".zip", ".ozx"):
            return _open_zarr(text)
        if path.suffix.lower() in TIFF_SUFFIXES:
            return _open_tiff(path)
        if path.suffix.lower() == ".npy":
            return Opened((np.load(path, mmap_mode="r", allow_pickle=False),))
        return _open_picture(path)
    except ImageError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        first = lines[0].rstrip(".") if lines else type(error).__name__
        where = "it there, and can it be reached" if "://" in text else f"it complete, and a {KNOWN}"
        raise ImageError(f"{image} cannot be read as an image ({first}): is {where}?") from error


# -- pictures ----------------------------------------------------------------------------------------------------------


def _open_picture(path: Path) -> Opened:
    """Read a file that Pillow knows, and leave those that it does not to GDAL where that is there."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            mode = {"LA": "L", "La": "L", "RGBa": "RGB"}.get(image.mode, image.mode)
            if mode in ("P", "PA", "CMYK", "YCbCr", "HSV", "LAB"):
                mode = "RGB"
            return Opened((np.asarray(image if mode == image.mode else image.convert(mode)),))
    except UnidentifiedImageError:
        if not has_rasterio() or path.suffix.lower() not in RASTER_SUFFIXES:
            raise
    levels, place = open_raster(path)
    axes = "yx" if len(levels[0].shape) == 2 else "cyx"
    return Opened(levels, axes, nodata=place.nodata if place else None, georeference=place)


# -- TIFF --------------------------------------------------------------------------------------------------------------


def _open_tiff(path: Path) -> Opened:
    """Open the first series of a TIFF with all its levels."""
    import tifffile

    with _complete_tiff():
        file = tifffile.TiffFile(path)
        try:
            series = file.series[0]
            axes, spacing, unit = _tiff_axes(file, series)
            place = read_georeference(path) if _has_geo_tags(file) else None
            nodata = place.nodata if place else _tiff_nodata(file)
            levels: tuple[ArrayLike, ...]
            if series.nbytes <= SMALL_TIFF and not series.is_pyramidal:
                levels = (series.asarray(),)
            else:
                levels = _tiff_levels(path, series)
        finally:
            file.close()
    return Opened(levels, axes, spacing, unit, nodata=nodata, georeference=place)


def _tiff_levels(path: Path, series: tifffile.TiffPageSeries) -> tuple[ArrayLike, ...]:
    """Return the levels of a series as zarr arrays over an open file, or mapped where its pixels lie in one piece."""
    import tifffile
    import zarr

    number = 0
    if not series.is_pyramidal and series.dataoffset is not None and series.keyframe.compression == 1:
        return (tifffile.memmap(path, series=number, mode="r"),)
    opened = zarr.open(tifffile.TiffFile(path).aszarr(series=number), mode="r")
    if isinstance(opened, zarr.Array):
        return (opened,)
    names = sorted(opened.array_keys(), key=int)
    return tuple(_member(opened, name, path) for name in names)


def _tiff_axes(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> tuple[str | None, tuple[float, ...] | None, str | None]:
    """Return letters, spacing and unit of a series; its unnamed axes are depth, or nothing is said of any."""
    import tifffile

    letters = series.axes.lower()
    unnamed = [letter for letter in letters if letter in UNNAMED_AXES]
    if len(unnamed) == 1 and "z" not in letters:
        letters = letters.replace(unnamed[0], "z")
    if len(set(letters)) != len(letters) or not set(letters) <= set("tczyxs"):
        return None, None, None
    # Samples that are no colours, and colours that lie one after the other, are channels.
    if "s" in letters and "c" not in letters:
        is_colour = file.pages.first.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
        if not is_colour or letters[-1] != "s":
            letters = letters.replace("s", "c")
    sizes, unit = _tiff_spacing(file)
    return letters, None if not sizes else tuple(sizes.get(letter, 1.0) for letter in letters), unit


def _tiff_spacing(file: tifffile.TiffFile) -> tuple[dict[str, float], str | None]:
    if file.is_ome and file.ome_metadata:
        import tifffile

        pixels = tifffile.xml2dict(file.ome_metadata).get("OME", {}).get("Image", {})
        pixels = (pixels[0] if isinstance(pixels, list) else pixels).get("Pixels", {})
        sizes = {letter: float(pixels.get(f"PhysicalSize{letter.upper()}", 0)) for letter in "zyx"}
        known = {letter: size for letter, size in sizes.items() if size > 0}
        return known if {"y", "x"} <= set(known) else {}, "micrometer" if known else None
    if file.is_imagej:
        metadata = file.imagej_metadata or {}
        page = file.pages.first
        tags = [page.tags.get(name) for name in ("YResolution", "XResolution")]
        sizes = {"z": float(metadata.get("spacing", 1.0))}
        for letter, tag in zip("yx", tags, strict=True):
            ratio = tag.value if tag is not None else (1, 1)
            sizes[letter] = ratio[1] / ratio[0] if ratio[0] else 1.0
        unit = str(metadata.get("unit", "")).encode().decode("unicode_escape")
        return sizes, {"um": "micrometer", "micron": "micrometer", "µm": "micrometer"}.get(unit, unit or None)
    return {}, None


def _has_geo_tags(file: tifffile.TiffFile) -> bool:
    return any(code in file.pages.first.tags for code in (33550, 34264, 34735, GDAL_NODATA))


def _tiff_nodata(file: tifffile.TiffFile) -> float | None:
    tag = file.pages.first.tags.get(GDAL_NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip("\x00 "))
    except ValueError:
        return None


@contextmanager
def _complete_tiff() -> Iterator[None]:
    """Refuse a TIFF of which pages are missing: tifffile only logs that, and returns what there is."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = records.append  # type: ignore[assignment, method-assign]
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    for record in records:
        if any(sign in record.getMessage() for sign in ("invalid page offset", "failed to reshape")):
            raise ValueError("pages are missing")


# -- zarr --------------------------------------------------------------------------------------------------------------


def _open_zarr(where: str) -> Opened:
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Codecs and files that zarr does not know and that are not asked for.
        if where.lower().endswith((".zip", ".ozx")):
            node = zarr.open(zarr.storage.ZipStore(where, mode="r"), mode="r")
        else:
            node = zarr.open(where, mode="r")
    if isinstance(node, zarr.Array):
        return Opened((node,))
    attributes: dict[str, Any] = dict(node.attrs)
    ome = attributes.get("ome", attributes)
    if "plate" in ome or "well" in ome:
        raise ImageError(f"{where} is a plate of many images: give the path of one of them, such as {where}/A/1/0.")
    if "bioformats2raw.layout" in ome and "0" in node:
        return _open_zarr(f"{where.rstrip('/')}/0")
    multiscales = ome.get("multiscales")
    if multiscales:
        return _open_multiscale(node, ome, multiscales[0], where)
    names = sorted(node.array_keys())
    if len(names) == 1:
        return Opened((_member(node, names[0], where),))
    listed = ", ".join(names[:5]) or "none"
    raise ImageError(f"{where} is a zarr group and not one image: give the path of one of its arrays ({listed}).")


def _open_multiscale(node: zarr.Group, ome: dict[str, Any], multiscale: dict[str, Any], where: str) -> Opened:
    """Open an OME-Zarr image by its metadata (version 0.4 or 0.5)."""
    datasets = multiscale["datasets"]
    levels = tuple(_member(node, str(dataset["path"]), where) for dataset in datasets)
    ndim = levels[0].ndim
    described = multiscale.get("axes", [])
    letters = "".join(str(axis["name"] if isinstance(axis, dict) else axis).lower() for axis in described)
    if len(letters) != ndim or not set(letters) <= set("tczyx") or len(set(letters)) != ndim:
        letters = ""
    units = [axis.get("unit") for axis in described if isinstance(axis, dict) and axis.get("type") == "space"]
    whole = _scale_of(multiscale, ndim)
    scales = [[a * b for a, b in zip(_scale_of(dataset, ndim), whole, strict=True)] for dataset in datasets]
    factors = tuple(tuple(a / b for a, b in zip(scale, scales[0], strict=True)) for scale in scales)
    channels = ome.get("omero", {}).get("channels", [])
    return Opened(
        levels,
        letters or None,
        tuple(scales[0]) if letters else None,
        next((str(unit) for unit in units if unit), None),
        _checked(factors, levels),
        tuple(_window(channel) for channel in channels),
        tuple(str(channel.get("color", "FFFFFF")) for channel in channels),
        tuple(str(channel.get("label", number)) for number, channel in enumerate(channels)),
    )


def _checked(
    factors: tuple[tuple[float, ...], ...], levels: Sequence[ArrayLike]
) -> tuple[tuple[float, ...], ...] | None:
    """Return the factors that the metadata state if the shapes agree with them; else the shapes alone count."""
    for stated, level in zip(factors, levels, strict=True):
        for factor, fine, coarse in zip(stated, levels[0].shape, level.shape, strict=True):
            if factor < 1 - 1e-6 or abs(fine / factor - coarse) > 1.01:
                return None
    return tuple(tuple(_rounded(factor) for factor in stated) for stated in factors)


def _rounded(factor: float) -> float:
    return float(round(factor)) if abs(factor - round(factor)) < 1e-4 else factor


def _scale_of(entry: dict[str, Any], ndim: int) -> list[float]:
    for transformation in entry.get("coordinateTransformations", []):
        if transformation.get("type") == "scale":
            scale = [float(value) for value in transformation["scale"]]
            if len(scale) == ndim and min(scale) > 0:
                return scale
    return [1.0] * ndim


def _window(channel: dict[str, Any]) -> tuple[float, float] | None:
    window = channel.get("window", {})
    try:
        low, high = float(window["start"]), float(window["end"])
    except (KeyError, TypeError, ValueError):
        return None
    return (low, high) if low < high else None


def _member(group: zarr.Group, name: str, where: str | Path) -> zarr.Array[Any]:
    import zarr

    member = group[name]
    if not isinstance(member, zarr.Array):
        raise ImageError(f"{where} says that its image is {name!r}, which is no array: check the store.")
    return member
