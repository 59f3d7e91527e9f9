"""Learn from answers: a Gaussian process that corrects likenesses near objects that were accepted or rejected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.similarity.likeness import SIZE, Traits, probability, quality_scale

# How much kinds, looks, quality and size count for being near, relative to each other; chosen on training images.
KINDS, LOOKS, QUALITY, SIZES = 0.145, 0.3, 0.29, 0.43
# How far one answer moves the logit of an equal object, and that of all objects.
NEAR, EVERYWHERE = 4.0, 0.5
MOST_STEPS, ENOUGH = 30, 1e-4
LEAST_CURVATURE = 1e-3


def learned_logits(
    logits: NDArray[np.float64],
    objects: Traits,
    answered: Traits,
    answered_logits: NDArray[np.float64],
    is_accepted: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Correct logits by what was answered.

    Parameters
    ----------
    logits
        Shape (n,): of the objects, before any answer.
    objects
        The objects.
    answered, answered_logits
        Those that were answered, m of them, and their logits before any answer.
    is_accepted
        Shape (m,).

    Returns
    -------
    numpy.ndarray
        Shape (n,), float64.
    """
    if not len(answered):
        return logits
    known = _coordinates(answered)
    between = _kernel(known, known) + 1e-6 * np.eye(len(known))
    factors = _mode(answered_logits, between, is_accepted.astype(np.float64))
    return np.asarray(logits + _kernel(_coordinates(objects), known) @ factors, np.float64)


def _mode(offset: NDArray[np.float64], kernel: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the factors of the kernel at the most probable logits (Rasmussen and Williams 2006, algorithm 3.1)."""
    moved = np.zeros(len(target))
    factors = moved
    for step in range(MOST_STEPS):
        likely = probability(offset + moved)
        curvature = np.maximum(likely * (1 - likely), LEAST_CURVATURE)
        root = np.sqrt(curvature)
        gradient = curvature * moved + (target - likely)
        system = np.eye(len(target)) + root[:, None] * kernel * root
        factors = gradient - root * np.linalg.solve(system, root * (kernel @ gradient))
        new = kernel @ factors
        change = float(np.abs(new - moved).max())
        # Halved after a while: far off the mode, whole steps can go back and forth.
        moved = new if step < MOST_STEPS // 3 else (moved + new) / 2
        if change < ENOUGH:
            break
    return np.asarray(factors, np.float64)


def _coordinates(objects: Traits) -> NDArray[np.float64]:
    mean, spread = quality_scale()
    quality = np.clip((objects.quality - mean) / spread, -6, 6)
    size = objects.shapes[:, SIZE, None]
    parts = [KINDS * objects.kinds, LOOKS * objects.looks, QUALITY * quality, SIZES * size]
    return np.concatenate(parts, axis=1).astype(np.float64)


def _kernel(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    square = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.asarray(NEAR * np.exp(-np.maximum(square, 0) / 2) + EVERYWHERE, np.float64)
