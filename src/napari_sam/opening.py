"""Opening images of any size: which arrays hold the pixels, and what the file says of them. Nothing is read here."""

from __future__ import annotations

import logging
import math
import re
import threading
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.geo import INSTALL, Georeference, has_rasterio, open_raster, read_georeference, whole_key

if TYPE_CHECKING:
    import tifffile
    import zarr

# TIFFs of fewer bytes are read at once: that is faster than to seek in them.
SMALL_TIFF = 64 * 2**20
TIFF_SUFFIXES = {".tif", ".tiff", ".btf", ".tf2", ".tf8", ".ptif", ".ptiff", ".zif", ".lsm", ".stk", ".gel"} | {
    ".svs",
    ".ndpi",
    ".scn",
    ".bif",
    ".avs",
    ".qptiff",
}
# What is left to GDAL where rasterio is installed.
RASTER_SUFFIXES = {".vrt", ".jp2", ".j2k", ".img", ".asc", ".dem", ".hgt", ".ecw", ".sid", ".nc", ".hdf", ".h5"} | {
    ".bil",
    ".dat",
}
WORLD_FILES = (".tfw", ".tifw", ".wld")
KNOWN = ".tif, .png, .jpg or .zarr"
GDAL_NODATA = 42113
GEO_TAGS = (33550, 34264, 34735, GDAL_NODATA)
# Files of these kinds hold a label and an overview of the glass beside the tissue: the largest image is meant.
SLIDES = ("svs", "scn", "bif", "qpi", "philips")
# Coarser than this, a resolution tag tells of a printer or a scanner's setting, not of what is seen.
COARSEST_SEEN = 20.0
# Units of length by the signs that files use for them, and how many micrometres they are.
UNITS = {"m": "meter", "cm": "centimeter", "mm": "millimeter", "µm": "micrometer", "nm": "nanometer", "Å": "angstrom"}
SIGNS = {"um": "µm", "micron": "µm", "microns": "µm", "\\u00b5m": "µm", "μm": "µm", "in": "inch"}
MICROMETRES = {
    "meter": 1e6,
    "centimeter": 1e4,
    "millimeter": 1e3,
    "micrometer": 1.0,
    "nanometer": 1e-3,
    "angstrom": 1e-4,
    "inch": 25400.0,
}
WRITE_ANEW = "write the pyramid anew from its finest level"


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
        One letter for each axis of the arrays, out of "tczyx" and s, colour samples, the last; never both c and s.
        None where that is unknown.
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
        There is nothing, it holds no image, or the levels of its pyramid are not those of one image.
    """
    text = str(image)
    path = Path(image)
    if "://" not in text and not path.exists():
        raise ImageError(f"There is no file {path}: check the path.")
    try:
        if "://" in text:
            return _open_url(text)
        if path.is_dir() or path.suffix.lower() in (".zip", ".ozx"):
            return _open_zarr(text)
        if path.suffix.lower() in TIFF_SUFFIXES:
            return _open_tiff(path)
        if path.suffix.lower() == ".npy":
            return _checked(Opened((np.lib.format.open_memmap(path, mode="r"),)), path)
        if path.suffix.lower() in RASTER_SUFFIXES and has_rasterio():
            return _open_by_gdal(path)
        return _open_picture(path)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_reason(text, error)) from error


def _reason(where: str, error: Exception) -> str:
    """Return the sentence that tells why nothing could be opened, and what to do."""
    lines = str(error).strip().splitlines()
    first = lines[0].rstrip(".") if lines else type(error).__name__
    if type(error).__name__ == "UnknownCodecError":
        return f"{where} is compressed in a way that is not known here ({first}): write it anew with zstd or blosc."
    if "://" not in where:
        return f"{where} cannot be read as an image ({first}): is it complete, and a {KNOWN}?"
    if isinstance(error, ImportError):
        return f"{where} cannot be reached without a package that is missing ({first}): install it with pip."
    if isinstance(error, FileNotFoundError):
        return f"There is no zarr at {where}: check the URL, and download files of other kinds to open them."
    return f"{where} cannot be read as an image ({first}): is it there, and can it be reached?"


def _checked(opened: Opened, where: str | Path, mend: str = WRITE_ANEW) -> Opened:
    """Refuse levels that are not those of one image.

    Raises
    ------
    ImageError
        The pixels are no numbers, a level has other axes or another type than the finest, is larger than the one
        before it, or is of another form.
    """
    first, *coarser = opened.levels
    if np.dtype(first.dtype).kind not in "buif":
        raise ImageError(
            f"Pixels of type {first.dtype} are no image, and {where} holds such: give whole or real numbers."
        )
    before = first
    for number, level in enumerate(coarser, 1):
        shapes = f"level {number} of {where} has shape {tuple(level.shape)}"
        if len(level.shape) != len(first.shape) or np.dtype(level.dtype) != np.dtype(first.dtype):
            raise ImageError(
                f"The {shapes} and type {level.dtype}, and level 0 has {tuple(first.shape)} and {first.dtype}: {mend}."
            )
        if any(short > long for short, long in zip(level.shape, before.shape, strict=True)):
            raise ImageError(f"The {shapes}, which is larger than the one before it, {tuple(before.shape)}: {mend}.")
        if not _fits(first.shape, level.shape, opened.axes, opened.factors[number] if opened.factors else None):
            raise ImageError(f"The {shapes}, which is not that of {tuple(first.shape)} made smaller: {mend}.")
        before = level
    return opened


def _fits(fine: Sequence[int], coarse: Sequence[int], axes: str | None, factors: Sequence[float] | None = None) -> bool:
    """Say whether a level can be another one made smaller: as is stated, or by one factor along rows and columns.

    Lengths are cut, rounded or rounded up by those who write pyramids, so all that is asked is less than a pixel.
    """
    if 0 in coarse and 0 not in fine:
        return False
    if factors is not None:
        shrunk = zip(fine, coarse, factors, strict=True)
        return all(factor > 1 - 1e-6 and abs(long / factor - short) < 1.01 for long, short, factor in shrunk)
    letters = axes or ("yx" if len(fine) == 2 else "")
    least, most = 0.0, math.inf
    for letter, long, short in zip(letters, fine, coarse, strict=False):
        if letter in "cs" and long != short:
            return False
        if letter in "yx":
            least = max(least, long / (short + 1))
            most = min(most, long / (short - 1) if short > 1 else math.inf)
    return least < most


# -- pictures ----------------------------------------------------------------------------------------------------------


def _open_picture(path: Path) -> Opened:
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


def _open_by_gdal(path: Path) -> Opened:
    raster = open_raster(path)
    place = raster.georeference
    return _checked(
        Opened(raster.levels, raster.axes, nodata=place.nodata if place else None, georeference=place), path
    )


# -- TIFF --------------------------------------------------------------------------------------------------------------


class SamplesLast:
    """An array whose colour samples lie plane by plane, as one in which they are the last axis; still read in parts.

    Parameters
    ----------
    array
        What is read.
    axis
        Its axis of samples.
    """

    def __init__(self, array: zarr.Array[Any], axis: int) -> None:
        self._array, self._axis = array, axis
        self.store = array.store
        self.shape = self._last(array.shape)
        self.chunks = self._last(array.chunks)
        self.dtype = array.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        *parts, samples = whole_key(key, len(self.shape))
        parts.insert(self._axis, samples)
        block = np.asarray(self._array[tuple(parts)])
        if not isinstance(samples, slice):
            return block
        return np.moveaxis(block, sum(isinstance(part, slice) for part in parts[: self._axis]), -1)

    def _last(self, values: tuple[int, ...]) -> tuple[int, ...]:
        return (*values[: self._axis], *values[self._axis + 1 :], values[self._axis])


def _open_tiff(path: Path) -> Opened:
    """Open the first series of a TIFF, or the largest one of a slide, with all its levels."""
    import tifffile

    with ExitStack() as stack:
        with _complete_tiff():
            file = stack.enter_context(tifffile.TiffFile(path))
            series = _main_series(file)
            if _is_decodable(series):
                opened = _describe_tiff(path, file, series)
            elif has_rasterio():
                return _open_by_gdal(path)
            else:
                name = getattr(series.keyframe.compression, "name", series.keyframe.compression)
                raise ImageError(f"{path} is compressed as {name}, which is not known here: save it with DEFLATE.")
        store = getattr(opened.levels[0], "store", None)
        if store is not None:
            # The file is open for as long as its pixels are wanted.
            weakref.finalize(store, file.close)
            stack.pop_all()
    return _checked(opened, path)


def _main_series(file: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """Return the series that is the image, its levels complete."""
    if not file.series:
        raise ValueError("it holds no pages")
    series, *others = file.series
    if series.kind in SLIDES:
        series, others = max(file.series, key=lambda series: series.nbytes), []
    # Overviews by other steps than tifffile looks for; those of a mask, which is of bits, and thumbnails are none.
    for other in others:
        page = other.keyframe
        if page.is_reduced and (other.axes, other.dtype) == (series.axes, series.dtype):
            series.levels += [level for level in other.levels if _fits(series.shape, level.shape, series.axes.lower())]
    series.levels.sort(key=lambda level: -level.size)
    _check_extent(series)
    return series


def _check_extent(series: tifffile.TiffPageSeries) -> None:
    """Refuse a file that ends before its pixels do, as far as the first and last page of each level tell."""
    for level in series.levels:
        for page in (level[0], level[-1]):
            if page is not None and len(page.dataoffsets):
                ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
                if max(ends) > page.parent.filehandle.size:
                    raise ValueError("its end is missing")


def _is_decodable(series: tifffile.TiffPageSeries) -> bool:
    import tifffile

    try:
        return all(callable(tifffile.TIFF.DECOMPRESSORS[level.keyframe.compression]) for level in series.levels)
    except KeyError:
        return False


def _describe_tiff(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Opened:
    levels = _tiff_levels(path, file, series)
    axes = _tiff_axes(series)
    # Colours in planes of their own are put last, where everything expects colours.
    planar = axes.find("s") if axes is not None else -1
    if axes is not None and 0 <= planar < len(axes) - 1:
        axes = f"{axes[:planar]}{axes[planar + 1 :]}s"
        levels = tuple(
            np.moveaxis(level, planar, -1) if isinstance(level, np.ndarray) else SamplesLast(level, planar)
            for level in levels
        )
    sizes, unit = _tiff_spacing(file, series)
    spacing = tuple(sizes.get(letter, 1.0) for letter in axes) if axes and sizes else None
    place = read_georeference(path) if _may_lie_somewhere(path, file) else None
    nodata = place.nodata if place else _tiff_nodata(file)
    return Opened(levels, axes, spacing, unit if spacing else None, nodata=nodata, georeference=place)


def _tiff_levels(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[Any, ...]:
    """Return a series as an array if it is small, mapped if its pixels lie in one piece, else as arrays of zarr."""
    import zarr

    if not series.is_pyramidal:
        if series.nbytes <= SMALL_TIFF:
            return (series.asarray(),)
        if series.keyframe.is_memmappable and series.dataoffset is not None:
            dtype = np.dtype(file.byteorder + series.dtype.char)
            return (np.memmap(path, dtype, "r", series.dataoffset, series.shape),)
    opened = zarr.open(series.aszarr(), mode="r")
    if isinstance(opened, zarr.Array):
        return (opened,)
    return tuple(_member(opened, str(number), path) for number in range(len(series.levels)))


def _tiff_axes(series: tifffile.TiffPageSeries) -> str | None:
    """Return one letter for each axis, or None where that cannot be said."""
    import tifffile

    page = series.keyframe
    letters = series.axes.lower()
    if "s" in letters:
        colours = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
        is_colour = page.photometric in colours and series.shape[letters.index("s")] in (3, 4)
        # One axis of channels or of colours: what else there is of such is like any other axis.
        letters = letters.replace("c", "q")
        if not is_colour:
            letters = letters.replace("s", "c")
    return _known_letters(letters)


def _known_letters(letters: str) -> str | None:
    """Return letters in which an unknown axis is depth, or time if depth is there already; None if that fails.

    Files name the axis along which one image follows the other as they like (I sequence, Q unknown, P position,
    A angle ...): for us they are all alike, since a plane is picked from them by its number.
    """
    found = list(letters)
    free = [letter for letter in "zt" if letter not in letters]
    for at in reversed(range(len(found))):
        if found[at] not in "tczyxs":
            if not free:
                return None
            found[at] = free.pop(0)
    is_image = len(set(found)) == len(found) and {"y", "x"} <= set(found)
    return "".join(found) if is_image else None


def _tiff_spacing(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[dict[str, float], str | None]:
    """Return the size of a pixel along z, y and x, as far as it is known, and the unit."""
    if file.is_ome and file.ome_metadata:
        return _ome_spacing(file.ome_metadata)
    page = series.keyframe
    each_x, each_y = (1 / float(count) if count else math.inf for count in page.get_resolution())
    if file.is_imagej:
        metadata = file.imagej_metadata or {}
        unit = _unit(metadata.get("unit"))
        # ImageJ leaves out a depth of 1; beside the dots per inch of a printer that would mean nothing.
        depth = _length(metadata.get("spacing")) or (each_x if unit in (None, "inch") else 1.0)
        sizes = {"z": depth, "y": each_y, "x": each_x}
    else:
        mpp = re.search(r"\|\s*MPP\s*=\s*([\d.]+)", page.description) if series.kind == "svs" else None
        size = _length(mpp[1]) if mpp else None
        scale = {2: 25400.0, 3: 10000.0}.get(page.resolutionunit, math.inf)
        sizes = {"y": size or scale * each_y, "x": size or scale * each_x}
        unit = "micrometer"
        if max(sizes["y"], sizes["x"]) > COARSEST_SEEN:
            return {}, None
    known = {letter: size for letter, size in sizes.items() if 0 < size < math.inf}
    return (known, unit) if {"y", "x"} <= set(known) else ({}, None)


def _ome_spacing(xml: str) -> tuple[dict[str, float], str | None]:
    import tifffile

    try:
        images: Any = tifffile.xml2dict(xml)["OME"]["Image"]
        pixels = dict((images[0] if isinstance(images, list) else images)["Pixels"])
    except (SyntaxError, LookupError, TypeError, ValueError):  # The pixels can be read without.
        return {}, None
    sizes, units = {}, {}
    for letter in "zyx":
        size = _length(pixels.get(f"PhysicalSize{letter.upper()}"))
        if size is not None:
            sizes[letter] = size
            units[letter] = _unit(pixels.get(f"PhysicalSize{letter.upper()}Unit", "µm"))
    if not {"y", "x"} <= set(sizes):
        return {}, None
    sizes.setdefault("z", sizes["x"])
    return _in_one_unit(sizes, units)


def _in_one_unit(sizes: dict[str, float], units: Mapping[str, str | None]) -> tuple[dict[str, float], str | None]:
    """Return lengths in the unit of the x axis, where units are known."""
    unit = units.get("x")
    scale = MICROMETRES.get(unit or "")
    if scale is not None:
        sizes = {
            letter: size * MICROMETRES.get(units.get(letter) or "", scale) / scale for letter, size in sizes.items()
        }
    return sizes, unit


def _length(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


def _unit(sign: Any) -> str | None:
    """Return the name of a unit of length; None where there is none."""
    text = str(sign or "").strip()
    text = SIGNS.get(text.lower(), text)
    return None if text.lower() in ("", "pixel", "pixels", "reference frame") else UNITS.get(text, text)


def _may_lie_somewhere(path: Path, file: tifffile.TiffFile) -> bool:
    """Say whether GDAL could know where a TIFF lies: by its tags, or by a file beside it."""
    beside = [path.with_suffix(suffix) for suffix in WORLD_FILES] + [path.with_name(f"{path.name}.aux.xml")]
    return any(code in file.pages.first.tags for code in GEO_TAGS) or any(other.exists() for other in beside)


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
    thread = threading.get_ident()
    handler.addFilter(lambda record: record.thread == thread)
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


def _open_url(url: str) -> Opened:
    if "?" in url:
        raise ImageError(f"{url} has a query, and only plain URLs are opened: leave out the ? and what follows it.")
    if url.lower().rstrip("/").endswith((".zip", ".ozx")):
        raise ImageError(f"{url} is a zip, and those are opened from disk alone: download it.")
    return _open_zarr(url)


def _open_zarr(where: str) -> Opened:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Codecs and files that zarr does not know and that are not asked for.
        return _open_node(_node(where), where.rstrip("/"))


def _node(where: str) -> zarr.Group | zarr.Array[Any]:
    import zarr

    if not where.lower().endswith((".zip", ".ozx")) or Path(where).is_dir():
        return zarr.open(where, mode="r")
    store = zarr.storage.ZipStore(where, mode="r")
    try:
        return zarr.open(store, mode="r")
    except FileNotFoundError:
        # Zipped with the folder that it was in.
        import zipfile

        with zipfile.ZipFile(where) as archive:
            folders = {name.split("/")[0] for name in archive.namelist()}
        if len(folders) != 1:
            raise
        return zarr.open(store, path=folders.pop(), mode="r")


def _open_node(node: zarr.Group | zarr.Array[Any], where: str) -> Opened:
    """Open an array, an OME-Zarr image, or the one image that a group holds."""
    import zarr

    if isinstance(node, zarr.Array):
        return _checked(Opened((node,)), where)
    attributes: dict[str, Any] = dict(node.attrs)
    ome = attributes.get("ome", attributes)
    if "bioformats2raw.layout" in ome and "0" in node:
        inner = node["0"]
        return _open_node(inner, f"{where}/0")
    if ome.get("multiscales"):
        return _open_multiscale(node, ome, where)
    _refuse_collection(ome, where)
    names = sorted(node.array_keys())
    if len(names) == 1:
        return _checked(Opened((_member(node, names[0], where),)), where)
    groups = [] if names else sorted(node.group_keys())
    if not names and not groups:
        raise ImageError(
            f"{where} is a zarr group and holds nothing, none of what an image is made of: check the path."
        )
    kind, listed = "groups" if groups else "arrays", ", ".join((names or groups)[:5])
    raise ImageError(f"{where} is a zarr group and not one image: give the path of one of its {kind} ({listed}).")


def _refuse_collection(ome: Any, where: str) -> None:
    """Refuse a plate, a well and a group of label images, with the path of one of the images that they hold."""
    plate, well, labels = (ome.get(name) for name in ("plate", "well", "labels"))
    if plate is None and well is None and not labels:
        return
    try:
        if labels:
            kind, inner = "label images", str(labels[0])
        elif plate is not None:
            kind, inner = "wells", f"{plate['wells'][0]['path']}/0"
        else:
            kind, inner = "fields", str(well["images"][0]["path"])
    except (IndexError, KeyError, TypeError):
        raise ImageError(f"{where} is a plate or a well that names no image: give the path of an image.") from None
    if where.lower().endswith((".zip", ".ozx")):
        raise ImageError(f"{where} holds many {kind}: unpack it, and give the path of one of them, such as {inner}.")
    raise ImageError(f"{where} holds many {kind}: give the path of one of them, such as {where}/{inner}.")


def _open_multiscale(node: zarr.Group, ome: dict[str, Any], where: str) -> Opened:
    """Open an OME-Zarr image by its metadata (version 0.4 or 0.5)."""
    multiscale = ome["multiscales"][0]
    datasets = multiscale["datasets"]
    finest = f"{where}/{datasets[0]['path']}"
    mend = f"mend the metadata, or give {finest}, the finest level alone"
    levels = tuple(_member(node, str(dataset["path"]), where) for dataset in datasets)
    ndim = levels[0].ndim
    letters = _ome_letters(multiscale.get("axes", []), ndim)
    scales = _scales(multiscale, datasets, ndim)
    factors = None
    if scales is not None:
        factors = tuple(tuple(_rounded(a / b) for a, b in zip(scale, scales[0], strict=True)) for scale in scales)
        _check_origins(multiscale, datasets, scales, where, mend)
    spacing, unit = _ome_zarr_spacing(letters, scales, multiscale)
    channels = _channels(ome)
    opened = Opened(
        levels,
        letters,
        spacing,
        unit,
        factors,
        tuple(_window(channel) for channel in channels),
        tuple(str(channel.get("color", "FFFFFF")) for channel in channels),
        tuple(str(channel.get("label", number)) for number, channel in enumerate(channels)),
    )
    return _checked(opened, where, mend)


def _ome_letters(axes: Sequence[Any], ndim: int) -> str | None:
    """Return one letter for each axis by names and types; None where the metadata do not fit the arrays."""
    kinds = {"time": "t", "channel": "c"}
    described = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    names = [kinds.get(str(axis.get("type")), str(axis.get("name", "")).lower()) for axis in described]
    # Longer names and those of other things, such as "angle", are unknown letters.
    return _known_letters("".join(name if len(name) == 1 else "q" for name in names)) if len(names) == ndim else None


def _ome_zarr_spacing(
    letters: str | None, scales: Sequence[Sequence[float]] | None, multiscale: dict[str, Any]
) -> tuple[tuple[float, ...] | None, str | None]:
    if letters is None or scales is None:
        return None, None
    sizes = dict(zip(letters, scales[0], strict=True))
    units = {
        letter: _unit(axis.get("unit"))
        for letter, axis in zip(letters, multiscale["axes"], strict=True)
        if isinstance(axis, dict)
    }
    space, unit = _in_one_unit({letter: sizes[letter] for letter in sizes if letter in "zyx"}, units)
    sizes |= space
    return tuple(sizes[letter] for letter in letters), unit


def _scales(multiscale: dict[str, Any], datasets: Sequence[Any], ndim: int) -> list[list[float]] | None:
    """Return the size of a pixel of each level along each axis, or None where one does not say."""
    whole = _transformation(multiscale, "scale", ndim) or [1.0] * ndim
    found = [_transformation(dataset, "scale", ndim) for dataset in datasets]
    if any(scale is None or min(scale) <= 0 for scale in (whole, *found)):
        return None
    return [[a * b for a, b in zip(scale, whole, strict=True)] for scale in found if scale is not None]


def _check_origins(
    multiscale: dict[str, Any],
    datasets: Sequence[Any],
    scales: Sequence[Sequence[float]],
    where: str,
    mend: str,
) -> None:
    """Refuse levels that do not lie over each other: beside the finest by more than a pixel of their own.

    By less they may, since some writers say where the first pixel's centre is and others where its edge is.
    """
    ndim = len(scales[0])
    whole = _transformation(multiscale, "scale", ndim) or [1.0] * ndim
    origins = [_transformation(dataset, "translation", ndim) or [0.0] * ndim for dataset in datasets]
    for number, (origin, scale) in enumerate(zip(origins, scales, strict=True)):
        for at, first, size, outer in zip(origin, origins[0], scale, whole, strict=True):
            if abs(at - first) * outer > size * (1 + 1e-6):
                raise ImageError(f"Level {number} of {where} is said to lie beside the finest one: {mend}.")


def _transformation(entry: dict[str, Any], kind: str, ndim: int) -> list[float] | None:
    for transformation in entry.get("coordinateTransformations", []):
        if transformation.get("type") == kind:
            values = [float(value) for value in transformation[kind]]
            if len(values) == ndim and all(math.isfinite(value) for value in values):
                return values
    return None


def _rounded(factor: float) -> float:
    return float(round(factor)) if abs(factor - round(factor)) < 1e-4 else factor


def _channels(ome: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is said of each channel's look, or nothing: an image can be opened without it."""
    omero = ome.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    listed = isinstance(channels, list) and all(isinstance(channel, dict) for channel in channels)
    return channels if listed and channels else []


def _window(channel: dict[str, Any]) -> tuple[float, float] | None:
    try:
        low, high = float(channel["window"]["start"]), float(channel["window"]["end"])
    except (KeyError, TypeError, ValueError):
        return None
    return (low, high) if low < high else None


def _member(group: zarr.Group, name: str, where: str | Path) -> zarr.Array[Any]:
    import zarr

    member = group.get(name)
    if not isinstance(member, zarr.Array):
        raise ImageError(f"{where} says that its image is {name!r}, which is no array: copy the store again, whole.")
    return member
