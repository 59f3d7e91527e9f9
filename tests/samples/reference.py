"""Comparing a mask with the computed truth of a sample."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def innermost_pixel(truth):
    """Return the pixel of an object that lies farthest from its border."""
    depth = ndimage.distance_transform_edt(np.pad(truth, 1))[1:-1, 1:-1]
    return tuple(int(at) for at in np.unravel_index(depth.argmax(), depth.shape))


def iou(mask, truth, corner=(0, 0)):
    """Return the IoU of a mask with a truth whose first pixel is `corner` of the image."""
    top, left = mask.box.top - corner[0], mask.box.left - corner[1]
    assert top >= 0
    assert left >= 0
    found = np.zeros(truth.shape, bool)
    found[top : top + mask.pixels.shape[0], left : left + mask.pixels.shape[1]] = mask.pixels
    return np.count_nonzero(found & truth) / np.count_nonzero(found | truth)
