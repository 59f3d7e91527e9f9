"""Read MRC and CCP4 maps with mrcfile, plane by plane."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from napari_sam.errors import ImageError, first_line
from napari_sam.images.lazy.rescaling import rescaled
from napari_sam.images.source import ImageSource, checked
from napari_sam.images.volumes.stored_pixels import mapped

HEADER_BYTES = 1024
# By number of the header's axis: columns, rows and sections are along one of them each.
LETTERS = {1: "x", 2: "y", 3: "z"}


def open_mrc(path: Path) -> ImageSource:
    """Open an MRC file: a volume, a stack of images, or a stack of volumes.

    Raises
    ------
    ImageError
        The header is damaged, or promises more pixels than there are.
    """
    import mrcfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Remarks on headers, which are no error.
            # Without its pixels the file is closed at once.
            with mrcfile.open(path, mode="r", permissive=True, header_only=True) as file:
                header, voxel = file.header.copy(), file.voxel_size.copy()
        dtype = mrcfile.utils.data_dtype_from_header(header)
        shape = tuple(int(length) for length in mrcfile.utils.data_shape_from_header(header))
    except (ValueError, OSError, OverflowError, TypeError) as error:
        raise ImageError(f"{path} has a damaged header ({first_line(error)}): copy it again.") from error
    data = mapped(path, dtype, shape, HEADER_BYTES + int(header.nsymbt))
    axes = f"t{_letters(header)}"[-data.ndim :]
    sizes = {letter: float(voxel[letter]) for letter in "xyz"}
    starts = {letter: float(header.origin[letter]) for letter in "xyz"}
    if not any(starts.values()):
        first = {"x": header.nxstart, "y": header.nystart, "z": header.nzstart}
        starts = {letter: int(at) * sizes[letter] for letter, at in first.items()}
    is_measured = sizes["x"] > 0 and sizes["y"] > 0
    opened = ImageSource(
        (rescaled(data),),
        axes,
        spacing=tuple(sizes.get(letter) or 1.0 for letter in axes) if is_measured else None,
        origin=tuple(starts.get(letter, 0.0) for letter in axes) if is_measured and any(starts.values()) else None,
        unit="angstrom" if is_measured else None,
        metadata={"header": header},
    )
    return checked(opened, path)


def _letters(header: Any) -> str:
    """Return the letters of sections, rows and columns, as the header orders them."""
    numbers = [int(header.maps), int(header.mapr), int(header.mapc)]
    letters = "".join(LETTERS.get(number, "") for number in numbers)
    return letters if sorted(letters) == ["x", "y", "z"] else "zyx"
