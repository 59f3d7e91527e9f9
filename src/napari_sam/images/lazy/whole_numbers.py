"""Labels that a file stores as floating-point numbers, as whole numbers when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.files.paths import shortened
from napari_sam.images.lazy.recoloring import Recoloring

# What a slope of the file, such as 0.1, may leave of a whole number.
TOLERANCE = 1e-4
# Each type holds all whole numbers that the stored one can tell apart.
WHOLE = {2: "int32", 4: "int32", 8: "int64"}


def as_whole_numbers(array: Any, path: str | Path) -> Any:
    """Return labels as whole numbers; NaN is background, and an array of whole numbers is returned as it is.

    Parameters
    ----------
    array
        The labels, converted at once if they are in memory, else when parts of them are read.
    path
        Their file, for messages.

    Raises
    ------
    ImageError
        A value is no whole number; raised when the part with it is read.
    """
    stored = np.dtype(array.dtype)
    if stored.kind != "f":
        return array
    dtype: np.dtype[Any] = np.dtype(WHOLE.get(stored.itemsize, "int64"))

    def convert(values: NDArray[Any]) -> NDArray[Any]:
        known = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
        whole = np.round(known)
        with np.errstate(invalid="ignore"):  # Infinite values.
            is_wrong = ~(np.abs(known - whole) <= TOLERANCE) | (np.abs(whole) > np.iinfo(dtype).max)
        if is_wrong.any():
            raise ImageError(
                f"{shortened(path)} holds the value {known[is_wrong][0]:g}, and labels are whole numbers: give a label "
                "image, or make one of it by a threshold."
            )
        return np.asarray(whole.astype(dtype))

    return Recoloring(convert, dtype, 0, 0)(array)
