"""Calibration: axes, pixel sizes, origin and units of an image, as they are written with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Calibration:
    """Position and size of the pixels of an image in world coordinates.

    Parameters
    ----------
    axes
        One letter for each axis, out of "tczyx".
    scale
        Step from one pixel to the next along each axis, negative for a reversed axis; None if it is unknown.
    origin
        Center of the first pixel along each axis, in the same unit; None for 0 everywhere.
    unit, time_unit
        Of the axes of space and of time, or None.
    """

    axes: str
    scale: tuple[float, ...] | None = None
    origin: tuple[float, ...] | None = None
    unit: str | None = None
    time_unit: str | None = None

    @property
    def units(self) -> tuple[str | None, ...]:
        """The unit of each axis, or None."""
        known = dict.fromkeys("zyx", self.unit) | {"t": self.time_unit}
        return tuple(known.get(letter) for letter in self.axes)

    @property
    def starts(self) -> tuple[float, ...]:
        """Center of the first pixel along each axis."""
        return self.origin or (0.0,) * len(self.axes)

    def along(self, axes: Sequence[int]) -> Calibration:
        """Return the calibration of some of the axes, in this order."""

        def pick(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
            return None if values is None else tuple(values[axis] for axis in axes)

        letters = "".join(self.axes[axis] for axis in axes)
        return Calibration(letters, pick(self.scale), pick(self.origin), self.unit, self.time_unit)
