"""Read NRRD volumes with pynrrd: plane by plane, or as a whole where they are compressed."""

from __future__ import annotations

import bz2
import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, first_line
from napari_sam.images.axes.anatomy import Anatomy
from napari_sam.images.axes.names import known_letters
from napari_sam.images.axes.units import MICROMETRES, unit_name
from napari_sam.images.files.external_references import check_beside
from napari_sam.images.lazy.rescaling import rescaled
from napari_sam.images.source import ImageSource, checked
from napari_sam.images.volumes.stored_pixels import decompressed, mapped

MAX_HEADER_BYTES = 2**20
# What pynrrd raises for a damaged header.
ERRORS = (ValueError, KeyError, TypeError, IndexError, AttributeError, UnicodeError)
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
TIMES = ("time",)
COLORS = {"RGB-color": 3, "RGBA-color": 4}
COMPONENTS = ("list", "vector", "covariant-vector", "normal", "point", "stub", "scalar", "none")
UNPACK = "save it without compression (encoding: raw)"


def open_nrrd(path: Path) -> ImageSource:
    """Open an NRRD file, or a header (.nhdr) with its pixels in one file beside it.

    The axes of the arrays are those of the file backwards: planes, rows and columns.

    Raises
    ------
    ImageError
        The header is damaged, or its pixels are missing, cut off or in several files.
    """
    header, start = _header_of(path)
    try:
        stored = _type_of(header)
        shape = tuple(int(length) for length in reversed(header["sizes"]))
    except ERRORS as error:
        raise _damaged(path, error) from error
    holder, offset = _holder_of(path, header, start)
    pixels = _pixels(holder, header, stored, shape, offset)
    axes = _axes_of(path, header, shape, stored)
    return _placed(ImageSource((rescaled(pixels),), axes), header, path)


def _header_of(path: Path) -> tuple[Mapping[str, Any], int]:
    """Return the header and the number of its bytes, at most a mebibyte."""
    import nrrd

    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
    ends = [at + len(end) for end in (b"\n\n", b"\r\n\r\n") if (at := head.find(end)) >= 0]
    if not ends and len(head) == MAX_HEADER_BYTES:
        raise ImageError(f"{path} has a header of more than {MAX_HEADER_BYTES // 2**20} MiB: export it again.")
    size = min(ends, default=len(head))
    try:
        lines = head[:size].decode("utf-8", "replace").splitlines()
        return nrrd.read_header(iter(lines)), size
    except (nrrd.NRRDError, *ERRORS) as error:
        raise _damaged(path, error) from error


def _type_of(header: Mapping[str, Any]) -> np.dtype[Any]:
    code = next((code for code, names in TYPES.items() if header["type"] in names), None)
    if code is None:
        raise ValueError(f"the type {header['type']!r} is no number")
    order = {"big": ">", "little": "<"}[header["endian"]] if code[-1] != "1" else ""
    return np.dtype(order + code)


def _holder_of(path: Path, header: Mapping[str, Any], start: int) -> tuple[Path, int]:
    """Return the file of the pixels and the bytes before the first one."""
    name = header.get("data file", header.get("datafile"))
    if name is None:
        return path, start
    if not isinstance(name, str) or name.startswith("LIST") or "%" in name:
        raise ImageError(f"{path} has its pixels in several files, which is not supported: save it as one .nrrd.")
    holder = check_beside(path, name)
    if not holder.is_file():
        raise ImageError(f"{path} has its pixels in {name}, which is missing: copy it beside the header.")
    return holder, 0


def _pixels(
    holder: Path, header: Mapping[str, Any], stored: np.dtype[Any], shape: Sequence[int], offset: int
) -> NDArray[Any]:
    lines = int(header.get("line skip", header.get("lineskip", 0)))
    skipped = int(header.get("byte skip", header.get("byteskip", 0)))
    encoding = header["encoding"]
    if encoding == "raw":
        if skipped == -1:
            offset = holder.stat().st_size - math.prod(shape) * stored.itemsize
        elif lines or skipped:
            with holder.open("rb") as file:
                file.seek(offset)
                _skip_lines(file, lines)
                offset = file.tell() + skipped
        return mapped(holder, stored, shape, offset)
    openers: dict[str, Any] = {"gzip": gzip.GzipFile, "gz": gzip.GzipFile, "bzip2": bz2.BZ2File, "bz2": bz2.BZ2File}
    if encoding not in openers:
        raise ImageError(f"{holder} stores its pixels as {encoding}, which is not supported: {UNPACK}.")
    with holder.open("rb") as file:
        file.seek(offset)
        _skip_lines(file, lines)
        with openers[encoding](file) if "bz" in encoding else openers[encoding](fileobj=file) as stream:
            stream.seek(max(skipped, 0))
            return decompressed(holder, stream, stored, shape, UNPACK)


def _skip_lines(file: BinaryIO, count: int) -> None:
    for _ in range(min(count, MAX_HEADER_BYTES)):
        file.readline(MAX_HEADER_BYTES)


def _axes_of(path: Path, header: Mapping[str, Any], shape: Sequence[int], stored: np.dtype[Any]) -> str:
    """Return the letter of each axis: space along those with a direction, else by their kinds."""
    count = len(shape)
    kinds = [str(kind) for kind in header.get("kinds", ["domain"] * count)]
    directions = header.get("space directions")
    if directions is not None:
        are_space = [not _is_nothing(direction) for direction in directions]
    else:
        are_space = [kind not in (*TIMES, *COLORS, *COMPONENTS) and "matrix" not in kind for kind in kinds]
    if not len(kinds) == len(are_space) == count:
        raise ImageError(f"{path} does not describe each of its {count} axes: export it again.")
    space = iter("xyz" if sum(are_space) <= 3 else "xyzt")
    letters = []
    for number, (kind, is_space) in enumerate(zip(kinds, are_space, strict=True)):
        is_color = number == 0 and (kind in COLORS or (kind == "vector" and stored == np.uint8)) and shape[-1] in (3, 4)
        letters.append(next(space, "q") if is_space else "s" if is_color else "t" if kind in TIMES else "c")
    known = known_letters("".join(reversed(letters)))
    if known is None:
        raise ImageError(f"{path} has axes of the kinds {', '.join(kinds)}, which are no image: export one volume.")
    return known


def _placed(opened: ImageSource, header: Mapping[str, Any], path: Path) -> ImageSource:
    """Add pixel sizes, and the position in the body where the file is in a space of medicine."""
    backwards = str(opened.axes)[::-1]
    directions, sizes = header.get("space directions"), dict.fromkeys(backwards, 1.0)
    units = header.get("space units") or header.get("units") or ()
    unit = unit_name(next((text for text in units if str(text).strip()), None))
    starts: dict[str, float] = {}
    anatomy = None
    if directions is not None:
        columns = [np.asarray(row, float) for row in directions if not _is_nothing(row)]
        space = [letter for letter, row in zip(backwards, directions, strict=True) if not _is_nothing(row)]
        sizes |= {letter: float(np.linalg.norm(row)) or 1.0 for letter, row in zip(space, columns, strict=True)}
        length = MICROMETRES.get(unit or "millimeter", 1e3) / 1e3
        anatomy = _anatomy(header, columns, length)
        if anatomy is not None:
            steps, firsts = anatomy.grid()
            sizes |= {letter: step / length for letter, step in zip("zyx", steps, strict=True)}
            starts = {letter: first / length for letter, first in zip("zyx", firsts, strict=True)}
            unit = unit or "millimeter"
    elif header.get("spacings") is not None:
        given = zip(backwards, map(float, header["spacings"]), strict=False)
        sizes |= {letter: abs(size) for letter, size in given if math.isfinite(size) and size}
    placed = replace(
        opened,
        spacing=tuple(sizes[letter] for letter in opened.axes or ""),
        origin=tuple(starts.get(letter, 0.0) for letter in opened.axes or "") if starts else None,
        unit=unit,
        anatomy=anatomy,
        metadata={"header": dict(header)},
    )
    return checked(placed, path)


def _anatomy(header: Mapping[str, Any], columns: Sequence[NDArray[np.float64]], length: float) -> Anatomy | None:
    """Return the position in the body of a volume, if its space is one; `length` is its unit in millimeters."""
    space = str(header.get("space", "")).lower().replace("_", "-")
    first = header.get("space origin")
    to_left, to_back = {
        "left-posterior-superior": (1, 1),
        "lps": (1, 1),
        "right-anterior-superior": (-1, -1),
        "ras": (-1, -1),
        "left-anterior-superior": (1, -1),
        "las": (1, -1),
    }.get(space.removesuffix("-time"), (0, 0))
    if to_left == 0 or len(columns) != 3 or any(len(column) != 3 for column in columns):
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.transpose(columns)
    affine[:3, 3] = 0.0 if first is None or _is_nothing(first) else np.asarray(first, float)[:3]
    return Anatomy.of(np.diag([to_left * length, to_back * length, length, 1.0]) @ affine)


def _is_nothing(row: Any) -> bool:
    return row is None or not np.isfinite(np.asarray(row, float)).all()


def _damaged(path: Path, error: Exception) -> ImageError:
    return ImageError(f"{path} has a damaged header ({first_line(error)}): export it again.")
