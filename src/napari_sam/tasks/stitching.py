"""Stitch the masks of overlapping tiles into the objects of a plane."""

from __future__ import annotations

from collections.abc import Iterable

from napari_sam.core.masks import Mask, shared_pixels, touches_border

# Two masks are views of one object from different tiles if more than this share of the smaller one lies in the other.
SAME_OBJECT = 0.5


def distinct(masks: Iterable[Mask], shape: tuple[int, int]) -> list[Mask]:
    """Return each object once, by falling score; of several views, one that is not cut by its tile's border.

    Parameters
    ----------
    masks
        Masks from overlapping tiles of one plane.
    shape
        Shape (rows, cols) of the plane.
    """
    kept: list[Mask] = []
    for mask in sorted(masks, key=lambda mask: (touches_border(mask, shape), -mask.iou_prediction)):
        if all(_shared(mask, other) <= SAME_OBJECT for other in kept):
            kept.append(mask)
    return sorted(kept, key=lambda mask: -mask.iou_prediction)


def _shared(a: Mask, b: Mask) -> float:
    """Return the share of the smaller mask that lies in the other."""
    shared = shared_pixels(a, b)
    return shared / min(a.area, b.area) if shared else 0.0
