"""The layers of the task All: outlines of what was found, and shapes that say where to search, or for what."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels, Shapes
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.plugin.layers.adapters import transform_of
from napari_sam.plugin.layers.factory import mark_display, mark_drawn
from napari_sam.plugin.view.world import Units, transform_in

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.core.masks import Mask
    from napari_sam.everything.found import FoundObjects

# None is the preview's yellow, near black, or the red and green of prompts.
KEPT_COLORS = ("#35d0ba", "#4cc9f0", "#7b9cff", "#c77dff", "#ff8fd8", "#f7a072")
REMOVED_COLOR, REVIEWED_COLOR = "#9a9a9a", "#ffffff"
COLORS = (*KEPT_COLORS, REMOVED_COLOR, REVIEWED_COLOR)
FILLED_OPACITY = {REMOVED_COLOR: 0.0, REVIEWED_COLOR: 0.55}
KEPT_OPACITY = 0.3
REGION_NAME, EXAMPLES_NAME, DRAWN_COLOR = "SAM region", "SAM examples", "#4cc9f0"
# Side of the picture in pixels; proposals that are smaller in it than this are drawn as dots, all at once.
MAX_SIDE, DOT_SIZE = 2048, 3


def make_proposals(image: Image) -> Labels:
    """Return an empty layer for proposals, which only the plugin draws on."""
    layer = Labels(
        np.zeros((1,) * image.ndim, np.uint8),
        name="SAM proposals",
        opacity=1.0,
        colormap=DirectLabelColormap(color_dict=_colors()),
        **transform_of(image),
    )
    layer.editable = False
    mark_display(layer)
    return layer


def make_drawn(image: Image, name: str, units: Units = None) -> Shapes:
    """Return an empty layer in which the user draws where objects are searched, or examples of them."""
    layer = Shapes(
        ndim=image.ndim,
        name=name,
        face_color="transparent",
        edge_color=DRAWN_COLOR,
        edge_width=2,
        **transform_in(image, units),
    )
    mark_drawn(layer)
    return layer


def step_for(box: Box) -> int:
    """Return how many pixels of the image along a side one pixel of the picture of a box stands for."""
    return max(1, math.ceil(max(box.pixel_shape) / MAX_SIDE))


class Pixels:
    """The pixels of all proposals in a box of the plane, from which a selection is drawn in a moment.

    Parameters
    ----------
    found
        The proposals.
    box, step
        What is drawn, and how many pixels of the plane one of the picture stands for along a side.
    """

    def __init__(self, found: FoundObjects, box: Box, step: int) -> None:
        self.found, self.box, self.step = found, box, step
        self._shape = math.ceil(box.pixel_shape[0] / step), math.ceil(box.pixel_shape[1] / step)
        boxes = found.boxes
        meets = (boxes[:, 0] < box.bottom) & (boxes[:, 2] > box.top)
        meets &= (boxes[:, 1] < box.right) & (boxes[:, 3] > box.left)
        order = np.flatnonzero(meets)
        order = order[np.argsort(found.scores[order], kind="stable")]  # The best ones are drawn last.
        is_dot = (boxes[order, 2:] - boxes[order, :2]).max(axis=1, initial=0) < DOT_SIZE * step
        dots = order[is_dot]
        parts = [self._dots(dots), *(self._mask(found.mask(int(number))) for number in order[~is_dot])]
        # Which pixels, and the number of the proposal that each belongs to.
        self._pixels = np.concatenate([pixels for pixels, _ in parts])
        counts = [len(pixels) for pixels, _ in parts[1:]]
        self._owners = np.concatenate([dots[parts[0][1]], np.repeat(order[~is_dot], counts)])

    def picture(
        self, kept: NDArray[np.intp], removed: NDArray[np.intp], reviewed: int | None = None
    ) -> NDArray[np.uint8]:
        """Draw some of the proposals.

        Parameters
        ----------
        kept, removed
            Numbers of those that are kept, and of those that were removed by hand.
        reviewed
            Number of the one that is looked at, or None.

        Returns
        -------
        numpy.ndarray
            The color of each pixel, 0 for none: an outline in its color, and fainter inside.
        """
        colors = np.zeros(len(self.found) + 1, np.uint8)
        colors[kept + 1] = kept % len(KEPT_COLORS) + 1
        colors[removed + 1] = COLORS.index(REMOVED_COLOR) + 1
        if reviewed is not None:
            colors[reviewed + 1] = COLORS.index(REVIEWED_COLOR) + 1
        is_drawn = colors[self._owners + 1] > 0
        numbers = np.zeros(self._shape[0] * self._shape[1], np.int32)
        numbers[self._pixels[is_drawn]] = self._owners[is_drawn] + 1
        numbers = numbers.reshape(self._shape)
        picture = colors[numbers]
        picture[_is_inner(numbers) & (picture > 0)] += len(COLORS)
        return picture

    def _dots(self, numbers: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """Return the middle of each small proposal as one pixel, and which of them lie in the picture."""
        boxes = self.found.boxes[numbers]
        at = ((boxes[:, :2] + boxes[:, 2:]) // 2 - np.array([self.box.top, self.box.left], np.int64)) // self.step
        inside = np.flatnonzero(((at >= 0) & (at < self._shape)).all(axis=1))
        return at[inside, 0] * self._shape[1] + at[inside, 1], inside

    def _mask(self, mask: Mask) -> tuple[NDArray[np.int64], None]:
        """Return every `step`th pixel of a mask, those in the middle of the picture's pixels."""
        step = self.step
        top, left = int(mask.box.top - self.box.top), int(mask.box.left - self.box.left)
        row, col = (step // 2 - top) % step, (step // 2 - left) % step
        rows, cols = np.nonzero(mask.pixels[row::step, col::step])
        rows, cols = rows + (top + row) // step, cols + (left + col) // step
        inside = (rows >= 0) & (rows < self._shape[0]) & (cols >= 0) & (cols < self._shape[1])
        return rows[inside] * self._shape[1] + cols[inside], None


def _is_inner(numbers: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which pixels have four neighbors of the same number."""
    inner = np.zeros(numbers.shape, bool)
    if min(numbers.shape) > 2:
        middle = numbers[1:-1, 1:-1]
        inner[1:-1, 1:-1] = (
            (middle == numbers[:-2, 1:-1])
            & (middle == numbers[2:, 1:-1])
            & (middle == numbers[1:-1, :-2])
            & (middle == numbers[1:-1, 2:])
        )
    return inner


def _colors() -> dict[int | None, NDArray[np.float32] | str]:
    from napari.utils.colormaps.standardize_color import transform_color

    edges = transform_color(list(COLORS))
    filled = edges.copy()
    filled[:, 3] = [FILLED_OPACITY.get(color, KEPT_OPACITY) for color in COLORS]
    return {None: "transparent", **dict(enumerate(np.concatenate([edges, filled]), 1))}
