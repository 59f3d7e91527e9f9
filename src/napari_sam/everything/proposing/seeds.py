"""Seeds: points from which objects are proposed, from the dense guesses of a tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from napari_sam.core.predictor import DenseGuesses

# Side of a cell in tile pixels.
CELL = 4
# Cells that are less likely to lie on an object do not vote.
LEAST_FOREGROUND = 0.3
# Least sum of votes for a center, relative to the votes that an object gets when all its cells agree.
LEAST_VOTES = 0.02
LEAST_RADIUS, MOST_RADIUS = 4.0, 200.0


def center_seeds(guesses: DenseGuesses) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points on which the cells of a tile agree as centers of objects.

    Every cell on an object votes for the center that it guesses; an object whose cells agree gets the same sum of votes
    whatever its size.

    Parameters
    ----------
    guesses
        The guesses for a tile; with foreground.

    Returns
    -------
    points : numpy.ndarray
        Shape (n, 2), float64: (row, col) in tile pixels, by falling votes.
    radius : numpy.ndarray
        Shape (n,), float64: the guessed square root of the object's area there, in tile pixels.
    """
    assert guesses.foreground is not None
    count = guesses.radius.shape[0]
    votes = np.zeros((count, count))
    rows, cols = np.nonzero(guesses.foreground > LEAST_FOREGROUND)
    radius = np.clip(guesses.radius, LEAST_RADIUS, MOST_RADIUS)
    weights = guesses.foreground[rows, cols] * CELL**2 / radius[rows, cols] ** 2
    targets = [
        np.clip(at + (guesses.center_offsets[axis, rows, cols] + CELL / 2) // CELL, 0, count - 1).astype(np.intp)
        for axis, at in enumerate((rows, cols))
    ]
    np.add.at(votes, tuple(targets), weights)
    smooth = gaussian_filter(votes, 1.0) * 2 * np.pi
    is_peak = (smooth == maximum_filter(smooth, 3)) & (smooth > LEAST_VOTES)
    peaks = np.argwhere(is_peak)
    peaks = peaks[np.argsort(-smooth[is_peak], kind="stable")]
    points = np.asarray(peaks * float(CELL) + (CELL - 1) / 2, np.float64)
    return points, np.asarray(radius[tuple(peaks.T)], np.float64)
