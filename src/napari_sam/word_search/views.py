"""View: an object as one tile shows it; and which of several views are of one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.masks import Mask, innermost, mask_from_logits, touches_border
from napari_sam.core.predictor import Found
from napari_sam.core.tiles import Tile
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.suppression import Overlaps, ranks_by, suppressed

# Two masks are views of one object if more than this share of the smaller one lies in the other.
SAME_OBJECT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An object as one tile shows it.

    Parameters
    ----------
    mask
        Its mask; `iou_prediction` is the score.
    is_cut
        Whether the border of the tile may cut it.
    """

    mask: Mask
    is_cut: bool


def views_of(found: Found, tile: Tile, shape: tuple[int, int]) -> list[View]:
    """Return what a model found on a tile of a plane of `shape`, without empty masks."""
    pairs = zip(found.logits, found.scores, strict=True)
    masks = [mask_from_logits(logits, tile, float(score)) for logits, score in pairs]
    return [View(mask, touches_border(mask, shape)) for mask in masks if mask.area]


def without_logits(views: Sequence[View]) -> list[View]:
    """Return views without their logits, which are many times as large as the masks, to be sent."""
    return [replace(view, mask=replace(view.mask, low_res_logits=None, tile=None)) for view in views]


def proposals_of(views: Sequence[View], level: int) -> Proposals:
    """Return views as proposals; their points are the pixels farthest from the outlines."""
    points = [innermost(view.mask) for view in views]
    return Proposals.of([view.mask for view in views], np.concatenate([np.zeros((0, 2)), *points]), level)


def whole_objects(proposals: Proposals, is_cut: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the numbers of the views that remain where each object counts once, by falling score.

    Of several views of an object one that is not cut remains, and of these the one with the highest score.

    Parameters
    ----------
    proposals
        Views from overlapping tiles of one plane.
    is_cut
        Shape (n,): which of them may be cut.
    """
    overlaps = Overlaps.of(proposals)
    same = overlaps.share_of_smaller(proposals.areas) > SAME_OBJECT
    ranks = ranks_by(proposals.boxes, -proposals.scores, is_cut)
    kept = np.flatnonzero(~suppressed(ranks, overlaps.first[same], overlaps.second[same]))
    return kept[np.argsort(ranks_by(proposals.boxes[kept], -proposals.scores[kept]))]
