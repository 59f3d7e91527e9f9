"""VoxelSize: the volume of a voxel of a layer, and volumes of objects as text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.exports.units import SIGNS

if TYPE_CHECKING:
    from napari.layers import Layer

# In cubic millimeters: volumes of organs are told in cubic centimeters.
CUBIC_CENTIMETER = 1000.0
TIMES = ("second", "millisecond", "microsecond", "minute", "hour", "day", "frame")


@dataclass(frozen=True, slots=True)
class VoxelSize:
    """The volume of a voxel.

    Parameters
    ----------
    volume
        In cubic units.
    unit
        The sign of the unit; empty where the layer has a scale without a unit.
    """

    volume: float
    unit: str

    @classmethod
    def of_layer(cls, layer: Layer | None) -> VoxelSize | None:
        """Return the volume of a voxel of a stack; None where the scale is 1 everywhere and in pixels, or time is one.

        An object through time has no volume.
        """
        if layer is None or layer.ndim < 3:
            return None
        units = [str(unit) for unit in getattr(layer, "units", ())]
        labels = [str(label).lower() for label in getattr(layer, "axis_labels", ())]
        steps = [abs(float(step)) for step in layer.scale]
        if any(unit in TIMES for unit in units) or {"t", "time"} & set(labels):
            return None
        known = {unit for unit in units if unit != "pixel"}
        if not known and all(step == 1 for step in steps):
            return None
        unit = known.pop() if len(known) == 1 else ""
        volume = math.prod(steps)
        return cls(volume, SIGNS.get(unit, unit).replace("um", "µm")) if math.isfinite(volume) and volume > 0 else None

    def text(self, voxels: int) -> str:
        """Return the volume of some voxels, with its unit."""
        volume, unit = voxels * self.volume, self.unit
        if unit == "mm" and volume >= CUBIC_CENTIMETER:
            volume, unit = volume / CUBIC_CENTIMETER, "cm"
        return f"{_written_out(volume)}{f' {unit}³' if unit else ''}"


def _written_out(value: float) -> str:
    """Return a number with four digits that count; a large one without an exponent."""
    return f"{value:.0f}" if 1e4 <= value < 1e12 else f"{value:.4g}"
