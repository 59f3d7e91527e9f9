"""ObjectPrompts: the prompts of one object, as read from a file or from options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.core.prompt_checks import check_mask_size
from napari_sam.core.prompts import Prompts, rasterize_polygon
from napari_sam.errors import PromptError
from napari_sam.exchange.named_planes import AMBIGUOUS, AXIS_OF, USUAL_ORDER

Point = tuple[float, float]
MAX_LABEL_DIGITS = 18


@dataclass(frozen=True, slots=True)
class ObjectPrompts:
    """The prompts of one object, as a file gives them.

    Parameters
    ----------
    name
        What the file calls it: mostly a number.
    points, labels
        (row, col) each, and whether it is on the object.
    box
        (top, left, bottom, right), half-open in pixel edges, or None.
    polygons
        Corners (row, col); the pixels inside any of them are the mask prompt.
    plane
        Position along the axes that are not the plane's own, or None where the file does not say. Of a file that
        names the axes, in the order t, c, z.
    class_name
        What kind of object it is, or None.
    named_plane
        Name and position of each axis that the file names, such as (("z", 2), ("t", 1)); see `plane_index`.
    """

    name: str
    points: tuple[Point, ...] = ()
    labels: tuple[bool, ...] = ()
    box: tuple[float, float, float, float] | None = None
    polygons: tuple[tuple[Point, ...], ...] = ()
    plane: tuple[int, ...] | None = None
    class_name: str | None = None
    named_plane: tuple[tuple[str, int], ...] = ()

    @property
    def number(self) -> int | None:
        """The label that it asks for: its name, where that is a whole number from 1 on."""
        is_whole = self.name.isascii() and self.name.isdigit() and len(self.name) <= MAX_LABEL_DIGITS
        return int(self.name) or None if is_whole else None

    @property
    def corners(self) -> list[Point]:
        """All positions (row, col) that the prompts name, the corners of a box among them."""
        boxed = [] if self.box is None else [self.box[:2], self.box[2:]]
        return [*self.points, *boxed, *(corner for polygon in self.polygons for corner in polygon)]

    def prompts(self, shape: tuple[int, int]) -> Prompts:
        """Return the prompts on a plane of `shape`.

        Raises
        ------
        PromptError
            They are empty, contradictory or outside the plane.
        """
        mask = _union([rasterize_polygon(corners, shape) for corners in self.polygons])
        return Prompts.of(self.points or None, self.labels or None, self.box, mask, shape=shape)


@dataclass(slots=True)
class PromptBuilder:
    """Gathers what a file says of one object, row by row.

    Parameters
    ----------
    name
        Name of the object in the file.
    """

    name: str
    points: list[Point] = field(default_factory=list)
    labels: list[bool] = field(default_factory=list)
    polygons: list[tuple[Point, ...]] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None
    plane: tuple[int, ...] | None = None
    class_name: str | None = None
    named_plane: dict[str, int] = field(default_factory=dict)

    def add_point(self, point: Point, is_positive: bool) -> None:
        """Add a point."""
        self.points.append(point)
        self.labels.append(is_positive)

    def set_box(self, box: tuple[float, float, float, float]) -> None:
        """Set the box.

        Raises
        ------
        PromptError
            There is another.
        """
        if self.box not in (None, box):
            raise PromptError(f"object {self.name} has two boxes: give each object one")
        self.box = box

    def set_plane(self, plane: tuple[int, ...] | None) -> None:
        """Set the plane, if the file gives one.

        Raises
        ------
        PromptError
            There is another.
        """
        if plane is not None and self.plane not in (None, plane):
            raise PromptError(f"object {self.name} lies in two planes: give each object one")
        self.plane = plane if plane is not None else self.plane

    def set_named_plane(self, positions: Mapping[str, int]) -> None:
        """Set the positions along named axes.

        Raises
        ------
        PromptError
            There are others.
        """
        for name, position in positions.items():
            if self.named_plane.setdefault(name, position) != position:
                raise PromptError(f"object {self.name} lies in two planes: give each object one")

    def set_class(self, name: str) -> None:
        """Set the class; an empty name says nothing.

        Raises
        ------
        PromptError
            There is another.
        """
        if name and self.class_name not in (None, name):
            raise PromptError(f"object {self.name} has two classes: give each object one")
        self.class_name = name or self.class_name

    def built(self) -> ObjectPrompts:
        """Return what was gathered."""
        named = self.named_plane
        letters = {AXIS_OF.get(name) or AMBIGUOUS[name]: position for name, position in named.items()}
        in_order = tuple(letters[letter] for letter in USUAL_ORDER if letter in letters)
        return ObjectPrompts(
            self.name,
            tuple(self.points),
            tuple(self.labels),
            self.box,
            tuple(self.polygons),
            self.plane if self.plane is not None else in_order or None,
            self.class_name,
            tuple(named.items()),
        )


def _union(masks: list[Mask]) -> Mask | None:
    if len(masks) < 2:
        return masks[0] if masks else None
    box = masks[0].box
    for mask in masks[1:]:
        box = box.union(mask.box)
    box = Box(*(int(edge) for edge in box.as_tuple()))
    check_mask_size(box)
    pixels = np.zeros(box.pixel_shape, bool)
    for mask in masks:
        pixels[mask.box.moved(-box.top, -box.left).slices] |= mask.pixels
    return Mask(box, pixels)
