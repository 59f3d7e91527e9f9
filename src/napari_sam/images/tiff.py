"""TIFF of any kind: series, levels, axes, pixel sizes."""

from __future__ import annotations

import logging
import math
import re
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.geo import has_rasterio, read_georeference, whole_key
from napari_sam.images.ome_sizes import positions, time_step
from napari_sam.images.ome_zarr import member
from napari_sam.images.raster import open_by_gdal
from napari_sam.images.sidecars import has_sidecar
from napari_sam.images.source import Opened, checked, fits, known_letters
from napari_sam.images.units import in_one_unit, length_of, unit_name

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
GDAL_NODATA = 42113
# Pixel scale, tie points, transform, keys and sensor coefficients.
GEO_TAGS = (33550, 33922, 34264, 34735, 50844, GDAL_NODATA)
# Files of these kinds hold a label and an overview of the glass beside the tissue: the largest image is meant.
SLIDES = ("svs", "scn", "bif", "qpi", "philips")
# Coarser than this, a resolution tag tells of a printer or a scanner's setting, not of what is seen.
COARSEST_SEEN = 20.0


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


def open_tiff(path: Path) -> Opened:
    """Open the first series of a TIFF, or the largest one of a slide, with all its levels."""
    import tifffile

    with ExitStack() as stack:
        with _complete_tiff():
            file = stack.enter_context(tifffile.TiffFile(path))
            series = _main_series(file)
            if _is_decodable(series):
                opened = _describe_tiff(path, file, series)
            elif has_rasterio():
                return open_by_gdal(path)
            else:
                name = getattr(series.keyframe.compression, "name", series.keyframe.compression)
                raise ImageError(f"{path} is compressed as {name}, which is not known here: save it with DEFLATE.")
        store = getattr(opened.levels[0], "store", None)
        if store is not None:
            # The file is open for as long as its pixels are wanted.
            weakref.finalize(store, file.close)
            stack.pop_all()
    return checked(opened, path)


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
            series.levels += [level for level in other.levels if fits(series.shape, level.shape, series.axes.lower())]
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
    place = read_georeference(path, "GTiff") if _may_lie_somewhere(path, file) else None
    nodata = place.nodata if place else _tiff_nodata(file)
    at = positions(_ome_pixels(file.ome_metadata), unit) if file.is_ome and file.ome_metadata and spacing else {}
    origin = tuple(at.get(letter, 0.0) for letter in axes or "")
    guessed = "".join(letter for letter in axes or "" if letter not in series.axes.lower())
    return Opened(
        levels,
        axes,
        spacing,
        unit if spacing else None,
        nodata=nodata,
        georeference=place,
        origin=origin if any(origin) else None,
        time_unit="second" if "t" in sizes and (axes or "").count("t") else None,
        guessed_axes=guessed,
    )


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
    return tuple(member(opened, str(number), path) for number in range(len(series.levels)))


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
    return known_letters(letters)


def _tiff_spacing(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[dict[str, float], str | None]:
    """Return the size of a pixel along z, y and x, as far as it is known, and the unit."""
    if file.is_ome and file.ome_metadata:
        return _ome_spacing(file.ome_metadata)
    page = series.keyframe
    each_x, each_y = (1 / float(count) if count else math.inf for count in page.get_resolution())
    if file.is_imagej:
        metadata = file.imagej_metadata or {}
        unit = unit_name(metadata.get("unit"))
        # ImageJ leaves out a depth of 1; beside the dots per inch of a printer that would mean nothing.
        depth = length_of(metadata.get("spacing")) or (each_x if unit in (None, "inch") else 1.0)
        sizes = {"z": depth, "y": each_y, "x": each_x}
    else:
        mpp = re.search(r"\|\s*MPP\s*=\s*([\d.]+)", page.description) if series.kind == "svs" else None
        size = length_of(mpp[1]) if mpp else None
        scale = {2: 25400.0, 3: 10000.0}.get(page.resolutionunit, math.inf)
        sizes = {"y": size or scale * each_y, "x": size or scale * each_x}
        unit = "micrometer"
        if max(sizes["y"], sizes["x"]) > COARSEST_SEEN:
            return {}, None
    known = {letter: size for letter, size in sizes.items() if 0 < size < math.inf}
    return (known, unit) if {"y", "x"} <= set(known) else ({}, None)


def _ome_pixels(xml: str) -> dict[str, Any]:
    """Return the element Pixels of the first image; an empty one where the metadata are damaged."""
    import tifffile

    try:
        images: Any = tifffile.xml2dict(xml)["OME"]["Image"]
        return dict((images[0] if isinstance(images, list) else images)["Pixels"])
    except (SyntaxError, LookupError, TypeError, ValueError):  # The pixels can be read without.
        return {}


def _ome_spacing(xml: str) -> tuple[dict[str, float], str | None]:
    pixels = _ome_pixels(xml)
    sizes, units = {}, {}
    for letter in "zyx":
        size = length_of(pixels.get(f"PhysicalSize{letter.upper()}"))
        if size is not None:
            sizes[letter] = size
            units[letter] = unit_name(pixels.get(f"PhysicalSize{letter.upper()}Unit", "µm"))
    if not {"y", "x"} <= set(sizes):
        return {}, None
    sizes.setdefault("z", sizes["x"])
    step = time_step(pixels)
    sizes, unit = in_one_unit(sizes, units)
    return sizes | ({} if step is None else {"t": step}), unit


def _may_lie_somewhere(path: Path, file: tifffile.TiffFile) -> bool:
    """Say whether GDAL could know where a TIFF lies: by its tags, or by a file beside it."""
    return any(code in file.pages.first.tags for code in GEO_TAGS) or has_sidecar(path)


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
