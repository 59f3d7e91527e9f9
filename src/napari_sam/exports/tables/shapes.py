"""Shapes of many objects at once, as `regionprops` of scikit-image measures them one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.exports.tables.hulls import convex_areas

Columns = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]
# Length of the border at a pixel of it, by its neighbors on the border: 2 for each beside it, 10 for each across it.
STEPS = np.zeros(50)
STEPS[[5, 7, 15, 17, 25, 27]] = 1
STEPS[[21, 33]] = np.sqrt(2)
STEPS[[13, 23]] = (1 + np.sqrt(2)) / 2
NEIGHBORS = tuple((y, x, 2 if 0 in (y, x) else 10) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))


def sizes_and_places(numbers: NDArray[np.intp], count: int) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64]]:
    """Return the number of pixels, the centroid and the bounding box of numbered objects.

    Parameters
    ----------
    numbers
        The object of each pixel, from 1 on; 0 is background.
    count
        Number of objects.

    Returns
    -------
    sizes
        Shape (count,).
    centroids
        Shape (count, axes): whole numbers are pixel centers.
    boxes
        Shape (count, axes, 2): half-open.
    """
    where = np.nonzero(numbers)
    owners = numbers[where]
    sizes = np.bincount(owners, minlength=count + 1)[1:]
    sums = [np.bincount(owners, at, minlength=count + 1)[1:] for at in where]
    found = ndimage.find_objects(numbers, count) if count else []
    boxes = np.array([[(at.start, at.stop) for at in box] for box in found], np.int64)
    return sizes, np.stack(sums, axis=1) / sizes[:, None], boxes.reshape(count, numbers.ndim, 2)


def shapes_in_plane(numbers: NDArray[np.intp], sizes: NDArray[np.int64], centroids: Floats) -> Columns:
    """Return numbers of the shape of objects in a plane, with lengths in pixels.

    Parameters
    ----------
    numbers, sizes, centroids
        As in `sizes_and_places`.

    Returns
    -------
    dict
        perimeter, axis_major_length, axis_minor_length, eccentricity, solidity and orientation, as `regionprops` of
        scikit-image defines them.
    """
    y, x = np.nonzero(numbers)
    owners = numbers[y, x]
    down, right = y - centroids[owners - 1, 0], x - centroids[owners - 1, 1]
    products = ((down, down), (down, right), (right, right))
    yy, yx, xx = (np.bincount(owners, a * b, minlength=len(sizes) + 1)[1:] / sizes for a, b in products)
    tensors = np.stack([xx, -yx, -yx, yy], axis=1).reshape(-1, 2, 2)
    minor, major = np.clip(np.linalg.eigvalsh(tensors), 0, None).T
    angle = 0.5 * np.arctan2(2 * yx, yy - xx)
    return {
        "perimeter": _perimeters(numbers, len(sizes)),
        "axis_major_length": 4 * np.sqrt(major),
        "axis_minor_length": 4 * np.sqrt(minor),
        "eccentricity": np.sqrt(1 - np.divide(minor, major, out=np.ones_like(major), where=major > 0)),
        "solidity": sizes / convex_areas(y, x, owners, len(sizes)),
        # Of an object that is as wide as it is high.
        "orientation": np.where(yy == xx, np.where(yx > 0, np.pi / 4, -np.pi / 4), angle),
    }


def _perimeters(numbers: NDArray[np.intp], count: int) -> Floats:
    """Return the length of the borders of objects, through the centers of their outermost pixels."""
    padded = np.pad(numbers, 1)
    inner = padded[1:-1, 1:-1]
    is_border = inner > 0
    is_border &= ~np.logical_and.reduce([inner == _shifted(padded, y, x) for y, x, weight in NEIGHBORS if weight == 2])
    borders = np.pad(np.where(is_border, numbers, 0), 1)
    y, x = np.nonzero(is_border)
    owners = numbers[y, x]
    kinds = np.ones(len(owners), np.int64)
    for down, right, weight in NEIGHBORS:
        kinds += weight * (borders[y + 1 + down, x + 1 + right] == owners)
    return np.asarray(np.bincount(owners, STEPS[kinds], minlength=count + 1)[1:], np.float64)


def _shifted(padded: NDArray[np.intp], y: int, x: int) -> NDArray[np.intp]:
    rows, cols = padded.shape
    return padded[1 + y : rows - 1 + y, 1 + x : cols - 1 + x]
