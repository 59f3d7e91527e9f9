"""Positional bias: directions of a model's features that say where in the tile an object lies, and not what it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.predictor import FeaturePredictor
from napari_sam.similarity.descriptors import DescriptorLayout

GRAY = 128
# Directions of each map of features that are removed, at most, and the share of the bias that is enough.
MOST_DIRECTIONS, ENOUGH = 8, 0.9
# A weaker bias than this share of the mean square of the features is none.
LEAST_SHARE = 1e-6
REGIONS = ("inside", "border", "around")

# Orthonormal directions, shape (channels, r), for the stride of each map.
Bias = Mapping[int, NDArray[np.float32]]


def positional_bias(predictor: FeaturePredictor) -> dict[int, NDArray[np.float32]]:
    """Return the directions in which the features of an evenly gray tile differ from place to place.

    One tile is encoded. What differs there can only come from the position: the singular vectors with the largest
    values are the bias, which INSID3 (CVPR 2026) has found to spoil the comparison of features.

    Parameters
    ----------
    predictor
        The model.

    Returns
    -------
    dict
        Orthonormal directions, shape (channels, r), float32, by the stride of the map of features.
    """
    side = predictor.input_side
    (embedding,) = predictor.encode(np.full((1, side, side, 3), GRAY, np.uint8))
    maps = zip(predictor.features(embedding), predictor.feature_strides, strict=True)
    return {stride: _directions(features) for features, (_, stride) in maps}


def unbiased(descriptors: NDArray[np.float32], layout: DescriptorLayout, bias: Bias) -> NDArray[np.float32]:
    """Return descriptors without what lies along the directions of a bias, shape (n, width)."""
    values = descriptors.copy()
    for name, part in layout.slices.items():
        region, _, stride = name.rpartition(" ")
        directions = bias.get(int(stride)) if region in REGIONS and stride.isdigit() else None
        if directions is not None and directions.shape[1]:
            values[:, part] -= (values[:, part] @ directions) @ directions.T
    return values


def _directions(features: NDArray[np.float32]) -> NDArray[np.float32]:
    cells = features.reshape(len(features), -1).T.astype(np.float64)
    _, sizes, vectors = np.linalg.svd(cells - cells.mean(0), full_matrices=False)
    power = sizes**2
    if power.sum() <= LEAST_SHARE * (cells**2).sum():
        return np.zeros((len(features), 0), np.float32)
    count = int(np.searchsorted(np.cumsum(power) / power.sum(), ENOUGH)) + 1
    return vectors[: min(count, MOST_DIRECTIONS, len(features) // 2)].T.astype(np.float32)
