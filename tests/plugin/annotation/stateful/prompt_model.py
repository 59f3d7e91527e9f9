"""Values of the prompt oracle: points, shapes, corrections of accepted objects, and all of them at one moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_sam.core.geometry import Plane


@dataclass(frozen=True)
class Point:
    at: tuple
    sign: int
    of: int


@dataclass(frozen=True, eq=False)
class Shape:
    kind: str
    corners: np.ndarray
    sign: int
    of: int


@dataclass(frozen=True, eq=False)
class Correction:
    layer: object
    label: int
    plane: Plane
    has_hint: bool
    clicked: tuple | None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All prompts, the open objects that wait, and the one in hand."""

    points: tuple = ()
    shapes: tuple = ()
    pending: tuple = ()
    now: int = 0
    at: int = 0

    def without(self, gone, instead):
        now = instead if self.now == gone else self.now
        return Snapshot(
            tuple(point for point in self.points if point.of != gone),
            tuple(shape for shape in self.shapes if shape.of != gone),
            tuple(number for number in self.pending if number not in (gone, now)),
            now,
            self.at,
        )


def points_along(corners):
    """Return the two ends and the middle of a straight scribble."""
    return [corners[0], corners.mean(axis=0), corners[1]]
