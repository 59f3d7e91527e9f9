"""Objects as polygons: plane by plane, in the coordinates of the output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from napari_sam.exports.options import ExportOptions
from napari_sam.exports.polygons.coordinates import Coordinates
from napari_sam.exports.polygons.outlines import Outline, trace_outlines
from napari_sam.exports.polygons.shapes import shaped
from napari_sam.exports.source import ExportSource, PlaneLabels
from napari_sam.journal.entries import LabelClass
from napari_sam.journal.objects import Part


@dataclass(frozen=True, slots=True)
class ObjectPolygon:
    """One object in one plane.

    Parameters
    ----------
    plane
        The plane.
    outline
        In the coordinates of the output.
    area
        Number of its pixels.
    label_class
        Its class, or None.
    part
        What the journal knows of it in the plane, or None.
    """

    plane: PlaneLabels
    outline: Outline
    area: int
    label_class: LabelClass | None = None
    part: Part | None = None

    @property
    def label(self) -> int:
        """Its value in the labels."""
        return self.outline.label


def object_polygons(source: ExportSource, options: ExportOptions, coordinates: Coordinates) -> Iterator[ObjectPolygon]:
    """Yield the objects of all planes, by plane and label.

    Raises
    ------
    LabelsError, OutputError
        The labels cannot be read, or a library is missing.
    """
    for plane in source.planes():
        exact = trace_outlines(plane.shape, plane.tiles(), plane.read)
        found = coordinates.converted(shaped(exact, options))
        for outline, pixels in zip(found, exact, strict=True):
            label = outline.label
            yield ObjectPolygon(
                plane, outline, area_of(pixels), source.class_of(label), source.part_of(label, plane.plane)
            )


def area_of(outline: Outline) -> int:
    """Return the number of pixels inside an outline in pixels."""
    total = 0.0
    for rings in outline.polygons:
        for ring in rings:
            x, y = ring.T
            total += float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return round(total)
