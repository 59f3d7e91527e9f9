"""Calibration: how far a model's own estimate of its IoU can be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

BINS = 10


def calibration_error(predicted: ArrayLike, true: ArrayLike) -> float | None:
    """Return the expected calibration error: the mean gap between predicted and true IoU in ten bins.

    The bins are equally wide, from 0 to 1, and by the predicted IoU. Each counts by the number of its answers.

    Parameters
    ----------
    predicted, true
        Shape (n,), 0 to 1: predicted and true IoU of each answer.

    Returns
    -------
    float or None
        0 to 1; None without any answer.
    """
    predicted, true = np.asarray(predicted, float), np.asarray(true, float)
    if not len(predicted):
        return None
    bins = np.minimum((predicted * BINS).astype(int), BINS - 1)
    # The gap of a bin times its count is the absolute sum of the differences in it.
    return float(np.abs(np.bincount(bins, predicted - true, BINS)).sum() / len(predicted))


def bias(predicted: ArrayLike, true: ArrayLike) -> float | None:
    """Return the mean predicted minus the mean true IoU, above 0 for a model that is too sure; None without any."""
    differences = np.asarray(predicted, float) - np.asarray(true, float)
    return float(differences.mean()) if len(differences) else None
