"""Choose the image of a TIFF among its series: not its label, macro or thumbnail, and with all pages."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.errors import ImageError
from napari_sam.images.axes.names import known_letters
from napari_sam.images.source import fits

if TYPE_CHECKING:
    import tifffile

# Slide formats, with a label and an overview of the glass beside the tissue: the largest image is used.
SLIDES = ("svs", "scn", "bif", "qpi", "philips", "ndpi", "lsm")
ACCESSORIES = {"label", "macro", "thumbnail", "overview", "preview", "barcode"}
# An image with a smaller share of the pixels of the largest one is its overview, or a label.
OVERVIEW = 0.5


def main_series(path: Path, file: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Return the series of the image, or several of equal shape (positions of a plate), with complete levels.

    Raises
    ------
    ImageError
        Several images of other sizes are there, or pages are missing.
    """
    found = [series for series in file.series if _is_image(series)]
    if not found:
        raise ValueError("it holds no pages")
    chosen = _chosen(path, _with_hidden(file, found))
    for series in chosen:
        _add_overviews(series, [other for other in file.series if other not in chosen])
        for level in series.levels:
            _check_pages(path, level)
    return chosen


def pixels_of(series: tifffile.TiffPageSeries) -> int:
    """Return the number of pixels of a series, samples not counted."""
    lengths = zip(series.axes, series.shape, strict=True)
    return math.prod(length for letter, length in lengths if letter != "S")


def _is_image(series: tifffile.TiffPageSeries) -> bool:
    is_mask = bool(series.keyframe.subfiletype & 4) or series.keyframe.photometric == 4
    return not is_mask and {"Y", "X"} <= set(series.axes)


def _with_hidden(file: tifffile.TiffFile, found: list[tifffile.TiffPageSeries]) -> list[tifffile.TiffPageSeries]:
    """Add images of full size that are SubIFDs of a reduced first page."""
    import tifffile

    first = found[0].keyframe
    known = {series.keyframe.offset for series in file.series}
    hidden = []
    for page in first.pages or () if first.subifds else ():
        is_larger = math.prod(page.shape) > math.prod(first.shape)
        if isinstance(page, tifffile.TiffPage) and is_larger and not page.is_reduced and page.offset not in known:
            hidden.append(tifffile.TiffPageSeries([page], page.shape, page.dtype, page.axes, kind="generic"))
    return [*found, *hidden]


def _chosen(path: Path, found: Sequence[tifffile.TiffPageSeries]) -> list[tifffile.TiffPageSeries]:
    """Return the largest image, or all of its size if they have one shape; raise an error with a list for others."""
    full = [series for series in found if not _is_accessory(series)] or list(found)
    largest = max(full, key=pixels_of)
    rivals = [series for series in full if pixels_of(series) > OVERVIEW * pixels_of(largest)]
    if len(rivals) == 1 or largest.kind in SLIDES:
        return [largest]
    forms = {(series.axes, series.shape, str(series.dtype), len(series.levels)) for series in rivals}
    if len(forms) == 1 and known_letters(f"q{largest.axes.lower()}") is not None:
        return rivals
    listed = ", ".join(_described(number, series) for number, series in enumerate(rivals[:4], 1))
    more = f" and {len(rivals) - 4} more" if len(rivals) > 4 else ""
    raise ImageError(
        f"{path} holds {len(rivals)} images, {listed}{more}, and the one to use is ambiguous: save that one as "
        f"a TIFF of its own, or give its pixels, in Python tifffile.imread(path, series=0) for the first."
    )


def _is_accessory(series: tifffile.TiffPageSeries) -> bool:
    words = set(re.split(r"[^a-z]+", series.name.lower()))
    return bool(series.keyframe.is_reduced) or not words.isdisjoint(ACCESSORIES)


def _described(number: int, series: tifffile.TiffPageSeries) -> str:
    size = f"{' x '.join(str(length) for length in series.shape)}, {series.dtype}"
    return f"{series.name} ({size})" if series.name else f"number {number} ({size})"


def _add_overviews(series: tifffile.TiffPageSeries, others: Sequence[tifffile.TiffPageSeries]) -> None:
    """Add overviews as levels whose factors tifffile does not expect; bit masks and thumbnails are left out."""
    for other in others:
        page = other.keyframe
        if page.is_reduced and (other.axes, other.dtype) == (series.axes, series.dtype):
            fitting = [level for level in other.levels if fits(series.shape, level.shape, series.axes.lower())]
            series.levels += fitting
    series.levels.sort(key=lambda level: -level.size)


def _check_pages(path: Path, level: tifffile.TiffPageSeries) -> None:
    """Refuse a level with missing pages or truncated files."""
    pages = list(getattr(level, "_pages", ()))
    missing = sum(page is None for page in pages)
    if missing:
        raise ImageError(
            f"{path} lacks {missing} of its {len(pages)} planes: copy the other files of the image beside it, or "
            "export it again."
        )
    size = math.prod(level.get_shape(squeeze=False))
    in_page = max(math.prod(level.keyframe.shape), 1)
    start = level.dataoffset
    is_whole = start is not None
    if not is_whole and len(level) * in_page < size:
        raise ValueError("pages are missing")
    last = {id(page.parent): page for page in pages}
    for page in [level[0], *last.values(), *([] if is_whole else [level[-1]])]:
        if page is not None and len(page.dataoffsets):
            ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
            if max(ends) > page.parent.filehandle.size:
                raise ValueError("its end is missing")
    if start is not None and start + size * level.dtype.itemsize > level.keyframe.parent.filehandle.size:
        raise ValueError("its end is missing")
