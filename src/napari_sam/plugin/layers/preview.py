"""PreviewLayers: the layers that show masks which are not accepted yet, of one viewer."""

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

# Of the picture of all parked objects, and how many it can tell apart.
MAX_SIDE, MAX_COLORS = 2048, 255


class PreviewLayers:
    """Draws the mask in hand, the one under the cursor, and those of the other open objects.

    Parameters
    ----------
    viewer
        The viewer's model.
    above
        Returns the layers that stay on top.

    Attributes
    ----------
    preview
        The layer of the mask in hand, or None.
    parked
        The layer of the other open objects, or None.
    """

    def __init__(self, viewer: ViewerModel, above: Callable[[], Sequence[Layer]]) -> None:
        self._viewer, self._above = viewer, above
        self.preview: Labels | None = None
        self.pending: Labels | None = None

    @property
    def layers(self) -> list[Labels]:
        """Those layers that there are."""
        return [layer for layer in (self.preview, self.pending) if layer is not None]

    def follow(self, image: Image) -> None:
        """Let the layers lie where the image does, which was moved; what they show must be drawn anew."""
        for layer in self.layers:
            own_layers.place_on(layer, image)

    def prepare(self, image: Image) -> Labels:
        """Return the preview's layer, made where it is missing: early, because napari works on a new layer a while."""
        if self.preview is None:
            self.preview = own_layers.make_preview(image)
            own_layers.insert_below(self._viewer, self.preview, *self._above())
        return self.preview

    def insert(self, layer: Labels) -> None:
        """Add a layer under all of these."""
        own_layers.insert_below(self._viewer, layer, *self.layers, *self._above())

    def show(self, image: Image, plane: Plane, mask: Mask) -> None:
        """Draw the mask in hand."""
        own_layers.show_mask(self.prepare(image), image, plane, mask)

    def show_hover(self, image: Image, plane: Plane, mask: Mask) -> None:
        """Draw the mask under the cursor, fainter."""
        own_layers.show_hover(self.prepare(image), image, plane, mask)

    def fade(self) -> None:
        """Draw what is shown fainter: it is not the answer to what was asked last."""
        if self.preview is not None and self.preview.visible:
            own_layers.fade(self.preview)

    def hide(self) -> None:
        """Draw neither."""
        if self.preview is not None:
            self.preview.visible = False

    def show_parked(self, image: Image, plane: Plane, masks: Sequence[Mask]) -> None:
        """Draw the masks of other open objects on a plane, each in its own colour."""
        if not masks:
            if self.pending is not None:
                self.pending.visible = False
            return
        if self.pending is None:
            self.pending = own_layers.make_parked(image)
            own_layers.insert_below(self._viewer, self.pending, *self.layers, *self._above())
        own_layers.show_picture(self.pending, image, plane, *overview(masks[:MAX_COLORS], MAX_SIDE))

    def forget(self, layer: Layer) -> bool:
        """Do without a layer that was deleted; say whether it was one of these."""
        if layer is self.preview:
            self.preview = None
        elif layer is self.pending:
            self.pending = None
        else:
            return False
        return True


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
