"""TIFF of any kind: series, levels, axes, pixel sizes."""

from __future__ import annotations

import logging
import math
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.errors import ImageError
from napari_sam.images.axes.names import known_letters
from napari_sam.images.axes.units import in_one_unit, length_of, unit_name
from napari_sam.images.files.external_references import MAX_XML_BYTES
from napari_sam.images.files.unsupported_formats import is_tiff
from napari_sam.images.lazy.blocks import whole_key
from napari_sam.images.lazy.levels import Stacked, dtype_of
from napari_sam.images.lazy.orientation import exchanges_axes, upright
from napari_sam.images.lazy.recoloring import Recoloring
from napari_sam.images.ome_zarr.reader import member
from napari_sam.images.pictures import open_picture
from napari_sam.images.rasters.gdal import band_names, has_rasterio
from napari_sam.images.rasters.reader import open_by_gdal
from napari_sam.images.source import ImageSource, checked
from napari_sam.images.tiff.colors import (
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    channels_shown,
    has_separate_chroma,
    is_colored,
    orientation_of,
    recoloring_of,
)
from napari_sam.images.tiff.geo_tags import has_geo_tags, place_of_tiff, stated_nodata
from napari_sam.images.tiff.ome_sizes import positions, time_step
from napari_sam.images.tiff.ome_xml import check_ome, metadata_file, ome_channels
from napari_sam.images.tiff.series import main_series

if TYPE_CHECKING:
    import tifffile
    import zarr

# Smaller TIFFs are read as a whole, which is faster than seeking in them.
SMALL_TIFF = 64 * 2**20
TIFF_SUFFIXES = {".tif", ".tiff", ".btf", ".tf2", ".tf8", ".ptif", ".ptiff", ".zif", ".lsm", ".stk", ".gel"} | {
    ".svs",
    ".ndpi",
    ".scn",
    ".bif",
    ".avs",
    ".qptiff",
}
# Log messages of tifffile about missing pages.
SIGNS_OF_MISSING_PAGES = ("invalid page offset", "failed to reshape", "contains index out of range", "are zeroed")
# Coarser resolution tags are settings of a printer or scanner, and not the size of pixels.
COARSEST_SEEN = 20.0


class SamplesLast:
    """Present an array with color samples in separate planes as one with samples last; still read in parts.

    Parameters
    ----------
    array
        File to read.
    axis
        Its axis of samples.
    """

    def __init__(self, array: zarr.Array[Any] | Stacked, axis: int) -> None:
        self._array, self._axis = array, axis
        self.store = getattr(array, "store", None)
        self.shape = self._last(array.shape)
        self.chunks = None if array.chunks is None else self._last(array.chunks)
        self.dtype = array.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        *parts, samples = whole_key(key, len(self.shape))
        parts.insert(self._axis, samples)
        block = np.asarray(self._array[tuple(parts)])
        if not isinstance(samples, slice):
            return block
        return np.moveaxis(block, sum(isinstance(part, slice) for part in parts[: self._axis]), -1)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[...], dtype)

    def _last(self, values: tuple[int, ...]) -> tuple[int, ...]:
        return (*values[: self._axis], *values[self._axis + 1 :], values[self._axis])


def open_tiff(path: Path, *, as_labels: bool = False) -> ImageSource:
    """Open the image of a TIFF with all its levels: the first one, or the largest if others are its overviews.

    Several images of the same form, such as positions of a plate, become one with an axis more.
    """
    with ExitStack() as stack:
        with _complete_tiff():
            file = stack.enter_context(_open_file(path))
            if file.is_ome and file.ome_metadata:
                whole = metadata_file(path, file.ome_metadata)
                if whole is not None:
                    file = stack.enter_context(_open_whole(path, whole))
                check_ome(path, file.ome_metadata or "", file.pages.first.samplesperpixel)
            chosen = main_series(path, file)
            undecodable = next((series for series in chosen if not _is_decodable(series)), None)
            if undecodable is not None:
                return _open_otherwise(path, undecodable)
            opened, raw = _describe_tiff(path, file, chosen, as_labels=as_labels)
        stores = [store for store in (getattr(level, "store", None) for level in raw) if store is not None]
        for store in stores[:1]:
            # The file stays open as long as its pixels may be read.
            weakref.finalize(store, file.close)
            stack.pop_all()
    return checked(opened, path)


def _open_file(path: Path) -> tifffile.TiffFile:
    import tifffile

    try:
        return tifffile.TiffFile(path)
    except IndexError:
        # Saved again by another program: the tags are those of a Zeiss LSM, but the pages are not.
        return tifffile.TiffFile(path, is_lsm=False)


def _open_whole(path: Path, metadata: Path) -> tifffile.TiffFile:
    """Open a file of a multi-file OME-TIFF by the metadata in another of its files."""
    import tifffile

    if is_tiff(metadata):
        with tifffile.TiffFile(metadata) as other:
            xml = other.ome_metadata or ""
    else:
        xml = metadata.read_text("utf-8") if metadata.stat().st_size <= MAX_XML_BYTES else ""
    if not xml or "BinaryOnly" in xml:
        raise ImageError(f"{path} refers to {metadata.name}, which does not describe its image: copy that file again.")
    return tifffile.TiffFile(path, omexml=xml)


def _is_decodable(series: tifffile.TiffPageSeries) -> bool:
    import tifffile

    if has_separate_chroma(series.keyframe):
        return False
    try:
        return all(callable(tifffile.TIFF.DECOMPRESSORS[level.keyframe.compression]) for level in series.levels)
    except KeyError:
        return False


def _open_otherwise(path: Path, series: tifffile.TiffPageSeries) -> ImageSource:
    """Open a TIFF that tifffile cannot decode with GDAL or Pillow."""
    if has_rasterio():
        with suppress(ImageError):
            return open_by_gdal(path)
    try:
        return open_picture(path, ("TIFF",))
    except Exception as error:
        name = getattr(series.keyframe.compression, "name", series.keyframe.compression)
        raise ImageError(f"{path} has the unsupported compression {name}: save it with DEFLATE.") from error


def _describe_tiff(
    path: Path, file: tifffile.TiffFile, chosen: Sequence[tifffile.TiffPageSeries], *, as_labels: bool
) -> tuple[ImageSource, tuple[Any, ...]]:
    """Return the image, and the arrays from which it was made."""
    series, page = chosen[0], chosen[0].keyframe
    raw = [_tiff_levels(path, file, part) for part in chosen]
    levels = raw[0] if len(raw) == 1 else tuple(_stacked(parts) for parts in zip(*raw, strict=True))
    letters = series.axes.lower() if len(raw) == 1 else f"q{series.axes.lower()}"
    place = place_of_tiff(path, file)
    nodata = place.nodata if place else stated_nodata(file)
    is_stored = as_labels and page.photometric in (PALETTE, WHITE_IS_ZERO)
    recoloring = None if is_stored else _recoloring(levels, letters, page, nodata)
    levels, axes, windows = _in_colors(levels, letters, page, recoloring)
    sizes, unit = _tiff_spacing(file, series)
    # The georeference of a map applies to the stored pixels, whatever the orientation, as in GDAL.
    turn = 1 if place or has_geo_tags(page) else orientation_of(file, page)
    if axes and "yx" in axes and turn != 1:
        levels = tuple(upright(level, turn, axes.index("y")) for level in levels)
        if exchanges_axes(turn) and sizes:
            sizes = {**sizes, "y": sizes["x"], "x": sizes["y"]}
    spacing = tuple(sizes.get(letter, 1.0) for letter in axes) if axes and sizes else None
    at = positions(_ome_pixels(file.ome_metadata), unit) if file.is_ome and file.ome_metadata and spacing else {}
    origin = tuple(at.get(letter, 0.0) for letter in axes or "")
    colors, names = _channel_looks(file, int(levels[0].shape[axes.index("c")])) if axes and "c" in axes else ((), ())
    opened = ImageSource(
        levels,
        axes,
        spacing,
        unit if spacing else None,
        windows=windows,
        colors=colors,
        channel_names=names or (band_names(path) if place and "c" in (axes or "") and has_rasterio() else ()),
        nodata=None if dtype_of(levels[0]).kind == "f" and page.photometric == PALETTE else nodata,
        georeference=place,
        origin=origin if any(origin) else None,
        time_unit="second" if "t" in sizes and "t" in (axes or "") else None,
        guessed_axes="".join(letter for letter in axes or "" if letter not in letters),
        shown_channels=channels_shown(page) if axes and "c" in axes else (),
    )
    return opened, tuple(level for part in raw for level in part)


def _in_colors(
    levels: tuple[Any, ...], letters: str, page: tifffile.TiffPage, recoloring: Recoloring | None
) -> tuple[tuple[Any, ...], str | None, tuple[tuple[float, float], ...]]:
    """Return levels of gray, RGB or channels, their axes, and contrast limits implied by the stored colors."""
    at = letters.find("s")
    samples = int(levels[0].shape[at]) if at >= 0 else 0
    is_color = samples > 0 and is_colored(page, samples)
    if at >= 0 and (is_color or (recoloring is not None and recoloring.samples)):
        levels, letters = _samples_last(levels, at), f"{letters[:at]}{letters[at + 1 :]}s"
    windows: tuple[tuple[float, float], ...] = ()
    if recoloring is not None:
        levels = tuple(recoloring(level) for level in levels)
        if recoloring.samples or recoloring.channels:
            is_color = recoloring.channels > 0
            letters = letters.removesuffix("s") + "s" * is_color
        if recoloring.dtype.kind == "f" and page.photometric == PALETTE:
            windows = ((0.0, 1.0),) * recoloring.channels
    elif samples and not is_color and page.photometric == RGB and page.dtype == np.uint8:
        windows = ((0.0, 255.0),) * samples
    return levels, _tiff_axes(letters, is_color=is_color), windows


def _stacked(parts: Sequence[Any]) -> Any:
    in_memory = all(isinstance(part, np.ndarray) and not isinstance(part, np.memmap) for part in parts)
    return np.stack(parts) if in_memory else Stacked(parts)


def _recoloring(
    levels: tuple[Any, ...], letters: str, page: tifffile.TiffPage, nodata: float | None
) -> Recoloring | None:
    """Return the conversion of the stored pixels to gray or RGB; None for channels with a palette each."""
    samples = int(levels[0].shape[letters.index("s")]) if "s" in letters else 0
    return None if page.photometric == PALETTE and "c" in letters else recoloring_of(page, samples, nodata)


def _samples_last(levels: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    """Move colors in separate planes to the last axis."""
    if axis == len(levels[0].shape) - 1:
        return levels
    return tuple(
        np.moveaxis(level, axis, -1) if isinstance(level, np.ndarray) else SamplesLast(level, axis) for level in levels
    )


def _tiff_levels(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[Any, ...]:
    """Return a series as an array if it is small, as a memory map if it is contiguous, else as zarr arrays."""
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


def _tiff_axes(letters: str, *, is_color: bool) -> str | None:
    """Return one letter for each axis, or None if they are unknown."""
    if "s" in letters:
        # One axis holds channels or colors; further ones are treated like other axes.
        letters = letters.replace("c", "q")
        if not is_color:
            letters = letters.replace("s", "c")
    return known_letters(letters)


def _channel_looks(file: tifffile.TiffFile, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return colors and names of the channels, if OME or ImageJ metadata give them for all."""
    if file.is_ome and file.ome_metadata:
        return ome_channels(file.ome_metadata, count)
    tables = (file.imagej_metadata or {}).get("LUTs") if file.is_imagej else None
    if not isinstance(tables, (list, tuple)) or len(tables) != count:
        return (), ()
    brightest = [np.asarray(table)[:, -1] for table in tables if np.ndim(table) == 2 and len(table) == 3]
    colors = tuple("".join(f"{int(value):02X}" for value in color) for color in brightest)
    return (colors if len(set(colors)) > 1 and len(colors) == count else ()), ()


def _tiff_spacing(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[dict[str, float], str | None]:
    """Return the size of a pixel along z, y and x, as far as it is known, and the unit."""
    if file.is_ome and file.ome_metadata:
        return _ome_spacing(file.ome_metadata)
    page = series.keyframe
    each_x, each_y = (1 / float(count) if count else math.inf for count in page.get_resolution())
    if file.is_imagej:
        metadata = file.imagej_metadata or {}
        unit = unit_name(metadata.get("unit"))
        # ImageJ leaves out a depth of 1, which is meaningless beside the dots per inch of a printer.
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
    """Return the element Pixels of the first image; an empty one if the metadata are damaged."""
    import tifffile

    try:
        images: Any = tifffile.xml2dict(xml)["OME"]["Image"]
        return dict((images[0] if isinstance(images, list) else images)["Pixels"])
    except (SyntaxError, LookupError, TypeError, ValueError):  # The pixels can be read without it.
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


@contextmanager
def _complete_tiff() -> Iterator[None]:
    """Refuse a TIFF with missing pages, which tifffile only logs."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
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
        if any(sign in record.getMessage() for sign in SIGNS_OF_MISSING_PAGES):
            raise ValueError("pages are missing")
