"""The classical way to separate objects: Otsu's threshold, and a watershed of the distance to the background."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_position
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.measure import label as connected_components
from skimage.segmentation import watershed

SIGMAS = (1.0, 2.0, 4.0)
MIN_DISTANCES = (4, 8, 16, 32)


class WatershedParameters(NamedTuple):
    """What Otsu's threshold and a watershed leave open.

    Parameters
    ----------
    is_bright
        Whether the objects are brighter than the background.
    sigma
        Standard deviation, in pixels, of the Gaussian that smooths the image.
    min_distance
        Least distance between the middles of two objects, in pixels.
    """

    is_bright: bool
    sigma: float
    min_distance: int


PARAMETERS = tuple(map(WatershedParameters._make, product((True, False), SIGMAS, MIN_DISTANCES)))


def watersheds(image: NDArray[np.floating[Any]]) -> Iterator[NDArray[np.int32]]:
    """Yield the objects of an image for each of `PARAMETERS`: labels from 1, 0 for background.

    Parameters
    ----------
    image
        Shape (rows, cols): gray values.
    """
    smooth = {sigma: gaussian_filter(image, sigma) for sigma in SIGMAS}
    thresholds = {sigma: threshold_otsu(values) for sigma, values in smooth.items()}
    for is_bright, sigma in product((True, False), SIGMAS):
        values, threshold = smooth[sigma], thresholds[sigma]
        foreground = values > threshold if is_bright else values < threshold
        distance = distance_transform_edt(foreground)
        parts = np.asarray(connected_components(foreground, connectivity=1), np.int32)
        for min_distance in MIN_DISTANCES:
            yield separated(parts, distance, min_distance)


def separated(parts: NDArray[np.int32], distance: NDArray[np.floating[Any]], min_distance: int) -> NDArray[np.int32]:
    """Divide connected parts of the foreground between the peaks of the distance to the background.

    Parameters
    ----------
    parts
        Shape (rows, cols): labels of the connected parts from 1, without gaps; 0 for background.
    distance
        Shape (rows, cols): distance to the background.
    min_distance
        Least distance between two peaks, in pixels. A part whose peaks are all too close to those of others keeps its
        highest one.
    """
    peaks = peak_local_max(distance, min_distance=min_distance, exclude_border=False)
    # Not by its `labels`, which takes half a millisecond for each part: seconds for the thousands of a noisy image.
    others = np.setdiff1d(np.arange(1, parts.max(initial=0) + 1), parts[tuple(peaks.T)])
    if len(others):
        peaks = np.concatenate([peaks, maximum_position(distance, parts, others)])
    markers = np.zeros(parts.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-distance, markers, mask=parts > 0), np.int32)
