"""Units of length by their names in files, and conversion to a common unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Units of length by their symbols in files, and their length in micrometers.
UNITS = {"m": "meter", "cm": "centimeter", "mm": "millimeter", "µm": "micrometer", "nm": "nanometer", "Å": "angstrom"}
SIGNS = {"um": "µm", "micron": "µm", "microns": "µm", "\\u00b5m": "µm", "μm": "µm", "in": "inch"}
MICROMETRES = {
    "meter": 1e6,
    "centimeter": 1e4,
    "millimeter": 1e3,
    "micrometer": 1.0,
    "nanometer": 1e-3,
    "angstrom": 1e-4,
    "inch": 25400.0,
}


def in_one_unit(sizes: dict[str, float], units: Mapping[str, str | None]) -> tuple[dict[str, float], str | None]:
    """Return lengths in the unit of the x axis, if units are known."""
    unit = units.get("x")
    scale = MICROMETRES.get(unit or "")
    if scale is not None:
        sizes = {
            letter: size * MICROMETRES.get(units.get(letter) or "", scale) / scale for letter, size in sizes.items()
        }
    return sizes, unit


def length_of(value: Any) -> float | None:
    """Return a length as a number; None if it is not a number above 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


def unit_name(sign: Any) -> str | None:
    """Return the name of a unit of length; None if it is unknown."""
    text = str(sign or "").strip()
    text = SIGNS.get(text.lower(), text)
    return None if text.lower() in ("", "pixel", "pixels", "reference frame") else UNITS.get(text, text)
