"""Simulated clicks: positions inside an object, and in the larger error of an answer."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_sam.evaluation.datasets import TargetObject

# Distance in pixels that an off-center click keeps from the border of the object.
BORDER = 2.0


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


def off_center(region: NDArray[np.bool_], count: int, seed: int | str) -> list[tuple[int, int]]:
    """Draw positions inside a region, uniformly over its pixels except those next to its border.

    Parameters
    ----------
    region
        Shape (rows, cols), bool, with at least one pixel.
    count
        Number of positions; pixels may repeat.
    seed
        Seed of the draw.

    Returns
    -------
    list of (row, col)
        Pixels whose distance to the next pixel outside, or to the outside of the image, is more than `BORDER` pixels.
        A region that is too thin for that is drawn from as a whole.
    """
    distance, (top, left) = _distances(region)
    pixels = np.argwhere(distance > BORDER)
    if not len(pixels):
        pixels = np.argwhere(distance)
    drawn = pixels[random.Random(seed).choices(range(len(pixels)), k=count)]
    return [(int(row) + top, int(col) + left) for row, col in drawn]


def _depth(region: NDArray[np.bool_]) -> tuple[float, tuple[int, int]]:
    distance, (top, left) = _distances(region)
    row, col = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(distance.max()), (int(row + top), int(col + left))


def _distances(region: NDArray[np.bool_]) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Return distances to the outside in a box around a region, with the position of the box's first pixel."""
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    inside = np.pad(region[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], 1)
    return distance_transform_edt(inside), (int(rows[0]) - 1, int(cols[0]) - 1)
