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
# OME types of axes that take precedence over their names.
TYPES = {"time": "t", "channel": "c"}


def letter_of(name: Any, kind: Any = None) -> str:
    """Return the letter of an axis by its name and its OME type; "q" if neither is known."""
    return TYPES.get(str(kind).lower()) or LETTERS.get(str(name or "").strip().lower(), UNKNOWN)


def known_letters(letters: str) -> str | None:
    """Return letters in which an unknown axis is depth, or time if depth is there already; None if that fails.

    Files name the axis along which one image follows the other as they like (I sequence, Q unknown, P position,
    A angle ...): for us they are all alike, since a plane is picked from them by its number.
    """
    found = list(letters)
    free = [letter for letter in "zt" if letter not in letters]
    for at in reversed(range(len(found))):
        if found[at] not in "tczyxs":
            if not free:
                return None
            found[at] = free.pop(0)
    is_image = len(set(found)) == len(found) and {"y", "x"} <= set(found)
    return "".join(found) if is_image else None
