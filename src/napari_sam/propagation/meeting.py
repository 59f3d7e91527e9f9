"""Meeting: join what was followed to one plane from both sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_sam.core.masks import Mask, shared_pixels
from napari_sam.propagation.follower import Followed

# Masks with a lower IoU are not of the same object.
LEAST_AGREEMENT = 0.5


def met(earlier: Followed | None, later: Followed | None, share: float) -> Followed | None:
    """Join the masks that an object has in one plane when it is followed there from both sides.

    The outline lies between both, nearer to that of the side whose accepted plane is nearer and whose confidence is
    higher: their signed distances are averaged. Where the two sides disagree, the surer one alone counts.

    Parameters
    ----------
    earlier, later
        The answers from the accepted planes at lower and at higher positions; None where the object was not found.
    share
        Position of the plane between the two, 0 to 1.

    Returns
    -------
    Followed or None
        Of an object that one side alone has found, that one's mask; None where neither has.
    """
    if earlier is None or later is None:
        return later if earlier is None else earlier
    if iou_of(earlier.mask, later.mask) < LEAST_AGREEMENT:  # One side has lost it; between both is nothing.
        return earlier if earlier.confidence >= later.confidence else later
    weights = np.array([(1 - share) * earlier.confidence, share * later.confidence])
    weights = weights / weights.sum() if weights.sum() > 0 else np.array([1 - share, share])
    # One pixel around both, so that each has an outline in the box.
    box = earlier.mask.box.union(later.mask.box).grown(1)
    distances = [signed_distance(answer.mask.in_box(box)) for answer in (earlier, later)]
    pixels = weights[0] * distances[0] + weights[1] * distances[1] > 0
    confidence = float(weights @ (earlier.confidence, later.confidence))
    return Followed(Mask(box, pixels, confidence).tightened(), confidence)


def iou_of(one: Mask, other: Mask) -> float:
    """Return the IoU of two masks that are not both empty."""
    shared = shared_pixels(one, other)
    return shared / (one.area + other.area - shared)


def signed_distance(pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the distance of each pixel to the outline, shape as given; positive inside."""
    return np.asarray(distance_transform_edt(pixels) - distance_transform_edt(~pixels), np.float64)
