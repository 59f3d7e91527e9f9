"""PreviewLayers: the layers of masks that are not accepted yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.plugin.layers import factory as own_layers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_sam.core.geometry import Plane

# Side of the picture of all pending drafts in pixels, and how many drafts it can tell apart.
MAX_SIDE, MAX_COLORS = 2048, 255


class PreviewLayers:
    """Draws the mask of the current draft, the one under the cursor, and those of pending drafts.

    Parameters
    ----------
    viewer
        The viewer's model.
    above
        Returns the layers that stay on top.

    Attributes
    ----------
    current
        The layer of the current draft and of the mask under the cursor, or None.
    pending
        The layer of pending drafts, or None.
    """

    def __init__(self, viewer: ViewerModel, above: Callable[[], Sequence[Layer]]) -> None:
        self._viewer, self._above = viewer, above
        self.current: Labels | None = None
        self.pending: Labels | None = None

    @property
    def existing(self) -> list[Labels]:
        """The layers that exist."""
        return [layer for layer in (self.current, self.pending) if layer is not None]

    def follow(self, image: Image) -> None:
        """Move the layers to where the image lies; what they show must be drawn again."""
        for layer in self.existing:
            own_layers.place_on(layer, image)

    def prepare(self, image: Image) -> Labels:
        """Return the layer of the current draft, made where it is missing; a new layer takes napari some time."""
        if self.current is None:
            self.current = own_layers.make_preview(image)
            own_layers.insert_below(self._viewer, self.current, *self._above())
        return self.current

    def insert(self, layer: Labels) -> None:
        """Add a layer under all of these."""
        own_layers.insert_below(self._viewer, layer, *self.existing, *self._above())

    def show(self, image: Image, plane: Plane, mask: Mask) -> None:
        """Draw the mask of the current draft."""
        own_layers.show_mask(self.prepare(image), image, plane, mask)

    def show_hover(self, image: Image, plane: Plane, mask: Mask) -> None:
        """Draw the mask under the cursor, fainter."""
        own_layers.show_hover(self.prepare(image), image, plane, mask)

    def fade(self) -> None:
        """Draw the mask fainter: it does not answer the latest request."""
        if self.current is not None and self.current.visible:
            own_layers.fade(self.current)

    def hide(self) -> None:
        """Hide the mask of the current draft and the one under the cursor."""
        if self.current is not None:
            self.current.visible = False

    def show_pending(self, image: Image, plane: Plane, masks: Sequence[Mask]) -> None:
        """Draw the masks of pending drafts on a plane, each in its own color."""
        if not masks:
            if self.pending is not None:
                self.pending.visible = False
            return
        if self.pending is None:
            self.pending = own_layers.make_pending(image)
            own_layers.insert_below(self._viewer, self.pending, *self.existing, *self._above())
        own_layers.show_picture(self.pending, image, plane, *overview(masks[:MAX_COLORS], MAX_SIDE))

    def forget(self, layer: Layer) -> None:
        """Forget a layer that was deleted, if it is one of these."""
        if layer is self.current:
            self.current = None
        elif layer is self.pending:
            self.pending = None


def overview(masks: Sequence[Mask], most: int) -> tuple[Box, int, NDArray[np.uint8]]:
    """Return a picture of masks, which may lie far apart.

    Parameters
    ----------
    masks
        At least one; the pixels of the first one are 1 in the picture, those of the second one 2, and so on.
    most
        The longest side of the picture.

    Returns
    -------
    box, step, picture
        What it shows, in level-0 pixels, how many of them one of its pixels stands for along a side, and the picture.
    """
    box = masks[0].box
    for mask in masks[1:]:
        box = box.union(mask.box)
    step = max(1, math.ceil(max(box.pixel_shape) / most))
    picture = np.zeros([math.ceil(length / step) for length in box.pixel_shape], np.uint8)
    for number, mask in enumerate(masks, 1):
        rows, cols = np.nonzero(mask.pixels)
        rows, cols = (rows + int(mask.box.top - box.top)) // step, (cols + int(mask.box.left - box.left)) // step
        picture[rows, cols] = number
    return box, step, picture
