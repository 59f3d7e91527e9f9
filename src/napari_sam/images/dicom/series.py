"""Series: the frames of one image among the files of a folder, in their order in space and time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import ImageError
from napari_sam.images.dicom.headers import Frame, directions_of, frames_of, pixel_spacing, plane_distance, read_header
from napari_sam.images.files.inner_names import split_name
from napari_sam.images.files.local import existing
from napari_sam.images.files.unsupported_formats import head_of

MAX_FILES = 20000
MAX_LISTED = 4
# A folder is a series if one of so many files is a DICOM file.
MAX_LOOKED_AT = 20
# Two frames lie in one plane where they are closer than this, in millimeters.
SAME_PLANE = 1e-3
# Steps between planes may differ by this share before planes count as missing.
EVEN = 0.1


@dataclass(slots=True)
class Series:
    """Frames of one image.

    Parameters
    ----------
    header
        Of the first file.
    files
        All files.
    frames
        Of all files, in no order.
    """

    header: Any
    files: list[Path] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Number and description, as viewers list series."""
        number, text = (str(self.header.get(key) or "").strip() for key in ("SeriesNumber", "SeriesDescription"))
        return f"number {number or '?'}{f' {text!r}' if text else ''} ({len(self.frames)} images)"


@dataclass(frozen=True, slots=True, eq=False)
class OrderedFrames:
    """The frames of an image in order.

    Parameters
    ----------
    frames
        One row for each time, with a frame for each plane.
    normal_step
        Vector in millimeters from one plane to the next, or None where positions are not known.
    """

    frames: tuple[tuple[Frame, ...], ...]
    normal_step: tuple[float, float, float] | None = None


def is_dicom(path: Path) -> bool:
    """Return whether a file begins like a DICOM file."""
    return head_of(path, 132)[128:] == b"DICM"


def holds_dicom(folder: Path) -> bool:
    """Return whether one of the first files of a folder is a DICOM file."""
    entries = sorted(itertools.islice(folder.iterdir(), MAX_FILES))[:MAX_LOOKED_AT]
    return any(entry.name.upper() != "DICOMDIR" and entry.is_file() and is_dicom(entry) for entry in entries)


def is_dicom_image(path: Path) -> bool:
    """Return whether a path is a DICOM file, a folder with one, or a series in it, as FOLDER:/NAME."""
    file, _ = split_name(path)
    return holds_dicom(file) if file.is_dir() else file.is_file() and is_dicom(file)


def series_in(folder: Path, wanted: str | None = None) -> Series:
    """Return the only series of a folder, or the one that is named.

    Parameters
    ----------
    folder
        Its files may have any names; others than DICOM are left out.
    wanted
        Number or UID of the series.

    Raises
    ------
    ImageError
        There are several series or none, or files are damaged.
    """
    found: dict[Any, Series] = {}
    known: set[str] = set()
    entries = sorted(itertools.islice(folder.iterdir(), MAX_FILES + 1))
    if len(entries) > MAX_FILES:
        raise ImageError(f"{folder} holds more than {MAX_FILES} files: put the series into a folder of its own.")
    for path in entries:
        if not path.is_file() or path.name.upper() == "DICOMDIR" or not existing(path) or not is_dicom(path):
            continue
        header = read_header(path)
        instance = str(header.get("SOPInstanceUID", path))
        if instance in known:
            continue  # A copy of a file.
        known.add(instance)
        series = found.setdefault(_form_of(header), Series(header))
        series.files.append(path)
        series.frames += frames_of(path, header)
    return _chosen(folder, list(found.values()), wanted)


def frames_of_files(files: Sequence[Path]) -> OrderedFrames:
    """Return the frames of the files of one image.

    Raises
    ------
    ImageError
        As in `ordered`.
    """
    headers = [read_header(path) for path in files]
    frames = [frame for path, header in zip(files, headers, strict=True) for frame in frames_of(path, header)]
    return ordered(files[0].parent, headers[0], frames)


def frames_in_order(path: Path, wanted: str | None = None) -> tuple[Any, list[Path], OrderedFrames]:
    """Return the first header, the files and the frames of an image.

    Parameters
    ----------
    path
        A file, or the folder of a series.
    wanted
        Number or UID of the series, where a folder holds several.

    Raises
    ------
    ImageError
        As in `series_in` and `ordered`.
    """
    if path.is_dir():
        series = series_in(path, wanted)
        header, files, frames = series.header, series.files, series.frames
    else:
        header, files = read_header(path), [path]
        frames = frames_of(path, header)
    return header, files, ordered(path, header, frames)


def ordered(where: Path, header: Any, frames: Sequence[Frame]) -> OrderedFrames:
    """Sort frames by their position along the normal of the planes, and those at one position by time.

    Raises
    ------
    ImageError
        Planes are missing, or have different numbers of frames.
    """
    directions = directions_of(header)
    by_time = sorted(frames, key=lambda frame: frame.order)
    if directions is None or any(frame.position is None for frame in frames):
        return OrderedFrames(tuple((frame,) for frame in by_time))
    normal = np.cross(*directions)
    planes: list[list[Frame]] = []
    last = -np.inf
    for frame in sorted(by_time, key=lambda frame: float(normal @ np.array(frame.position))):
        at = float(normal @ np.array(frame.position))
        if at - last > SAME_PLANE:
            planes.append([])
            last = at
        planes[-1].append(frame)
    counts = {len(plane) for plane in planes}
    if len(counts) > 1:
        raise ImageError(
            f"{where} has {min(counts)} to {max(counts)} images at one place, so some are missing or belong to another "
            "series: copy all files of the series, and put others into a folder of their own."
        )
    places = [float(normal @ np.array(plane[0].position)) for plane in planes]
    _check_even(where, places)
    step = _step(planes, normal, plane_distance(header))
    rows = zip(*(sorted(plane, key=lambda frame: frame.order) for plane in planes), strict=True)
    return OrderedFrames(tuple(rows), step)


def _step(planes: Sequence[Sequence[Frame]], normal: Any, stated: float | None) -> tuple[float, float, float]:
    """Return the vector from one plane to the next, which is not the normal where the gantry was tilted."""
    if len(planes) > 1:
        first, last = (np.array(planes[at][0].position) for at in (0, -1))
        vector = (last - first) / (len(planes) - 1)
    else:
        vector = normal * (stated or 1.0)
    x, y, z = map(float, vector)
    return x, y, z


def _check_even(where: Path, places: Sequence[float]) -> None:
    """Refuse planes with a gap in which others are missing: they would be taken for neighbors."""
    steps = np.diff(places)
    if len(steps) < 2:
        return
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])  # Of two, the smaller one is a step and no gap.
    gaps = np.rint(steps / usual)
    is_gap = (gaps >= 2) & (np.abs(steps / usual - gaps) < EVEN * gaps)
    if is_gap.any():
        at = int(np.flatnonzero(is_gap)[0])
        raise ImageError(
            f"{where} lacks {int((gaps[is_gap] - 1).sum())} of its planes, the first between {places[at]:.1f} and "
            f"{places[at + 1]:.1f} mm: copy all files of the series."
        )


def _form_of(header: Any) -> tuple[Any, ...]:
    """Return what the frames of an image have in common."""
    directions, spacing = directions_of(header), pixel_spacing(header)
    along = None if directions is None else tuple(np.round(directions, 2).ravel() + 0.0)
    return (
        str(header.get("SeriesInstanceUID", "")),
        int(header.Rows),
        int(header.Columns),
        int(header.get("SamplesPerPixel", 1)),
        int(header.get("BitsAllocated", 16)),
        along,
        None if spacing is None else tuple(round(size, 4) for size in spacing),
    )


def _chosen(folder: Path, found: Sequence[Series], wanted: str | None) -> Series:
    if not found:
        raise ImageError(f"{folder} holds no DICOM images: give the folder of a series.")
    fitting = [series for series in found if wanted in (None, *_names_of(series))]
    if len(fitting) == 1:
        return fitting[0]
    several = fitting or found
    numbers = [str(series.header.get("SeriesNumber") or "") for series in several]
    is_unique = bool(numbers[0]) and numbers.count(numbers[0]) == 1
    name = numbers[0] if is_unique else str(several[0].header.get("SeriesInstanceUID", ""))
    listed = ", ".join(series.name for series in several[:MAX_LISTED])
    more = f" and {len(several) - MAX_LISTED} more" if len(several) > MAX_LISTED else ""
    uids = {str(series.header.get("SeriesInstanceUID", "")) for series in several}
    advice = (
        f"name one, as in {folder}:/{name}" if len(uids) > 1 else "put those of one form into a folder of their own"
    )
    many = "no such series, but" if not fitting else f"{len(several)} series:"
    raise ImageError(f"{folder} holds {many} {listed}{more}: {advice}.")


def _names_of(series: Series) -> tuple[str, ...]:
    keys = ("SeriesNumber", "SeriesInstanceUID")
    return tuple(str(series.header.get(key)) for key in keys if series.header.get(key) is not None)
