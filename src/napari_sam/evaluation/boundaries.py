"""Boundary F: how well the boundary of a mask follows that of an object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from napari_sam.evaluation.datasets import TargetObject

TOLERANCE = 2.0


def boundary_f(answer: NDArray[np.bool_], target: TargetObject) -> float:
    """Return the boundary F of an answer, of the plane's shape: distances up to 2 pixels count as no error.

    Ignored pixels are removed from the answer, as for the IoU.
    """
    if target.ignored is not None:
        answer = answer & ~target.ignored
    return f_score(boundary_of(answer), boundary_of(target.truth), TOLERANCE)


def boundary_of(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask with a neighbor outside it, in the same row or column; the image's edge is none."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    boundary = np.zeros(mask.shape, bool)
    if len(rows):
        # With a margin of one pixel, where the image has one: only what lies around the mask decides.
        top, left = max(rows[0] - 1, 0), max(cols[0] - 1, 0)
        where = slice(top, rows[-1] + 2), slice(left, cols[-1] + 2)
        boundary[where] = mask[where] & ~binary_erosion(mask[where], border_value=1)
    return boundary


def f_score(guess: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance: float) -> float:
    """Return the harmonic mean of precision and recall of boundary pixels.

    Parameters
    ----------
    guess, truth
        Shape (rows, cols), bool: pixels of the boundaries.
    tolerance
        Largest distance, in pixels, at which a pixel of one boundary matches one of the other.

    Returns
    -------
    float
        0 to 1; 1 where both boundaries are empty, and 0 where only one is.
    """
    points, wanted = np.argwhere(guess), np.argwhere(truth)
    if not len(points) or not len(wanted):
        return float(len(points) == len(wanted))
    precision, recall = (
        float(np.mean(cKDTree(others).query(those)[0] <= tolerance))
        for those, others in ((points, wanted), (wanted, points))
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
