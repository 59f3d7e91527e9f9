"""Read MetaImage volumes with SimpleITK: plane by plane, or as a whole where they are compressed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, first_line
from napari_sam.images.axes.anatomy import Anatomy
from napari_sam.images.files.external_references import check_beside
from napari_sam.images.lazy.rescaling import rescaled
from napari_sam.images.source import ImageSource, checked
from napari_sam.images.volumes.stored_pixels import check_whole_size, mapped

MAX_HEADER_BYTES = 2**16
PIXELS = "elementdatafile"
# By SimpleITK's names of types, alone and as the components of colors and vectors.
TYPES = {
    **{f"UInt{8 * size}": f"u{size}" for size in (1, 2, 4, 8)},
    **{f"Int{8 * size}": f"i{size}" for size in (1, 2, 4, 8)},
    "Float32": "f4",
    "Float64": "f8",
}
# The axes of arrays by their number, as those of the file backwards.
AXES = {2: "yx", 3: "zyx", 4: "tzyx"}
COLORS = (3, 4)


def open_meta_image(path: Path) -> ImageSource:
    """Open a MetaImage file (.mha), or a header (.mhd) with its pixels in one file beside it.

    The axes of the arrays are those of the file backwards: planes, rows and columns.

    Raises
    ------
    ImageError
        The header is damaged, or its pixels are missing, cut off or in several files.
    """
    fields, start = _header_of(path)
    holder = _holder_of(path, fields[PIXELS])
    information = _information(path)
    axes = AXES.get(information.GetDimension())
    if axes is None:
        raise ImageError(f"{path} has {information.GetDimension()} axes, and volumes have 2 to 4: export one of them.")
    pixels = _pixels(path, holder, information, fields, start)
    if pixels.ndim > len(axes):
        is_color = pixels.dtype == np.uint8 and pixels.shape[-1] in COLORS
        axes += "s" if is_color else "c"
    return _placed(ImageSource((rescaled(pixels),), axes), information, path)


def _header_of(path: Path) -> tuple[Mapping[str, str], int]:
    """Return the fields of the header by their names in lower case, and the number of its bytes."""
    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
    fields: dict[str, str] = {}
    start = 0
    for line in head.splitlines(keepends=True):
        start += len(line)
        name, _, value = line.decode("utf-8", "replace").partition("=")
        fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == PIXELS:  # Always the last one.
            return fields, start
    raise ImageError(f"{path} has a damaged header, which names no pixels: copy or export it again.")


def _holder_of(path: Path, name: str) -> Path:
    """Return the file of the pixels."""
    if name.upper() == "LOCAL":
        return path
    if name.upper().startswith("LIST") or "%" in name:
        raise ImageError(f"{path} has its pixels in several files, which is not supported: save it as one .mha.")
    holder = check_beside(path, name)
    if not holder.is_file():
        raise ImageError(f"{path} has its pixels in {name}, which is missing: copy it beside the header.")
    return holder


def _reader(path: Path) -> Any:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    return reader


def _information(path: Path) -> Any:
    """Return what the header says, as SimpleITK understands it."""
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageError(f"{path} has a damaged header: copy or export it again.") from error
    return reader


def _pixels(path: Path, holder: Path, information: Any, fields: Mapping[str, str], start: int) -> NDArray[Any]:
    """Return the stored numbers, mapped into memory unless they are compressed."""
    import SimpleITK

    names = {getattr(SimpleITK, f"sitk{kind}{name}"): code for name, code in TYPES.items() for kind in ("", "Vector")}
    code = names.get(information.GetPixelID())
    if code is None:
        raise ImageError(f"{path} has pixels that are no numbers or colors: export it as a volume of numbers.")
    components = information.GetNumberOfComponents()
    shape = tuple(reversed(information.GetSize())) + ((components,) if components > 1 else ())
    if not _is_true(fields, "compresseddata") and fields.get("headersize", "0") == "0":
        is_big = any(_is_true(fields, name) for name in ("binarydatabyteordermsb", "elementbyteordermsb"))
        return mapped(holder, np.dtype((">" if is_big else "<") + code), shape, start if holder == path else 0)
    check_whole_size(path, math.prod(shape) * np.dtype(code).itemsize, "save it without compression")
    try:
        return np.asarray(SimpleITK.GetArrayFromImage(_reader(path).Execute()))
    except RuntimeError as error:
        raise ImageError(f"{path} is damaged or cut off ({first_line(error)[:200]}): copy it again.") from error


def _is_true(fields: Mapping[str, str], name: str) -> bool:
    return fields.get(name, "").lower() in ("true", "1")


def _placed(opened: ImageSource, information: Any, path: Path) -> ImageSource:
    """Add pixel sizes, and the position in the body of volumes; lengths are in millimeters."""
    backwards, ndim = str(opened.axes).rstrip("cs")[::-1], information.GetDimension()
    sizes = dict(zip(backwards, information.GetSpacing(), strict=True))
    starts: dict[str, float] = dict(zip(backwards, information.GetOrigin(), strict=True)) if ndim == 2 else {}
    anatomy = None
    if ndim > 2:
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(information.GetDirection(), (ndim, ndim))[:3, :3] * information.GetSpacing()[:3]
        affine[:3, 3] = information.GetOrigin()[:3]
        anatomy = Anatomy.of(affine)
    if anatomy is not None:
        steps, firsts = anatomy.grid()
        sizes |= dict(zip("zyx", steps, strict=True))
        starts = dict(zip("zyx", firsts, strict=True))
    placed = replace(
        opened,
        spacing=tuple(float(sizes.get(letter) or 1.0) for letter in opened.axes or ""),
        origin=tuple(float(starts.get(letter, 0.0)) for letter in opened.axes or "") if any(starts.values()) else None,
        unit="millimeter",
        anatomy=anatomy,
    )
    return checked(placed, path)
