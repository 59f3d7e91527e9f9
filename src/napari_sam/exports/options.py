"""ExportOptions: the choices that the API, the command and the widget share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from napari_sam.arguments import each, shown
from napari_sam.errors import LabelsError, OutputError
from napari_sam.labels.regions import label_number

System = Literal["auto", "image", "wgs84", "pixels"]
"""Coordinates of polygons: the default of the format, those of the image's map, longitude and latitude, or pixels."""

SYSTEMS: tuple[System, ...] = ("auto", "image", "wgs84", "pixels")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Which objects are written, and how.

    Parameters
    ----------
    labels
        Labels of the objects; None for all.
    class_name
        Class of the objects, which a journal knows; None for all.
    crs
        Coordinates of polygons: "image" for the coordinate reference system of the image, "wgs84" for longitude and
        latitude, "pixels" for column and row; "auto" is the default of each format.
    simplify
        Tolerance of simplified outlines in pixels; 0 follows the edges of the pixels. Neighbors keep their common
        border.
    squared
        Replace the outline of an object by the smallest rotated rectangle around it, where that covers nearly the same
        pixels. Suits roofs and fields.
    overwrite
        Replace a file that exists.
    """

    labels: tuple[int, ...] | None = None
    class_name: str | None = None
    crs: System = "auto"
    simplify: float = 0.0
    squared: bool = False
    overwrite: bool = False

    @classmethod
    def of(
        cls,
        *,
        labels: Sequence[int] | int | None = None,
        class_name: str | None = None,
        crs: str = "auto",
        simplify: float = 0.0,
        squared: bool = False,
        overwrite: bool = False,
    ) -> ExportOptions:
        """Return checked options.

        Raises
        ------
        LabelsError
            A label is no whole number, or the class is no text.
        OutputError
            The coordinates are unknown, or the tolerance is no number from 0 on.
        """
        if labels is not None:
            given = [labels] if isinstance(labels, int) else labels
            labels = tuple(each(given, "The labels", "a list of whole numbers", label_number))
        if not (class_name is None or isinstance(class_name, str)):
            raise LabelsError(f"The class must be a name and is {shown(class_name)}: correct it.")
        if crs not in SYSTEMS:
            raise OutputError(f"The coordinates {shown(crs)} are unknown: use one of {', '.join(SYSTEMS)}.")
        return cls(labels, class_name, crs, _tolerance(simplify), bool(squared), bool(overwrite))


def _tolerance(value: Any) -> float:
    try:
        tolerance = float(value)
    except (TypeError, ValueError):
        tolerance = -1.0
    if not 0 <= tolerance < math.inf:
        raise OutputError(f"The tolerance {shown(value)} of simplified outlines is no number of pixels from 0 on.")
    return tolerance
