"""Physical sizes and positions in the XML of an OME-TIFF: read, and written for labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_sam.images.axes.calibration import Calibration
from napari_sam.images.axes.units import MICROMETRES, UNITS, in_one_unit, length_of, unit_name

SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "min": 60.0, "h": 3600.0, "d": 86400.0}
SIGNS = {name: sign for sign, name in UNITS.items()}


def positions(pixels: Mapping[str, Any], unit: str | None) -> dict[str, float]:
    """Return the stage position of the first plane along z, y and x, in a unit; empty if it has no length unit.

    Parameters
    ----------
    pixels
        The element Pixels of the image.
    unit
        That of the physical sizes.
    """
    planes = pixels.get("Plane")
    plane = (planes[0] if planes else {}) if isinstance(planes, list) else planes
    if not isinstance(plane, Mapping) or unit not in MICROMETRES:
        return {}
    found: dict[str, float] = {}
    for letter in "zyx":
        given = unit_name(plane.get(f"Position{letter.upper()}Unit"))
        try:
            value = float(plane[f"Position{letter.upper()}"])
        except (KeyError, TypeError, ValueError):
            continue
        if given in MICROMETRES:
            found[letter] = in_one_unit({"z": value}, {"x": unit, "z": given})[0]["z"]
    return found


def time_step(pixels: Mapping[str, Any]) -> float | None:
    """Return the time from one frame to the next in seconds; None if it is unknown."""
    step = length_of(pixels.get("TimeIncrement"))
    seconds = SECONDS.get(str(pixels.get("TimeIncrementUnit", "s")))
    return None if step is None or seconds is None else step * seconds


def metadata_of(calibration: Calibration, planes: int) -> dict[str, Any]:
    """Return the metadata with which `tifffile` writes a calibration as OME-XML.

    Parameters
    ----------
    calibration
        Its axes end with y and x.
    planes
        Number of planes in the file.
    """
    metadata: dict[str, Any] = {"axes": calibration.axes.upper()}
    if calibration.scale is None:
        return metadata
    steps = dict(zip(calibration.axes, calibration.scale, strict=True))
    starts = dict(zip(calibration.axes, calibration.starts, strict=True))
    for letter in "zyx":
        if letter in steps:
            metadata[f"PhysicalSize{letter.upper()}"] = abs(steps[letter])
            if calibration.unit:
                metadata[f"PhysicalSize{letter.upper()}Unit"] = SIGNS.get(calibration.unit, calibration.unit)
    if "t" in steps and calibration.time_unit == "second":
        metadata["TimeIncrement"], metadata["TimeIncrementUnit"] = steps["t"], "s"
    # A position without a unit has an unknown origin.
    if calibration.origin and calibration.unit in MICROMETRES:
        places: dict[str, Any] = {}
        for letter in "zyx":
            if letter in starts:
                places[f"Position{letter.upper()}"] = [starts[letter]] * planes
                places[f"Position{letter.upper()}Unit"] = [SIGNS[calibration.unit]] * planes
        metadata["Plane"] = places
    return metadata
