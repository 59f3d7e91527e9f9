"""Mask: a box and the pixels in it, never an array of the whole image; and how it was made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.ndimage import label as label_regions

from napari_sam.core.geometry import Box, positive
from napari_sam.core.rendering import Rendering
from napari_sam.core.tiles import Tile

STABILITY_OFFSET = 1.0
# A correction that leaves less in common (IoU) means that all of the earlier mask was wrong.
MERGE_LEAST_IOU = 0.5
# Larger masks are not merged: finding the connected regions of 16 million pixels takes a fifth of a second.
MERGE_MOST_PIXELS = 2**24

Overlap = Literal["keep", "overwrite", "empty"]


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """One answer for one object.

    Parameters
    ----------
    box
        Half-open, whole level-0 pixels; where `pixels` lie.
    pixels
        Shape (box height, box width), bool.
    iou_prediction
        The decoder's own estimate of the mask's IoU with the object, 0 to 1; NaN for a mask that no decoder made.
    stability_score
        IoU of the mask cut at logit +1 with the one cut at -1, 0 to 1 (Kirillov et al. 2023); NaN likewise.
    low_res_logits
        Shape (side / 4, side / 4), float32: the decoder's output before the threshold, over `tile`; or None.
    tile
        The tile that was decoded, or None.
    """

    box: Box
    pixels: NDArray[np.bool_] = field(repr=False)
    iou_prediction: float = float("nan")
    stability_score: float = float("nan")
    low_res_logits: NDArray[np.float32] | None = field(default=None, repr=False)
    tile: Tile | None = field(default=None, repr=False)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.pixels))

    def tightened(self) -> Mask:
        """Return the same mask in its smallest box; an empty mask gets an empty box."""
        rows, cols = np.flatnonzero(self.pixels.any(axis=1)), np.flatnonzero(self.pixels.any(axis=0))
        if len(rows) == 0:
            top, left = self.box.top, self.box.left
            return replace(self, box=Box(top, left, top, left), pixels=np.zeros((0, 0), bool))
        top, bottom, left, right = rows[0], rows[-1] + 1, cols[0], cols[-1] + 1
        box = Box(
            *(int(v) for v in (self.box.top + top, self.box.left + left, self.box.top + bottom, self.box.left + right))
        )
        return replace(self, box=box, pixels=self.pixels[top:bottom, left:right])

    def to_array(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask as a boolean array of a whole plane of `shape`."""
        return self.in_box(Box.of_shape(shape))

    def in_box(self, box: Box) -> NDArray[np.bool_]:
        """Return the pixels as a boolean array of a box of whole pixels that holds the mask's own."""
        array = np.zeros(box.pixel_shape, bool)
        array[self.box.moved(-box.top, -box.left).slices] = self.pixels
        return array


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a mask was made.

    Parameters
    ----------
    model, model_digest
        The predictor's name, and the hash of its weights.
    level, tile
        Level and read box of the tile that was decoded.
    downsample
        Image pixels for each pixel of the screen.
    candidate
        Its name among the three candidates: "small", "medium", "large", or "best".
    rendering, channels
        The contrast and the channels of the encoder's input.
    is_propagated
        Whether the mask was propagated from other planes, and nobody has accepted it in its own plane: the next
        propagation may replace it.
    """

    model: str | None = None
    model_digest: str | None = None
    level: int | None = None
    tile: Box | None = None
    downsample: float | None = None
    candidate: str | None = None
    rendering: Rendering | None = None
    channels: tuple[int, ...] = ()
    is_propagated: bool = False


def mask_of(pixels: NDArray[np.bool_]) -> Mask:
    """Return the pixels of a whole plane, shape (rows, cols), as a mask in its smallest box."""
    return Mask(Box.of_shape(pixels.shape), pixels).tightened()


def mask_from_logits(logits: NDArray[np.float32], tile: Tile, iou_prediction: float = float("nan")) -> Mask:
    """Convert a decoder's logits to a mask at level-0 resolution, computing only pixels near the object.

    Parameters
    ----------
    logits
        Shape (side / 4, side / 4), float32, over the whole tile, padding included.
    tile
        The tile that was decoded.
    iou_prediction
        The decoder's estimate for this mask.

    Returns
    -------
    Mask
        Tight around its pixels; empty when no logit is positive.
    """
    stability = stability_score(logits)
    inside = logits > 0
    empty = Mask(
        Box(tile.read.top, tile.read.left, tile.read.top, tile.read.left),
        np.zeros((0, 0), bool),
        iou_prediction,
        stability,
        logits,
        tile,
    )
    if not inside.any():
        return empty
    cell_height, cell_width = (step * 4 for step in tile.step)
    cell = np.array([cell_height, cell_width])
    # One more cell on every side, since interpolation can move the outline up to there.
    (top, bottom), (left, right) = (np.flatnonzero(inside.any(axis))[[0, -1]] for axis in (1, 0))
    (top, left), (bottom, right) = np.array([top - 1, left - 1]) * cell, np.array([bottom + 2, right + 2]) * cell
    near = Box(tile.read.top + top, tile.read.left + left, tile.read.top + bottom, tile.read.left + right)
    box = near.rounded_out().intersection(tile.read.rounded_out())
    if box.is_empty:
        return empty
    rows, cols = box.pixel_shape
    at_rows = (box.top + np.arange(rows) + 0.5 - tile.read.top) / cell_height
    at_cols = (box.left + np.arange(cols) + 0.5 - tile.read.left) / cell_width
    return replace(empty, box=box, pixels=positive(logits, at_rows, at_cols)).tightened()


def stability_score(logits: NDArray[np.float32], offset: float = STABILITY_OFFSET) -> float:
    """Return the IoU of the mask cut at a logit of +offset with the one cut at -offset; 0 for an empty mask."""
    loose = int(np.count_nonzero(logits > -offset))
    return float(np.count_nonzero(logits > offset) / loose) if loose else 0.0


def touches_border(mask: Mask, shape: tuple[int, int]) -> bool:
    """Return whether a mask touches a border of its tile that is not a border of the image."""
    return mask.tile is not None and mask.area > 0 and near_border(mask.box, mask.tile, shape)


def near_border(box: Box, tile: Tile, shape: tuple[int, int]) -> bool:
    """Return whether a box comes within a pixel of a border of its tile that is not a border of the image."""
    read = tile.read
    height, width = (max(step, 1) for step in tile.step)
    return (
        (box.top < read.top + height and read.top > 0)
        or (box.left < read.left + width and read.left > 0)
        or (box.bottom > read.bottom - height and read.bottom < shape[0])
        or (box.right > read.right - width and read.right < shape[1])
    )


def merge_correction(
    previous: Mask, answer: Mask, points: NDArray[np.floating[Any]], labels: NDArray[np.bool_]
) -> Mask:
    """Change an earlier mask only in the connected regions around the points of a correction.

    A correction says what is wrong where it was clicked; elsewhere the earlier mask was seen and left as it is
    (progressive merge, FocalClick, Chen et al. 2022).

    Parameters
    ----------
    previous
        The mask that was corrected.
    answer
        What the decoder answers with the correction.
    points, labels
        All points so far, shape (n, 2), (row, col) in level-0 pixels, and whether each lies on the object, shape (n,).
        The correction is the last one, and with it all that the earlier mask contradicts.

    Returns
    -------
    Mask
        `answer` itself where the masks have less than half of their pixels in common (IoU < `MERGE_LEAST_IOU`), where
        they do not differ at any point of the correction, or where the box of both has more than `MERGE_MOST_PIXELS`.
        Else the merged pixels, with the scores and logits of `answer`, which then do not agree with the pixels.
    """
    box = previous.box.union(answer.box)
    if previous.area == 0 or answer.area == 0 or box.height * box.width > MERGE_MOST_PIXELS:
        return answer
    before, after = previous.in_box(box), answer.in_box(box)
    if iou(before, after) < MERGE_LEAST_IOU:
        return answer
    regions, _ = label_regions(before ^ after, np.ones((3, 3)))
    at = np.rint(points).astype(np.intp) - (int(box.top), int(box.left))
    is_last = np.arange(len(at)) == len(at) - 1
    is_inside = ((at >= 0) & (at < regions.shape)).all(axis=1)
    rows, cols = at[is_inside].T
    is_correction = (before[rows, cols] != labels[is_inside]) | is_last[is_inside]
    changed = set(regions[rows, cols][is_correction].tolist()) - {0}
    if not changed:
        return answer
    merged = np.where(np.isin(regions, list(changed)), after, before)
    return replace(answer, box=box, pixels=merged).tightened()


def paste(region: NDArray[Any], mask: Mask, label: int, overlap: Overlap = "keep") -> NDArray[np.bool_]:
    """Write a mask into the labels under its box, in place.

    Parameters
    ----------
    region
        Integer labels of `mask.box`, shape (rows, cols); changed in place.
    mask
        Mask to write.
    label
        The value to write.
    overlap
        "keep" leaves the pixels of other labels alone, "overwrite" takes them, "empty" writes nothing at all where the
        mask has a single one of them.

    Returns
    -------
    numpy.ndarray
        Shape (rows, cols), bool: the pixels of the mask that hold the label now.
    """
    written = mask.pixels.copy()
    if overlap != "overwrite":
        others = (region != 0) & (region != label)
        written &= ~others if overlap == "keep" else not (others & mask.pixels).any()
    region[written] = label
    return written


def innermost(mask: Mask) -> NDArray[np.float64]:
    """Return the pixel of a mask that is farthest from its outline, shape (1, 2): (row, col)."""
    distance = distance_transform_edt(np.pad(mask.pixels, 1))
    row, col = np.unravel_index(int(distance.argmax()), distance.shape)
    return np.array([[mask.box.top + row - 1, mask.box.left + col - 1]], np.float64)


def shared_pixels(one: Mask, other: Mask) -> int:
    """Return the number of pixels that two masks have in common."""
    both = one.box.intersection(other.box)
    if both.is_empty:
        return 0
    inner = [mask.pixels[both.moved(-mask.box.top, -mask.box.left).slices] for mask in (one, other)]
    return int(np.count_nonzero(inner[0] & inner[1]))


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return intersection over union of two boolean arrays of one shape; 1 when both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0
