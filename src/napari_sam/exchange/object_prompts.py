"""ObjectPrompts: the prompts of one object in one plane, as read from a file or from options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    """The prompts of one object in one plane, as a file gives them; those of one name are of one object.

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


@dataclass(frozen=True, slots=True)
class GivenPlane:
    """The plane of a prompt, as far as a file gives it.

    Parameters
    ----------
    position
        As `ObjectPrompts.plane`, or None.
    named
        As `ObjectPrompts.named_plane`.
    """

    position: tuple[int, ...] | None = None
    named: tuple[tuple[str, int], ...] = ()

    @property
    def key(self) -> frozenset[tuple[str, int | tuple[int, ...]]]:
        """What it says, in no order."""
        said: frozenset[tuple[str, int | tuple[int, ...]]] = frozenset(self.named)
        return said if self.position is None else said | {("", self.position)}

    def merged(self, other: GivenPlane) -> GivenPlane | None:
        """Return what both say, or None where they contradict each other."""
        if None not in (self.position, other.position) and self.position != other.position:
            return None
        named = dict(other.named) | dict(self.named)
        if any(named[name] != position for name, position in other.named):
            return None
        in_order = {name: named[name] for name, _ in (*self.named, *other.named)}
        return GivenPlane(other.position if self.position is None else self.position, tuple(in_order.items()))


@dataclass(slots=True)
class PromptBuilder:
    """Gathers what a file says of one object in one plane, row by row.

    Parameters
    ----------
    name
        Name of the object in the file.
    plane
        The plane.
    """

    name: str
    plane: GivenPlane = field(default_factory=GivenPlane)
    points: list[Point] = field(default_factory=list)
    labels: list[bool] = field(default_factory=list)
    polygons: list[tuple[Point, ...]] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None
    class_name: str | None = None

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
            raise PromptError(f"object {self.name} has two boxes: give it one in each plane")
        self.box = box

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
        named = dict(self.plane.named)
        letters = {AXIS_OF.get(name) or AMBIGUOUS[name]: position for name, position in named.items()}
        in_order = tuple(letters[letter] for letter in USUAL_ORDER if letter in letters)
        return ObjectPrompts(
            self.name,
            tuple(self.points),
            tuple(self.labels),
            self.box,
            tuple(self.polygons),
            self.plane.position if self.plane.position is not None else in_order or None,
            self.class_name,
            self.plane.named,
        )


class PromptBuilders:
    """The builders of the objects of a file: one for each plane of each object.

    Parameters
    ----------
    given
        The object and the plane of every prompt of the file. A prompt that does not name the plane lies in that of the
        others of its object.
    """

    def __init__(self, given: Iterable[tuple[str, GivenPlane]]) -> None:
        self._given: dict[str, dict[frozenset[Any], GivenPlane]] = {}
        for name, plane in given:
            self._given.setdefault(name, {}).setdefault(plane.key, plane)
        self._planes: dict[str, dict[frozenset[Any], GivenPlane]] = {}
        self._builders: dict[tuple[str, frozenset[Any]], PromptBuilder] = {}

    def builder(self, name: str, plane: GivenPlane) -> PromptBuilder:
        """Return the builder for a prompt.

        Raises
        ------
        PromptError
            The object lies in several planes, and the prompt may belong to more than one of them.
        """
        if name not in self._planes:
            self._planes[name] = _planes_of([*self._given[name].values()])
        found = self._planes[name].get(plane.key)
        if found is None:
            raise PromptError(
                f"object {name} lies in several planes, and here it is not clear in which: name the plane of each of "
                "its prompts by the same axes"
            )
        return self._builders.setdefault((name, found.key), PromptBuilder(name, found))

    def built(self) -> list[ObjectPrompts]:
        """Return the objects, one for each plane, in the order in which they were asked for first.

        Raises
        ------
        PromptError
            An object has another class in one of its planes.
        """
        classes: dict[str, str] = {}
        for builder in self._builders.values():
            if builder.class_name is not None:
                known = classes.setdefault(builder.name, builder.class_name)
                if known != builder.class_name:
                    raise PromptError(f"Object {builder.name} has two classes: give each object one.")
        for builder in self._builders.values():
            builder.class_name = classes.get(builder.name)
        return [builder.built() for builder in self._builders.values()]


def _planes_of(given: Sequence[GivenPlane]) -> dict[frozenset[Any], GivenPlane]:
    """Return which plane each of those means that a file gives for one object; those that are not clear are left out.

    Where they do not contradict each other they mean one plane.
    """
    whole: GivenPlane | None = GivenPlane()
    for plane in given:
        whole = None if whole is None else whole.merged(plane)
    if whole is not None:
        return {plane.key: whole for plane in given}
    # Otherwise those that name the same axes as most are the planes, and others belong to the only one that they fit.
    most = max(len(plane.key) for plane in given)
    full = {plane.key: plane for plane in given if len(plane.key) == most}
    axes = {frozenset(name for name, _ in key) for key in full}
    if len(axes) > 1:
        return {}
    rest = [plane for plane in given if plane.key not in full]
    fitting = {plane.key: [one for key, one in full.items() if plane.key <= key] for plane in rest}
    return full | {key: found[0] for key, found in fitting.items() if len(found) == 1}


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
