"""Names of images inside files that hold several: FILE:/NAME."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_sam.errors import ImageError
from napari_sam.files.paths import exists

MAX_LISTED = 6


def split_name(image: str | Path) -> tuple[Path, str | None]:
    """Return the path of a file, and the name of an image in it or None.

    Parameters
    ----------
    image
        A path, or FILE:/NAME: an array of an HDF5 file or an N5 store, a series of a DICOM folder, an image of a LIF
        or CZI file.
    """
    text = str(image)
    if not exists(text):
        for match in re.finditer(r":(?=/)", text):
            if exists(text[: match.start()]):
                return Path(text[: match.start()]), text[match.end() :].strip("/")
    return Path(image), None


def several_arrays(path: Path, arrays: Sequence[tuple[str, Any]]) -> ImageError:
    """Return the error for a file of several arrays, by their names; it lists them.

    Parameters
    ----------
    path
        The file.
    arrays
        Name and array, with a shape and a dtype.
    """
    listed = ", ".join(
        f"{name} ({' x '.join(map(str, array.shape))}, {array.dtype})" for name, array in arrays[:MAX_LISTED]
    )
    more = f" and {len(arrays) - MAX_LISTED} more" if len(arrays) > MAX_LISTED else ""
    return ImageError(f"{path} holds several images, {listed}{more}: name one of them, as in {path}:{arrays[0][0]}.")
