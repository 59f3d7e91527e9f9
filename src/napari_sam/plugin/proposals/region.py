"""The region in which objects are searched: what the user drew in a Shapes layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Shapes

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.errors import PromptError
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers.proposals import REGION_NAME, make_region

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.core.geometry import Plane
    from napari_sam.plugin.session import Session


def region_of(session: Session, image: Image, plane: Plane) -> Mask:
    """Return the pixels of the plane that the user drew around.

    Raises
    ------
    PromptError
        No rectangle, polygon or ellipse lies in the plane.
    """
    shape = plane.shape_in(adapters.shape_of(image))
    for layer in _candidates(session):
        drawn = adapters.prompts_of(None, layer, image, plane)
        box = None if drawn.box is None else drawn.box.rounded_out().intersection(Box.of_shape(shape))
        whole = None if box is None else Mask(box, np.ones(box.pixel_shape, bool))
        parts = [mask for mask in (drawn.mask, whole) if mask is not None]
        if parts:
            return parts[0] if len(parts) == 1 else adapters.union_of(*parts)
    raise PromptError("There is no region yet: drag a rectangle, or draw in any Shapes layer.")


def draw_region(session: Session) -> None:
    """Let the user draw a region, in a layer of its own, if no Shapes layer has one."""
    image, viewer = session.image, session.viewer
    if image is None or _candidates(session):
        return
    layer = next((layer for layer in viewer.layers if layer.name == REGION_NAME and isinstance(layer, Shapes)), None)
    if layer is None:
        layer = make_region(image, viewer.dims.units)
        viewer.add_layer(layer)
    viewer.layers.selection.active = layer
    layer.mode = "add_rectangle"


def _candidates(session: Session) -> list[Shapes]:
    """Return the Shapes layers with something in them: the active one first, that of the prompts last."""
    layers, own = session.viewer.layers, session.prompts.shapes
    drawn = [layer for layer in reversed(layers) if isinstance(layer, Shapes) and len(layer.data)]
    active = layers.selection.active
    return sorted(drawn, key=lambda layer: (layer is not active, layer is own))
