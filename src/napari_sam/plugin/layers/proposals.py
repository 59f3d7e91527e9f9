"""The layers of the task All: outlines of what was found, and shapes that say where to search, or for what."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

    from napari_sam.everything.found import FoundObjects

# None is the preview's yellow, near black, or the red and green of prompts.
KEPT_COLORS = ("#35d0ba", "#4cc9f0", "#7b9cff", "#c77dff", "#ff8fd8", "#f7a072")
REMOVED_COLOR, REVIEWED_COLOR = "#9a9a9a", "#ffffff"
# From the least to the greatest likeness that is drawn.
LIKENESS_COLORS = ("#8a63d8", "#5f7fe8", "#38a6ee", "#2ed0dc", "#8ff5e4")
COLORS = (*KEPT_COLORS, REMOVED_COLOR, REVIEWED_COLOR, *LIKENESS_COLORS)
# How strongly the inside of an outline is filled.
KEPT_OPACITY = 0.3
FILLED_OPACITY = {
    REMOVED_COLOR: 0.0,
    REVIEWED_COLOR: 0.55,
    **dict(zip(LIKENESS_COLORS, (0.1, 0.17, 0.25, 0.33, 0.42), strict=True)),
}
REGION_NAME, EXAMPLES_NAME, DRAWN_COLOR = "SAM region", "SAM examples", "#4cc9f0"
# Side of the picture in pixels; proposals that are smaller in it than this are drawn as dots, all at once.
MAX_SIDE, DOT_SIZE = 2048, 3
# Pixels of masks that are looked at together.
MAX_AT_ONCE = 2**22


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
        parts = [self._dots(order[is_dot]), *(self._masks(some) for some in self._portions(order[~is_dot]))]
        # Which pixels, the number of the proposal that each belongs to, and whether its neighbors do, too.
        self._pixels, self._owners, self._inner = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def picture(
        self,
        kept: NDArray[np.intp],
        removed: NDArray[np.intp],
        reviewed: int | None = None,
        kept_colors: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Draw some of the proposals.

        Parameters
        ----------
        kept, removed
            Numbers of those that are kept, and of those that were removed by hand.
        reviewed
            Number of the one that is looked at, or None.
        kept_colors
            Numbers, from 1, of the colors of those that are kept; by default neighbors have different ones.

        Returns
        -------
        numpy.ndarray
            The color of each pixel, 0 for none: an outline in its color, and fainter inside.
        """
        colors = np.zeros(len(self.found), np.uint8)
        colors[kept] = kept % len(KEPT_COLORS) + 1 if kept_colors is None else kept_colors
        colors[removed] = COLORS.index(REMOVED_COLOR) + 1
        if reviewed is not None:
            colors[reviewed] = COLORS.index(REVIEWED_COLOR) + 1
        values = colors[self._owners]
        is_drawn = values > 0
        values += self._inner * np.uint8(len(COLORS))
        picture = np.zeros(self._shape[0] * self._shape[1], np.uint8)
        picture[self._pixels[is_drawn]] = values[is_drawn]
        return picture.reshape(self._shape)

    def _portions(self, numbers: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """Return proposals in groups that have not more pixels at once than fit into memory."""
        sides = self.found.boxes[numbers, 2:] - self.found.boxes[numbers, :2]
        ends = np.flatnonzero(np.diff(np.cumsum(sides.prod(axis=1)) // MAX_AT_ONCE)) + 1
        return np.split(numbers, ends) if len(numbers) else []

    def _dots(self, numbers: NDArray[np.intp]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
        """Return the middle of each small proposal as one pixel, where that lies in the picture."""
        boxes = self.found.boxes[numbers]
        at = ((boxes[:, :2] + boxes[:, 2:]) // 2 - np.array([self.box.top, self.box.left], np.int64)) // self.step
        inside = ((at >= 0) & (at < self._shape)).all(axis=1)
        pixels = (at[inside, 0] * self._shape[1] + at[inside, 1]).astype(np.int32)
        return pixels, numbers[inside].astype(np.int32), np.zeros(len(pixels), bool)

    def _masks(self, numbers: NDArray[np.intp]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
        """Return every `step`th pixel of some masks, those in the middle of the picture's pixels."""
        step, proposals = self.step, self.found.proposals
        filled, starts = proposals.unpacked(numbers)
        at = np.flatnonzero(filled).astype(np.int32)  # Twice as fast as with 64 bits.
        owner = np.repeat(np.arange(len(numbers), dtype=np.int32), np.diff(np.searchsorted(at, starts)))
        starts, boxes = starts.astype(np.int32), proposals.boxes[numbers].astype(np.int32)
        height, width = (boxes[:, 2] - boxes[:, 0])[owner], (boxes[:, 3] - boxes[:, 1])[owner]
        row, col = np.divmod(at - starts[owner], width)
        down, across = row + boxes[owner, 0] - int(self.box.top), col + boxes[owner, 1] - int(self.box.left)
        chosen = (down >= 0) & (across >= 0) & (down % step == step // 2) & (across % step == step // 2)
        down, across = down // step, across // step
        chosen &= (down < self._shape[0]) & (across < self._shape[1])
        at, owner, row, col, height, width = (each[chosen] for each in (at, owner, row, col, height, width))
        # Four neighbors in the picture belong to the same mask.
        inner = (row >= step) & (row < height - step) & (col >= step) & (col < width - step)
        near = at[inner]
        inner[inner] = (
            filled[near - step]
            & filled[near + step]
            & (filled[near - step * width[inner]] & filled[near + step * width[inner]])
        )
        pixels = (down[chosen] * self._shape[1] + across[chosen]).astype(np.int32)
        return pixels, numbers[owner].astype(np.int32), inner


def likeness_colors(scores: NDArray[np.float32], least: float) -> NDArray[np.uint8]:
    """Return the number of the color of each likeness: the nearer to 1, the brighter; `least` is that of the first."""
    steps = len(LIKENESS_COLORS)
    step = np.floor((scores - least) / max(1 - least, 1e-6) * steps)
    return np.asarray(COLORS.index(LIKENESS_COLORS[0]) + 1 + np.clip(step, 0, steps - 1), np.uint8)


def class_colors(kinds: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Return the number of the color of each class."""
    return (kinds % len(KEPT_COLORS) + 1).astype(np.uint8)


def show_class_colors(layer: Labels, colors: Sequence[str]) -> None:
    """Draw the classes in these colors, of which the first six count; without any, in those of neighbors."""
    shown = (*colors, *KEPT_COLORS[len(colors) :])[: len(KEPT_COLORS)]
    layer.colormap = DirectLabelColormap(color_dict=_colors(shown))


def _colors(kept: Sequence[str] = KEPT_COLORS) -> dict[int | None, NDArray[np.float32] | str]:
    from napari.utils.colormaps.standardize_color import transform_color

    edges = transform_color([*kept, *COLORS[len(kept) :]])
    filled = edges.copy()
    filled[:, 3] = [FILLED_OPACITY.get(color, KEPT_OPACITY) for color in COLORS]
    return {None: "transparent", **dict(enumerate(np.concatenate([edges, filled]), 1))}
