"""Names of images inside files that hold several: FILE:/NAME."""

from __future__ import annotations

import re
from pathlib import Path

from napari_sam.files.paths import exists


def split_name(image: str | Path) -> tuple[Path, str | None]:
    """Return the path of a file, and the name of an image in it or None.

    Parameters
    ----------
    image
        A path, or FILE:/NAME: an array of an HDF5 file, a series of a DICOM folder, an image of a LIF or CZI file.
    """
    text = str(image)
    if not exists(text):
        for match in re.finditer(r":(?=/)", text):
            if exists(text[: match.start()]):
                return Path(text[: match.start()]), text[match.end() :].strip("/")
    return Path(image), None
