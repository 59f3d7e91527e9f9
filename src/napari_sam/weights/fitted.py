"""Fitted values that come with the package, besides the model: arrays by their names, in numpy archives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ModelError


def fitted_values(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an archive.

    Raises
    ------
    ModelError
        It is missing or damaged.
    """
    try:
        # Opened here, since numpy leaves a file open that is no archive.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # A damaged file is any error of zipfile, zlib, numpy and its parser of headers.
        raise ModelError(f"{path} is missing or damaged: install napari-sam again.") from error
