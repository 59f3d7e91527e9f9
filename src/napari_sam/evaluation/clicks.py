"""Simulated clicks: positions inside an object, and in the larger error of an answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_sam.evaluation.datasets import TargetObject


def next_click(answer: NDArray[np.bool_], target: TargetObject) -> tuple[tuple[int, int], int]:
    """Return where to click next, and with which sign: the most interior pixel of the larger error region.

    The larger region is the one with the pixel farthest from its border. Without any error, a positive point in the
    middle of the object.
    """
    counted = True if target.ignored is None else ~target.ignored
    missed, surplus = target.truth & ~answer & counted, answer & ~target.truth & counted
    depth = {}
    for sign, region in ((1, missed), (0, surplus)):
        if region.any():
            depth[sign] = _depth(region)
    if not depth:
        return most_interior(target.truth), 1
    sign = max(depth, key=lambda s: depth[s][0])
    return depth[sign][1], sign


def most_interior(region: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel of a region that is farthest from its border; the border of the image is one too."""
    return _depth(region)[1]


def _depth(region: NDArray[np.bool_]) -> tuple[float, tuple[int, int]]:
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    inside = np.pad(region[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], 1)
    distance = distance_transform_edt(inside)
    row, col = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(distance.max()), (int(row + rows[0] - 1), int(col + cols[0] - 1))
