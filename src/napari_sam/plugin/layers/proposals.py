"""The layer of proposals: outlines of the objects that were found and are not accepted yet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels, Shapes
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.plugin.layers.adapters import transform_of
from napari_sam.plugin.layers.factory import mark_display
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
REGION_NAME, REGION_COLOR = "SAM region", "#4cc9f0"
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


def make_region(image: Image, units: Units = None) -> Shapes:
    """Return an empty layer in which the user draws where objects are searched."""
    return Shapes(
        ndim=image.ndim,
        name=REGION_NAME,
        face_color="transparent",
        edge_color=REGION_COLOR,
        edge_width=2,
        **transform_in(image, units),
    )


def step_for(box: Box) -> int:
    """Return how many pixels of the image along a side one pixel of the picture of a box stands for."""
    return max(1, math.ceil(max(box.pixel_shape) / MAX_SIDE))


def picture_of(
    found: FoundObjects,
    kept: NDArray[np.intp],
    removed: NDArray[np.intp],
    reviewed: int | None,
    box: Box,
    step: int,
) -> NDArray[np.uint8]:
    """Draw the proposals in a box of the plane.

    Parameters
    ----------
    found
        The proposals.
    kept, removed
        Numbers of those that are kept, best first, and of those that were removed by hand.
    reviewed
        Number of the one that is looked at, or None.
    box, step
        What the picture shows, and how many pixels of the plane one of its pixels stands for along a side.

    Returns
    -------
    numpy.ndarray
        The color of each pixel, 0 for none: an outline in its color, and fainter inside.
    """
    numbers = np.zeros([math.ceil(length / step) for length in box.pixel_shape], np.int32)
    order = np.concatenate([removed, kept[::-1]])
    boxes = found.boxes[order]
    order = order[
        (boxes[:, 0] < box.bottom) & (boxes[:, 2] > box.top) & (boxes[:, 1] < box.right) & (boxes[:, 3] > box.left)
    ]
    boxes = found.boxes[order]
    is_dot = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) < DOT_SIZE * step
    centers = ((boxes[is_dot, :2] + boxes[is_dot, 2:]) // 2 - np.array([box.top, box.left], np.int64)) // step
    inside = ((centers >= 0) & (centers < numbers.shape)).all(axis=1)
    numbers[tuple(centers[inside].T)] = order[is_dot][inside] + 1
    for number in order[~is_dot]:
        _draw(numbers, found.mask(int(number)), int(number) + 1, box, step)
    colors = np.zeros(len(found) + 1, np.uint8)
    colors[kept + 1] = kept % len(KEPT_COLORS) + 1
    colors[removed + 1] = COLORS.index(REMOVED_COLOR) + 1
    if reviewed is not None:
        colors[reviewed + 1] = COLORS.index(REVIEWED_COLOR) + 1
    picture = colors[numbers]
    picture[_is_inner(numbers) & (numbers > 0)] += len(COLORS)
    return picture


def _draw(numbers: NDArray[np.int32], mask: Mask, number: int, box: Box, step: int) -> None:
    """Draw every `step`th pixel of a mask, those in the middle of the picture's pixels."""
    top, left = int(mask.box.top - box.top), int(mask.box.left - box.left)
    row, col = (step // 2 - top) % step, (step // 2 - left) % step
    pixels = mask.pixels[row::step, col::step]
    first = (top + row) // step, (left + col) // step
    start = [max(0, at) for at in first]
    stop = [min(length, at + size) for length, at, size in zip(numbers.shape, first, pixels.shape, strict=True)]
    if any(a >= b for a, b in zip(start, stop, strict=True)):
        return
    part = pixels[tuple(slice(a - at, b - at) for a, b, at in zip(start, stop, first, strict=True))]
    numbers[start[0] : stop[0], start[1] : stop[1]][part] = number


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
