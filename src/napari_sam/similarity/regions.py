"""The cells of a tile that lie in an object, and those around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

Cells = NDArray[np.bool_]


def inside_of(covered: NDArray[np.float32]) -> Cells:
    """Return the cells of which an object covers more than half; of a smaller one those that it covers most."""
    inside: Cells = covered > 0.5
    return inside if inside.any() else np.asarray(covered >= covered.max(), bool)


def ring_around(inside: Cells, reach: int, free: Cells | None = None) -> Cells:
    """Return the cells around an object but not next to it, up to a distance in cells.

    Parameters
    ----------
    inside
        Its cells.
    reach
        The largest distance.
    free
        The cells that can count; all by default.

    Returns
    -------
    numpy.ndarray
        Never empty: where there is no such cell, all that are not inside, or else those inside.
    """
    ring = binary_dilation(inside, iterations=reach) & ~binary_dilation(inside)
    ring = ring if free is None else ring & free
    if not ring.any():
        ring = ~inside if not inside.all() else inside
    return np.asarray(ring, bool)
