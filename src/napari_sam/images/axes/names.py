"""Axis names as files use them, and the letter of each: t, c, z, y, x, or s for color samples."""

from __future__ import annotations

from typing import Any

UNKNOWN = "q"
NAMES = {
    "t": ("t", "time", "times", "timepoint", "timepoints", "frame", "frames", "date"),
    "c": ("c", "ch", "channel", "channels", "band", "bands", "wavelength", "wavelengths", "lambda", "spectral"),
    "z": ("z", "depth", "slice", "slices", "section", "sections", "plane", "planes", "lev", "level", "altitude"),
    "y": ("y", "row", "rows", "line", "lines", "lat", "latitude", "northing", "nrows", "ydim"),
    "x": ("x", "col", "cols", "column", "columns", "lon", "long", "longitude", "easting", "ncols", "xdim"),
    "s": ("s", "sample", "samples", "rgb", "rgba", "color", "colors", "colour", "colours"),
}
LETTERS = {name: letter for letter, names in NAMES.items() for name in names}
# OME types of axes that decide, whatever the name is.
TYPES = {"time": "t", "channel": "c"}


def letter_of(name: Any, kind: Any = None) -> str:
    """Return the letter of an axis by its name, and by its OME type where it has one; "q" where neither is known."""
    return TYPES.get(str(kind).lower()) or LETTERS.get(str(name or "").strip().lower(), UNKNOWN)
