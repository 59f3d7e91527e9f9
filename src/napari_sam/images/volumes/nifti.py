"""Read NIfTI volumes with nibabel: plane by plane, or as a whole where they are compressed."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, first_line
from napari_sam.images.axes.anatomy import Anatomy
from napari_sam.images.axes.units import unit_name
from napari_sam.images.files.local import existing
from napari_sam.images.lazy.rescaling import rescaled
from napari_sam.images.source import ImageSource, checked
from napari_sam.images.volumes.stored_pixels import decompressed, mapped

TIME_UNITS = {"sec": "second", "msec": "millisecond", "usec": "microsecond"}
LENGTHS = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3}
# The axes of a file in their order; the fifth holds the components of vectors or the channels.
AXES = "xyztc"
# Colors are stored as structures of bytes.
COLORS = {("R", "G", "B"): 3, ("R", "G", "B", "A"): 4}


def open_nifti(path: Path) -> ImageSource:
    """Open a NIfTI file, or the header (.hdr) of a pair of files.

    The axes of the arrays are those of the file backwards: planes, rows and columns.

    Raises
    ------
    ImageError
        The header is damaged, promises more pixels than there are, or has axes that are no axes of an image.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image: Any = nibabel.load(path)
    except (ImageFileError, HeaderDataError, OSError, ValueError, EOFError) as error:
        raise ImageError(f"{path} has a damaged header ({first_line(error)}): copy or export it again.") from error
    proxy = image.dataobj
    lengths = _without_single(path, [int(length) for length in proxy.shape])
    stored = _pixels(path, image, tuple(lengths[axis] for axis in reversed(lengths)))
    axes = "".join(reversed(lengths))
    names = np.dtype(stored.dtype).names
    if names is not None:
        if names not in COLORS:
            raise ImageError(f"{path} has the unsupported pixel type {stored.dtype}: export it as numbers or colors.")
        stored = stored.view(np.uint8).reshape(*stored.shape, COLORS[names])
        return _placed(ImageSource((stored,), f"{axes}s"), image, path)
    return _placed(ImageSource((rescaled(stored, proxy.slope, proxy.inter),), axes), image, path)


def _without_single(path: Path, shape: list[int]) -> dict[str, int]:
    """Return the length of each axis in the order of the file, without axes of one entry after the third."""
    while len(shape) > len(AXES) and shape[-1] == 1:
        shape.pop()
    if not 2 <= len(shape) <= len(AXES):
        raise ImageError(f"{path} has {len(shape)} axes, and images have 2 to {len(AXES)}: export one of its volumes.")
    return {name: length for name, length in zip(AXES, shape, strict=False) if length != 1 or name in "xyz"}


def _pixels(path: Path, image: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the stored numbers, with the axes of the file backwards."""
    proxy = image.dataobj
    stored: np.dtype[Any] = image.header.get_data_dtype()
    offset = int(proxy.offset)
    holder = Path(image.file_map["image"].filename)
    if not existing(holder):
        raise ImageError(f"{path} has its pixels in {holder.name}, which is missing: copy it beside the header.")
    if holder.name.lower().endswith(".gz"):
        with gzip.open(holder) as stream:
            stream.seek(offset)
            return decompressed(holder, stream, stored, shape, "unpack it to .nii first, for example with gunzip")
    if holder.suffix.lower() in (".bz2", ".zst"):
        raise ImageError(f"{holder} is compressed in a way that is not supported: unpack it first.")
    return mapped(holder, stored, shape, offset)


def _placed(opened: ImageSource, image: Any, path: Path) -> ImageSource:
    """Add pixel sizes, the position in the body, and the header for the writers of other plugins."""
    header = image.header
    length_unit, time_unit = header.get_xyzt_units()
    sizes = dict(zip(AXES, map(float, header.get_zooms()), strict=False))
    is_placed = max(int(header["sform_code"]), int(header["qform_code"])) > 0
    anatomy, origin = None, None
    if is_placed:
        to_millimeters = np.diag([*[LENGTHS.get(length_unit, 1.0)] * 3, 1.0])
        anatomy = Anatomy.of_ras(to_millimeters @ image.affine)
    if anatomy is not None:
        steps, starts = anatomy.grid()
        scale = LENGTHS.get(length_unit, 1.0)
        sizes |= {name: step / scale for name, step in zip("zyx", steps, strict=True)}
        at = {name: start / scale for name, start in zip("zyx", starts, strict=True)}
        origin = tuple(at.get(name, 0.0) for name in opened.axes or "")
        if length_unit == "unknown":
            length_unit = "mm"  # What programs take it for, and what affine matrices are in.
    known = {"meter": "meter", "mm": "millimeter", "micron": "micrometer"}
    return checked(
        replace(
            opened,
            spacing=tuple(sizes.get(name) or 1.0 for name in opened.axes or ""),
            origin=origin,
            unit=unit_name(known.get(length_unit)),
            time_unit=TIME_UNITS.get(time_unit) if "t" in (opened.axes or "") else None,
            anatomy=anatomy,
            # The keys of napari-nifti, whose writer saves labels with this geometry.
            metadata={"header": header, "affine": image.affine, "coordinate_system": "RAS"},
        ),
        path,
    )
