"""The layers that the plugin adds to a viewer: points, shapes, the preview and new labels."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels, Points, Shapes
from napari.utils.colormaps import DirectLabelColormap

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.plugin.adapters import LABEL_FEATURE, shape_of, transform_of, translate_to

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

SIGN_COLORS = {1: "#2ca02c", 0: "#d62728"}
PREVIEW_COLOR = "#ffe119"


def make_points(image: Image) -> Points:
    """Return an empty layer for point prompts on an image; the feature "label" holds their sign."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Feature 'label' looks like categorical")
        return Points(
            ndim=image.ndim,
            name="SAM points",
            features={LABEL_FEATURE: np.zeros(0, int)},
            feature_defaults={LABEL_FEATURE: 1},
            face_color=LABEL_FEATURE,
            face_color_cycle=SIGN_COLORS,
            border_color="white",
            size=10,
            canvas_size_limits=(6, 12),
            **transform_of(image),
        )


def make_shapes(image: Image) -> Shapes:
    """Return an empty layer for box and mask prompts on an image."""
    return Shapes(
        ndim=image.ndim,
        name="SAM shapes",
        face_color="transparent",
        edge_color="#ffbf00",
        edge_width=2,
        **transform_of(image),
    )


def make_preview(image: Image) -> Labels:
    """Return a layer for the mask that is not accepted yet; `show_mask` fills it."""
    layer = Labels(
        np.zeros((1,) * image.ndim, np.uint8),
        name="SAM preview",
        opacity=0.5,
        colormap=DirectLabelColormap(color_dict={None: "transparent", 1: PREVIEW_COLOR}),
        **transform_of(image),
    )
    layer.editable = False
    return layer


def show_mask(preview: Labels, image: Image, plane: Plane, mask: Mask) -> None:
    """Put a mask into the preview, which becomes as small as the mask and lies where it lies in the image."""
    preview.visible = False
    if mask.area == 0:
        return
    position = np.array(plane.index, float)
    position[list(plane.axes)] = mask.box.top, mask.box.left
    shape = [1] * image.ndim
    shape[plane.axes[0]], shape[plane.axes[1]] = mask.pixels.shape
    preview.data = plane.oriented(mask.pixels).astype(np.uint8).reshape(shape)
    preview.translate = translate_to(image, position)
    preview.visible = True


def make_labels(image: Image) -> Labels:
    """Return new labels for an image, uint16.

    Raises
    ------
    LabelsError
        There is no memory for them.
    """
    try:
        data = np.zeros(shape_of(image), np.uint16)
    except MemoryError as error:
        raise LabelsError(
            "There is no memory for labels of this image: add a Labels layer of a zarr array and choose it as output."
        ) from error
    return Labels(data, name="SAM labels", **transform_of(image))


def insert_below(viewer: ViewerModel, layer: Layer, *above: Layer | None) -> None:
    """Add a layer under others and leave the active layer active."""
    active = viewer.layers.selection.active
    places = [viewer.layers.index(other) for other in above if other is not None and other in viewer.layers]
    viewer.layers.insert(min(places, default=len(viewer.layers)), layer)
    viewer.layers.selection.active = active
