"""Create the layers of the plugin: points, shapes, the preview and new labels."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Points, Shapes
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.files.folders import label_folder
from napari_sam.images.axes.letters import letters_of
from napari_sam.images.lazy.levels import lazy_levels
from napari_sam.journal.discovery import journal_beside
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.layers.adapters import (
    LABEL_FEATURE,
    OBJECT_FEATURE,
    grid_of,
    shape_of,
    transform_of,
    translate_to,
)
from napari_sam.plugin.layers.label_colors import label_colors
from napari_sam.plugin.layers.names import name_of
from napari_sam.plugin.view.world import Units, factors, transform_in

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

SIGN_COLORS = {1: "#2ca02c", 0: "#d62728"}
SHAPE_COLORS = {1: "#ffbf00", 0: "#d62728"}
PREVIEW_COLOR = "#ffe119"
PREVIEW_OPACITY, HOVER_OPACITY = 0.5, 0.3
# Side in pixels of the array that hover masks are drawn into; the key of its position in the metadata.
WINDOW_SIDE = 1024
OWN = "napari-sam "
WINDOW = f"{OWN}window"
# Labels of more bytes, or longer than a texture of the graphics card can be, live on disk.
MAX_IN_MEMORY = 512 * 2**20
MAX_TEXTURE = 16384
MAX_NAME_BYTES = 180
# Where a layer's metadata keep the pyramid that it shows.
PYRAMID = f"{OWN}pyramid"
# Key in the metadata of a layer of classes for the output that it belongs to, as a weak reference.
CLASSES = f"{OWN}classes"


# The layers that were made here to show something. Not a note in their metadata, which a copy of a layer keeps.
_display_layers: weakref.WeakSet[Layer] = weakref.WeakSet()
# Those that the user draws prompts into, or where to search.
_drawn_layers: weakref.WeakSet[Layer] = weakref.WeakSet()


def place_on(layer: Layer, image: Image, units: Units = None) -> None:
    """Let a layer lie where an image does, counted in its units or in those of the world."""
    layer.metadata.pop(WINDOW, None)  # The label has another position by now.
    for name, value in transform_in(image, units).items():
        if name != "axis_labels" and not _is_same(getattr(layer, name), value):
            setattr(layer, name, value)


def _is_same(a: Any, b: Any) -> bool:
    """Compare two values of a layer's transform: setting one takes napari some time."""
    first, second = (np.asarray(getattr(each, "affine_matrix", each)) for each in (a, b))
    return np.array_equal(first, second)


def make_points(image: Image, units: Units = None) -> Points:
    """Return an empty layer for point prompts on an image, counted in the units of the world.

    The feature "label" holds their sign, 1 or 0, and "object" the open object that they belong to.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Feature '(label|object)' looks like categorical")
        layer = Points(
            ndim=image.ndim,
            name="SAM points",
            features={LABEL_FEATURE: np.zeros(0, int), OBJECT_FEATURE: np.zeros(0, int)},
            feature_defaults={LABEL_FEATURE: 1, OBJECT_FEATURE: 1},
            face_color=LABEL_FEATURE,
            face_color_cycle=SIGN_COLORS,
            border_color="white",
            size=10,
            canvas_size_limits=(6, 12),
            **transform_in(image, units),
        )
    mark_drawn(layer)
    return layer


def make_shapes(image: Image, units: Units = None) -> Shapes:
    """Return an empty layer for boxes, masks and scribbles on an image, made as by `make_points`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Feature '(label|object)' looks like categorical")
        layer = Shapes(
            ndim=image.ndim,
            name="SAM shapes",
            features={LABEL_FEATURE: np.zeros(0, int), OBJECT_FEATURE: np.zeros(0, int)},
            feature_defaults={LABEL_FEATURE: 1, OBJECT_FEATURE: 1},
            face_color="transparent",
            edge_color=SHAPE_COLORS[1],
            edge_width=2,
            **transform_in(image, units),
        )
    mark_drawn(layer)
    return layer


def make_preview(image: Image) -> Labels:
    """Return a layer for the mask that is not accepted yet; `show_mask` fills it."""
    return make_drawing(image, "SAM preview", PREVIEW_COLOR)


def make_pending(image: Image) -> Labels:
    """Return a layer for the masks of pending drafts; `show_picture` fills it."""
    layer = Labels(np.zeros((1,) * image.ndim, np.uint8), name="SAM open objects", opacity=0.4, **transform_of(image))
    layer.editable = False
    _display_layers.add(layer)
    return layer


def show_picture(layer: Labels, image: Image, plane: Plane, box: Box, step: int, picture: NDArray[np.uint8]) -> None:
    """Put a picture, shape (rows, cols), into a layer, each pixel of which stands for `step` ones of a box."""
    position, factor = np.array(plane.index, float), np.ones(image.ndim)
    for axis, start in zip(plane.axes, (box.top, box.left), strict=True):
        position[axis], factor[axis] = start + (step - 1) / 2, step
    shape = [1] * image.ndim
    shape[plane.axes[0]], shape[plane.axes[1]] = picture.shape
    layer.data = plane.oriented(picture).reshape(shape)
    layer.scale = np.asarray(image.scale) * factor
    layer.translate = translate_to(image, position)
    layer.visible = True


def make_drawing(image: Image, name: str, color: str) -> Labels:
    """Return an empty layer in one color on an image, which only the plugin draws on."""
    layer = Labels(
        np.zeros((1,) * image.ndim, np.uint8),
        name=name,
        opacity=PREVIEW_OPACITY,
        colormap=DirectLabelColormap(color_dict={None: "transparent", 1: color}),
        **transform_of(image),
    )
    layer.editable = False
    _display_layers.add(layer)
    return layer


def mark_display(layer: Layer) -> None:
    """Note that a layer only shows something."""
    _display_layers.add(layer)


def mark_drawn(layer: Layer) -> None:
    """Note that the user draws into a layer that was made here."""
    _drawn_layers.add(layer)


def is_helper(layer: Layer) -> bool:
    """Say whether a layer was made here for something else than objects or classes."""
    return layer in _display_layers or layer in _drawn_layers


def is_display(layer: Layer) -> bool:
    """Say whether a layer only shows something: it is no output, and has no objects to correct."""
    return layer in _display_layers or CLASSES in layer.metadata


def show_mask(preview: Labels, image: Image, plane: Plane, mask: Mask) -> None:
    """Put a mask into the preview, which becomes as small as the mask and lies where it lies in the image."""
    if mask.area == 0:
        preview.visible = False
        return
    _place(preview, image, plane, mask.box, mask.pixels, PREVIEW_OPACITY)


def show_hover(preview: Labels, image: Image, plane: Plane, mask: Mask) -> None:
    """Draw a mask into the preview, fainter, as one of a quick succession.

    napari takes 25 ms to move a layer or to replace its array, and 2 ms to show its array again. So the preview is
    larger than the mask, and stays in place while the next masks lie in it.
    """
    window = _window_of(preview, image, plane)
    if window is None or not window.contains(mask.box):
        window = _window_around(mask.box, plane.shape_in(shape_of(image)))
        pixels = np.zeros(window.pixel_shape, bool)
        pixels[mask.box.moved(-window.top, -window.left).slices] = mask.pixels
        _place(preview, image, plane, window, pixels, HOVER_OPACITY)
        preview.metadata[WINDOW] = preview.data, plane, window
        return
    preview.data.fill(0)
    seen = np.moveaxis(preview.data, plane.axes, (-2, -1))[(0,) * (image.ndim - 2)]
    seen[mask.box.moved(-window.top, -window.left).slices] = mask.pixels
    # Only the canvas gets the event: napari's layer list would redraw itself at every move of the mouse.
    with preview.events.set_data.blocker(preview.events):
        preview.refresh(thumbnail=False, highlight=False, extent=False)
    _let_be_seen(preview, HOVER_OPACITY)


def fade(preview: Labels) -> None:
    """Show a mask fainter, as one that is out of date."""
    _let_be_seen(preview, HOVER_OPACITY)


def _let_be_seen(layer: Labels, opacity: float) -> None:
    # napari makes a new thumbnail for an opacity that is the same as before.
    if layer.opacity != opacity:
        layer.opacity = opacity
    if not layer.visible:
        layer.visible = True


def _window_of(preview: Labels, image: Image, plane: Plane) -> Box | None:
    """Return where the preview lies if it holds what `show_hover` gave it last, on that plane."""
    data, of, window = preview.metadata.get(WINDOW, (None, None, None))
    return window if data is preview.data and of == plane else None


def _window_around(box: Box, shape: tuple[int, int]) -> Box:
    row, col = box.center
    height, width = (max(WINDOW_SIDE, 2 * length) / 2 for length in (box.height, box.width))
    around = Box(row - height, col - width, row + height, col + width)
    return around.rounded_out().intersection(Box.of_shape(shape)).union(box)


def _place(preview: Labels, image: Image, plane: Plane, box: Box, pixels: NDArray[np.bool_], opacity: float) -> None:
    position = np.array(plane.index, float)
    position[list(plane.axes)] = box.top, box.left
    shape = [1] * image.ndim
    shape[plane.axes[0]], shape[plane.axes[1]] = pixels.shape
    preview.data = plane.oriented(pixels).astype(np.uint8).reshape(shape)
    preview.translate = translate_to(image, position)
    _let_be_seen(preview, opacity)


def goes_to_disk(image: Image) -> bool:
    """Say whether labels of an image are too large for memory or the graphics card."""
    shape = shape_of(image)
    return math.prod(shape) * 2 > MAX_IN_MEMORY or max(shape) > MAX_TEXTURE


def make_labels(image: Image) -> Labels | None:
    """Return new labels in memory for an image, uint16; None where that is too large, for a pyramid on disk."""
    if goes_to_disk(image):
        return None
    try:
        zeros = np.zeros(shape_of(image), np.uint16)
        return Labels(zeros, name="SAM labels", colormap=label_colors(), **attributes_of(image))
    except MemoryError:
        return None


def metadata_of(layer: Layer) -> dict[str, Any]:
    """Return the metadata that labels take over from a layer: all but our own notes.

    Writers of other plugins look for the header of a medical image, or its calibration, in the metadata of the layer
    that they save.
    """
    return {key: value for key, value in layer.metadata.items() if not str(key).startswith(OWN)}


def attributes_of(image: Image) -> dict[str, Any]:
    """Return the arguments that give new labels the place and the metadata of their image."""
    return {**transform_of(image), "metadata": metadata_of(image)}


def label_path(image: Image) -> Path:
    """Return where new labels of an image go: beside its file where that can be written, else the user's data folder.

    The first name that no labels and no journal have yet: NAME_labels.ome.zarr, NAME_labels_2.ome.zarr ...
    """
    paths = _label_paths(label_folder_of(image), _name_of(image))
    return next(path for path in paths if not path.exists() and not journal_beside(path).exists())


def label_folder_of(image: Image) -> Path:
    """Return the folder of new labels of an image; see `label_path`."""
    source = _source_of(image)
    if source is not None and source.exists() and os.access(source.parent, os.W_OK):
        return source.parent
    return label_folder()


def _source_of(image: Image) -> Path | None:
    return None if image.source.path is None else Path(str(image.source.path))


def _name_of(image: Image) -> str:
    source = _source_of(image)
    return (name_of(source.name) if source else "") or name_of(image.name) or "image"


def _label_paths(folder: Path, name: str) -> Iterator[Path]:
    # A name may have 255 bytes, and that of the journal is longer.
    plain = _plain(name).encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    numbers = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
    return (folder / f"{plain}_labels{number}.ome.zarr" for number in numbers)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in name).strip(" .") or "image"


def pyramid_maker(path: Path, image: Image) -> Callable[[], LabelPyramid]:
    """Return what makes an empty label pyramid on disk in the shape and place of an image, in any thread."""
    letters = letters_of(image.axis_labels, image.ndim)
    lengths = [axis for axis, letter in enumerate(letters or "") if letter in "zyx"] or [-2, -1]
    factor, unit = _common_unit(image, lengths)
    steps, origin = (tuple(map(float, np.asarray(values) * factor)) for values in grid_of(image))
    create = functools.partial(
        LabelPyramid.create,
        path,
        shape_of(image),
        axes=letters if letters and set(letters) <= set("tczyx") else None,
        spacing=steps,
        translation=origin,
        unit=unit,
        time_unit=_unit_of(image, [axis for axis, letter in enumerate(letters or "") if letter == "t"]),
        name=path.name.removesuffix(".ome.zarr"),
    )

    def make() -> LabelPyramid:
        with contextlib.suppress(OSError):  # `create` says it better.
            path.parent.mkdir(parents=True, exist_ok=True)
        return create()

    return make


def _common_unit(image: Image, axes: Sequence[int]) -> tuple[NDArray[np.float64], str | None]:
    """Return what brings the steps of an image to one unit along some axes, that of the last one, and that unit."""
    units = list(image.units)
    for axis in axes:
        units[axis] = image.units[axes[-1]]
    factor = factors(image.units, units)
    if (factor == 1).all():  # One unit, or units that measure different things.
        return factor, _unit_of(image, axes)
    return factor, str(image.units[axes[-1]])


def _unit_of(image: Image, axes: Sequence[int]) -> str | None:
    """Return the unit that some axes have in common, or None."""
    units = {str(image.units[axis]) for axis in axes}
    return units.pop() if len(units) == 1 and units != {"pixel"} else None


def labels_of_pyramid(pyramid: LabelPyramid, image: Image) -> Labels:
    """Return a multiscale layer that shows a label pyramid in the place of an image.

    Raises
    ------
    LabelsError
        The pyramid has another shape.
    """
    if tuple(pyramid.shape) != shape_of(image):
        raise LabelsError(
            f"{pyramid.path} has shape {tuple(pyramid.shape)} and the image {shape_of(image)}: choose labels of the "
            "image's shape."
        )
    attributes = attributes_of(image)
    attributes["metadata"][PYRAMID] = pyramid
    layer = Labels(
        lazy_levels(pyramid.levels),
        name=Path(str(pyramid.path)).name.removesuffix(".zarr").removesuffix(".ome"),
        multiscale=len(pyramid.levels) > 1,
        colormap=label_colors(),
        **attributes,
    )
    layer.editable = False
    return layer


def insert_above(viewer: ViewerModel, layer: Layer, below: Layer) -> None:
    """Add a layer just over another one and leave the active layer active."""
    active = viewer.layers.selection.active
    viewer.layers.insert(viewer.layers.index(below) + 1, layer)
    viewer.layers.selection.active = active


def insert_below(viewer: ViewerModel, layer: Layer, *above: Layer | None) -> None:
    """Add a layer under others and leave the active layer active."""
    active = viewer.layers.selection.active
    places = [viewer.layers.index(other) for other in above if other is not None and other in viewer.layers]
    viewer.layers.insert(min(places, default=len(viewer.layers)), layer)
    viewer.layers.selection.active = active
