"""Axes of arrays in HDF5, netCDF and similar formats, which GDAL presents as bands."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from napari_sam.images.axes.names import letter_of

# Formats of arrays of any number of axes.
ARRAY_DRIVERS = ("netCDF", "HDF5", "HDF5Image", "HDF4", "HDF4Image", "BAG", "Zarr")


def leading_axes(dataset: Any) -> tuple[tuple[int, ...], str, str]:
    """Return the axes of an array in a scientific format that GDAL presents as bands.

    Such formats hold arrays of any number of axes, of which GDAL makes bands of rows and columns: these are slices or
    times, and channels only where the file names them so.

    Returns
    -------
    lengths : tuple of int
    letters : str
        One for each.
    guessed : str
        Those of them that stand for axes without a known name.
    """
    if dataset.driver not in ARRAY_DRIVERS or dataset.count < 2:
        return (), "", ""
    tags = dataset.tags()
    names = [name for name in str(tags.get("NETCDF_DIM_EXTRA", "")).strip("{}").split(",") if name]
    lengths = [_first_number(tags.get(f"NETCDF_DIM_{name}_DEF")) for name in names]
    if not names or math.prod(lengths) != dataset.count:
        names, lengths = ["unnamed"], [int(dataset.count)]
    letters = [letter_of(name) for name in names]
    if letters == ["c"]:
        return (), "", ""
    free = iter(letter for letter in "ztc" if letter not in letters)
    taken: list[str] = []
    for letter in letters:
        taken.append(next(free, "q") if letter in taken or letter not in "tcz" else letter)
    guessed = "".join(new for new, letter in zip(taken, letters, strict=True) if new != letter)
    return tuple(lengths), "".join(taken), guessed


def ends_in_colors(array: Any) -> bool:
    """Return whether the columns of GDAL are the colors of a picture that is stored with colors last."""
    *sides, last = array.shape
    return last in (3, 4) and min(sides) > (last if array.dtype == np.uint8 else 30)


def _first_number(text: Any) -> int:
    found = re.search(r"\d+", str(text))
    return int(found[0]) if found else 0
