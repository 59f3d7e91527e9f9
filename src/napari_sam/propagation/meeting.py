"""Meeting: join what was followed to one plane from both sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_sam.core.masks import Mask
from napari_sam.propagation.follower import Followed


def met(earlier: Followed | None, later: Followed | None, share: float) -> Followed | None:
    """Join the masks that an object has in one plane when it is followed there from both sides.

    The outline lies between both, nearer to that of the side whose accepted plane is nearer and whose confidence is
    higher: their signed distances are averaged.

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
    weights = np.array([(1 - share) * earlier.confidence, share * later.confidence])
    weights = weights / weights.sum() if weights.sum() > 0 else np.array([1 - share, share])
    # One pixel around both, so that each has an outline in the box.
    box = earlier.mask.box.union(later.mask.box).grown(1)
    distances = [signed_distance(answer.mask.in_box(box)) for answer in (earlier, later)]
    pixels = weights[0] * distances[0] + weights[1] * distances[1] > 0
    confidence = float(weights @ (earlier.confidence, later.confidence))
    mask = Mask(box, pixels, confidence).tightened()
    if mask.area == 0:  # Far apart: the average of both is nowhere.
        return earlier if weights[0] >= weights[1] else later
    return Followed(mask, confidence)


def signed_distance(pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the distance of each pixel to the outline, shape as given; positive inside."""
    return np.asarray(distance_transform_edt(pixels) - distance_transform_edt(~pixels), np.float64)
