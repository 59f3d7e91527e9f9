"""Where objects are searched: inside what the user drew, on tissue, or inside the labels of a layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from napari.layers import Labels, Shapes

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.errors import PromptError
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.layers.proposals import EXAMPLES_NAME, REGION_NAME, make_drawn
from napari_sam.tasks.tissue import tissue_of

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.core.geometry import Plane
    from napari_sam.plugin.session import Session
    from napari_sam.segmenter import Segmenter

Within: TypeAlias = Literal["everywhere", "drawn", "tissue"] | Labels
Limit: TypeAlias = "Callable[[Segmenter, Plane], Mask | None]"
"""Returns the pixels of a plane that are searched, in the worker; None for all of them."""


def limit_of(within: Within, session: Session, image: Image, plane: Plane) -> Limit:
    """Return what limits a search; all that it needs of layers is taken here.

    Parameters
    ----------
    within
        What the user chose.
    session
        The viewer.
    image, plane
        The image, and the plane in view: what is drawn there counts for the other planes too.

    Raises
    ------
    PromptError
        Nothing is drawn.
    LabelsError
        The labels are not of this image.
    """
    if within == "everywhere":
        return lambda _segmenter, _plane: None
    if within == "tissue":
        return tissue_of
    if within == "drawn":
        drawn = region_of(session, image, plane)
        return lambda _segmenter, _plane: drawn
    labels_layer.check_place(within, image)
    labels = within.data[0] if within.multiscale else within.data
    return lambda _segmenter, where: _labeled(labels, where)


def region_of(session: Session, image: Image, plane: Plane) -> Mask:
    """Return the pixels of the plane that the user drew around.

    Raises
    ------
    PromptError
        No rectangle, polygon or ellipse lies in the plane.
    """
    parts = drawn_parts(session, image, plane)
    if not parts:
        raise PromptError("There is no region yet: drag a rectangle, or draw in any Shapes layer.")
    return reduce(adapters.union_of, parts)


def drawn_parts(session: Session, image: Image, plane: Plane) -> list[Mask]:
    """Return the pixels in each shape that the user drew in a plane; of several layers, those in the first one."""
    found = (adapters.drawn_masks(layer, image, plane) for layer in _candidates(session))
    return next((parts for parts in found if parts), [])


def draw_region(session: Session) -> None:
    """Let the user draw a region, or draw on, in a layer of its own, if no other Shapes layer has one."""
    if all(layer.name == REGION_NAME for layer in _candidates(session)):
        draw_in(session, REGION_NAME, "add_rectangle")


def draw_in(session: Session, name: str, mode: str) -> Shapes | None:
    """Make one of the plugin's layers for drawing the active one, and return it."""
    image, viewer = session.image, session.viewer
    if image is None:
        return None
    layer = next((layer for layer in viewer.layers if layer.name == name and isinstance(layer, Shapes)), None)
    if layer is None:
        layer = make_drawn(image, name, viewer.dims.units)
        viewer.add_layer(layer)
    viewer.layers.selection.active = layer
    layer.mode = mode
    return layer


def _candidates(session: Session) -> list[Shapes]:
    """Return the Shapes layers with something in them: the active one first, that of the prompts last."""
    layers, own = session.viewer.layers, session.prompts.shapes
    drawn = [
        layer
        for layer in reversed(layers)
        if isinstance(layer, Shapes) and len(layer.data) and layer.name != EXAMPLES_NAME
    ]
    active = layers.selection.active
    return sorted(drawn, key=lambda layer: (layer is not active, layer is own))


def _labeled(labels: Any, plane: Plane) -> Mask:
    """Return where labels are not zero in a plane; it may be nowhere."""
    whole = Box.of_shape(plane.shape_in(labels.shape))
    return Mask(whole, plane.oriented(np.asarray(labels[plane.slicer(whole)])) != 0).tightened()
