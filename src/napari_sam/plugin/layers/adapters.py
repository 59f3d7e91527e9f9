"""Convert between napari's layers and dims, and planes and prompts. No module below knows world coordinates."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.prompts import Prompts, rasterize_polygon
from napari_sam.errors import ImageError, PromptError
from napari_sam.plugin.view import world
from napari_sam.plugin.view.display import DisplayedImage as DisplayedImage
from napari_sam.plugin.view.display import channels_with as channels_with
from napari_sam.plugin.view.display import projection_of as projection_of
from napari_sam.plugin.view.display import reads_hidden_planes as reads_hidden_planes
from napari_sam.plugin.view.display import shape_of as shape_of
from napari_sam.plugin.view.display import shown as shown
from napari_sam.plugin.view.world import same_place as same_place

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer, Points, Shapes

LABEL_FEATURE = "label"
OBJECT_FEATURE = "object"
ELLIPSE_VERTICES = 64
SMALLEST_BOX = 1.0
# Of a scribble: on skimage's coins 3 to 8 of them give an IoU of 0.96, the scribble as a mask 0.24, both 0.94.
SCRIBBLE_POINTS = 3
SCRIBBLES = ("path", "line")


@dataclass(frozen=True, slots=True, eq=False)
class LayerPrompts:
    """The prompts that two layers hold for one plane of an image; the arguments of `Segmenter.segment`.

    `ignored` holds a message for each prompt that cannot count.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    box: Box | None
    mask: Mask | None
    ignored: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return len(self.points) == 0 and self.box is None and self.mask is None

    def as_prompts(self) -> Prompts:
        """Return them as the segmenter counts them; the box of a mask alone is that of the mask."""
        box = self.mask.box if self.box is None and self.mask is not None else self.box
        return Prompts(self.points, self.labels.astype(bool), box, self.mask)

    def is_like(self, other: LayerPrompts) -> bool:
        """Say whether these are the same prompts."""
        return len(self.points) == len(other.points) and self.goes_on_from(other)

    def goes_on_from(self, earlier: LayerPrompts) -> bool:
        """Say whether these are the earlier prompts, with or without further points."""
        count = len(earlier.points)
        return (
            np.array_equal(self.points[:count], earlier.points)
            and np.array_equal(self.labels[:count], earlier.labels)
            and self.box == earlier.box
            and _same_mask(self.mask, earlier.mask)
        )


def _same_mask(a: Mask | None, b: Mask | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.box == b.box and np.array_equal(a.pixels, b.pixels)


def view_of(viewer: ViewerModel, layer: Image, plane: Plane) -> Box:
    """Return the box of a plane that the canvas shows, in level-0 pixels; all of the plane before it was drawn."""
    shape = plane.shape_in(shape_of(layer))
    corners = np.asarray(layer.corner_pixels, float)
    if layer.multiscale:
        corners = corners * np.asarray(layer.downsample_factors[layer.data_level])
    (top, left), (bottom, right) = corners[0, list(plane.axes)], corners[1, list(plane.axes)] + 1
    seen = Box(float(top), float(left), float(bottom), float(right)).rounded_out().intersection(Box.of_shape(shape))
    return Box.of_shape(shape) if seen.is_empty or min(seen.height, seen.width) < 2 else seen


def plane_of(viewer: ViewerModel, layer: Image) -> Plane:
    """Return the plane of a layer that the viewer shows.

    Raises
    ------
    ImageError
        The viewer shows three dimensions, a plane beside the layer, or one that cuts it obliquely.
    """
    if viewer.dims.ndisplay != 2:
        raise ImageError("Prompts work on planes: switch the viewer back to 2-D.")
    offset = viewer.dims.ndim - layer.ndim
    if offset < 0:
        raise ImageError(f"{layer.name!r} is no longer in the viewer: choose an image layer.")
    rows, cols = (axis - offset for axis in viewer.dims.displayed)
    if rows < 0 or cols < 0:
        raise ImageError(f"The view shows an axis that {layer.name!r} does not have: change the order of the axes.")
    _check_not_oblique(layer, (rows, cols))
    shape = shape_of(layer)
    position = np.rint(world.to_data(viewer, layer, viewer.dims.point)).astype(int)
    projection = projection_of(viewer, [layer])
    if projection is not None:
        # A slice that is thick enough shows some of an image that lies beside its middle.
        last = np.array(shape) - 1
        near = np.clip(position, 0, last)
        low, high = np.rint(near - projection.before), np.rint(near + projection.after)
        position = np.where((low <= last) & (high >= 0), near, position)
    index = [0 if axis in (rows, cols) else int(position[axis]) for axis in range(layer.ndim)]
    if not all(0 <= at < length for at, length in zip(index, shape, strict=True)):
        raise ImageError(f"The view stands outside {layer.name!r}: move the slider to one of its planes.")
    return Plane((rows, cols), tuple(index))


def _check_not_oblique(layer: Layer, displayed: tuple[int, int]) -> None:
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)))
    steps = np.array([np.asarray(layer.data_to_world(unit)) - origin for unit in np.eye(layer.ndim)])
    hidden = [axis for axis in range(layer.ndim) if axis not in displayed]
    mixed = max(
        float(np.abs(steps[np.ix_(displayed, hidden)]).max(initial=0)),
        float(np.abs(steps[np.ix_(hidden, displayed)]).max(initial=0)),
    )
    if mixed > 1e-6 * float(np.abs(steps).max()):
        raise ImageError(
            f"{layer.name!r} is turned against the view, so its planes are cut obliquely: remove that rotation."
        )


def downsample_of(viewer: ViewerModel, layer: Image, plane: Plane) -> float:
    """Return how many pixels of a layer one pixel of the screen shows, as a power of two."""
    origin = world.to_world(viewer, layer, np.zeros(layer.ndim))
    steps = np.eye(layer.ndim)[list(plane.axes)]
    size = min(float(np.linalg.norm(world.to_world(viewer, layer, step) - origin)) for step in steps)
    return float(2.0 ** np.rint(np.log2(1 / max(viewer.scene.camera.zoom * size, 1e-12))))


def prompts_of(
    points: Points | None,
    shapes: Shapes | None,
    image: Image,
    plane: Plane,
    number: int | None = None,
) -> LayerPrompts:
    """Return the prompts that lie in a plane; with `number`, only those of that draft.

    Points and scribbles carry their sign in the feature "label" (1 or 0), all of them their object in "object". The
    last rectangle is the box; ellipses and polygons together are the mask; paths and lines are points along them.
    Prompts that cannot count (outside the image, a rectangle without extent) are left out, and a sentence says why.
    """
    hidden = [axis for axis in range(image.ndim) if axis not in plane.axes]
    shape = plane.shape_in(shape_of(image))
    ignored: list[str] = []
    at, labels = np.zeros((0, 2)), np.zeros(0, int)
    if points is not None and len(points.data):
        position = world.moved(points, image, np.asarray(points.data, float))
        here = _in_plane(position, hidden, plane) & _is_of(points, number)
        at = position[here][:, plane.axes]
        labels = signs_of(points)[here]
        inside = np.array([Box.of_shape(shape).contains_point(*point) for point in at], bool)
        ignored += [f"The point at {_place(point)} lies outside the image: move it inside." for point in at[~inside]]
        at, labels = at[inside], labels[inside]
    box: Box | None = None
    mask: Mask | None = None
    if shapes is not None:
        signs, is_of = signs_of(shapes), _is_of(shapes, number)
        for data, kind, sign, counts in zip(shapes.data, shapes.shape_type, signs, is_of, strict=True):
            vertices = world.moved(shapes, image, np.asarray(data, float))
            if not counts or not _in_plane(vertices, hidden, plane).all():
                continue
            corners = vertices[:, plane.axes]
            try:
                if kind == "rectangle":
                    box = _box_of(corners, shape)
                elif kind in ("ellipse", "polygon"):
                    part = _filled(corners, kind, shape)
                    mask = part if mask is None else union_of(mask, part)
                elif kind in SCRIBBLES:
                    along = _along(corners, shape)
                    # Before the points, which are added one by one, each answer refining the one before.
                    at = np.concatenate([along, at])
                    labels = np.concatenate([np.full(len(along), sign), labels])
            except PromptError as error:
                ignored.append(str(error))
    return LayerPrompts(at, labels, box, mask, tuple(ignored))


def drawn_masks(shapes: Shapes, image: Image, plane: Plane) -> list[Mask]:
    """Return the pixels of a plane of an image in each rectangle, ellipse and polygon of a layer that lies in it."""
    hidden = [axis for axis in range(image.ndim) if axis not in plane.axes]
    shape, masks = plane.shape_in(shape_of(image)), []
    for data, kind in zip(shapes.data, shapes.shape_type, strict=True):
        vertices = world.moved(shapes, image, np.asarray(data, float))
        if kind in SCRIBBLES or not _in_plane(vertices, hidden, plane).all():
            continue
        with contextlib.suppress(PromptError):  # It lies outside the image, or has no extent.
            masks.append(_filled(vertices[:, plane.axes], kind, shape))
    return masks


def signs_of(layer: Points | Shapes) -> NDArray[np.int64]:
    """Return the sign of each point or shape, 1 or 0; all 1 in a layer without signs."""
    if LABEL_FEATURE not in layer.features:
        return np.ones(len(layer.data), np.int64)
    # While napari takes shapes away, it has features of those that are gone.
    return np.asarray(layer.features[LABEL_FEATURE], np.int64)[: len(layer.data)]


def numbers_of(layer: Points | Shapes) -> NDArray[np.int64]:
    """Return the number of the draft that each point or shape belongs to; all 0 in a layer without numbers."""
    if OBJECT_FEATURE not in layer.features:
        return np.zeros(len(layer.data), np.int64)
    return np.asarray(layer.features[OBJECT_FEATURE], np.int64)[: len(layer.data)]


def _filled(corners: NDArray[np.float64], kind: str, shape: tuple[int, int]) -> Mask:
    """Return the pixels inside a rectangle, an ellipse or a polygon.

    Raises
    ------
    PromptError
        It has no extent, or lies outside the plane.
    """
    if kind == "rectangle":
        box = _box_of(corners, shape).rounded_out().intersection(Box.of_shape(shape))
        return Mask(box, np.ones(box.pixel_shape, bool))
    return rasterize_polygon(_ellipse(corners) if kind == "ellipse" else corners, shape)


def _is_of(layer: Points | Shapes, number: int | None) -> NDArray[np.bool_]:
    return np.ones(len(layer.data), bool) if number is None else np.asarray(numbers_of(layer) == number)


def _along(vertices: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return points evenly along a scribble, from its one end to the other, of which those in the plane count.

    Raises
    ------
    PromptError
        None does.
    """
    steps = np.linalg.norm(np.diff(vertices, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    where = np.linspace(0, at[-1], SCRIBBLE_POINTS)
    points: NDArray[np.float64] = np.stack([np.interp(where, at, vertices[:, axis]) for axis in (0, 1)], axis=1)
    inside = np.array([Box.of_shape(shape).contains_point(*point) for point in points], bool)
    if not inside.any():
        raise PromptError("The scribble lies outside the image: draw it on the object.")
    return np.asarray(points[inside], np.float64)


def _place(point: NDArray[np.float64]) -> str:
    return f"({point[0]:.1f}, {point[1]:.1f})"


def _in_plane(position: NDArray[np.float64], hidden: list[int], plane: Plane) -> NDArray[np.bool_]:
    return np.asarray((np.rint(position[:, hidden]).astype(int) == np.array(plane.index)[hidden]).all(axis=1), bool)


def _box_of(corners: NDArray[np.float64], shape: tuple[int, int]) -> Box:
    """Return the part of a rectangle inside the plane; napari's whole numbers are pixel centers, a box counts edges.

    Raises
    ------
    PromptError
        It has no extent, or lies outside the plane.
    """
    low, high = corners.min(axis=0) + 0.5, corners.max(axis=0) + 0.5
    box = Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    if min(box.height, box.width) < SMALLEST_BOX:
        raise PromptError("The rectangle is too small to be a box: drag it around the object.")
    inside = box.intersection(Box.of_shape(shape))
    if inside.is_empty:
        raise PromptError("The rectangle lies outside the image: draw it around the object.")
    return inside


def _ellipse(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the outline of the ellipse inside a rectangle of four corners."""
    center = corners.mean(axis=0)
    a, b = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_VERTICES, endpoint=False)[:, None]
    return np.asarray(center + np.cos(angle) * a + np.sin(angle) * b)


def union_of(a: Mask, b: Mask) -> Mask:
    """Return the pixels of either mask."""
    box = a.box.union(b.box)
    pixels = np.zeros(box.pixel_shape, bool)
    for mask in (a, b):
        top, left = int(mask.box.top - box.top), int(mask.box.left - box.left)
        pixels[top : top + mask.pixels.shape[0], left : left + mask.pixels.shape[1]] |= mask.pixels
    return Mask(box, pixels)


def transform_of(layer: Layer) -> dict[str, Any]:
    """Return the arguments that give a new layer the place of another in the world."""
    return world.transform_in(layer, None)


def grid_of(layer: Layer) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the step along each axis and the position of the first pixel of an image layer in the world.

    Both follow from all transforms of the layer together, as long as its axes run along those of the world; of a layer
    that is rotated or sheared they are its `scale` and `translate`, and the rest is left out.
    """
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), float)
    steps = np.array([np.asarray(layer.data_to_world(unit), float) - origin for unit in np.eye(layer.ndim)])
    along = np.diag(steps)
    if np.abs(steps - np.diag(along)).max() > 1e-9 * np.abs(steps).max():
        along, origin = np.asarray(layer.scale, float), np.asarray(layer.translate, float)
    return tuple(map(float, along)), tuple(map(float, origin))


def translate_to(layer: Layer, position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the `translate` of a layer whose first pixel lies on the pixel `position` of `layer`, all else equal."""
    from napari.utils.transforms import Affine

    linear = Affine(scale=layer.scale, rotate=layer.rotate, shear=layer.shear, ndim=layer.ndim)
    translate: NDArray[np.float64] = np.asarray(layer.translate, float) + np.asarray(linear(position), float)
    return translate
