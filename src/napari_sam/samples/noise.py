"""Smooth random fields and soft borders, from which the computed samples are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], scale: float | tuple[float, ...]) -> NDArray[Any]:
    """Return float32 noise of mean 0 and deviation 1 whose features are `scale` pixels wide (along each axis)."""
    scales = np.broadcast_to(np.asarray(scale, float), (len(shape),))
    steps = np.maximum(1.0, scales / 2)
    coarse = tuple(int(np.ceil(length / step)) + 3 for length, step in zip(shape, steps, strict=True))
    values = ndimage.gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), scales / steps, mode="wrap")
    for axis, (length, step) in enumerate(zip(shape, steps, strict=True)):
        values = _stretched(values, axis, length, step)
    values -= values.mean()
    return np.asarray(values / values.std(), np.float32)


def _stretched(values: NDArray[Any], axis: int, length: int, step: float) -> NDArray[Any]:
    """Return values interpolated linearly along one axis, `step` times as fine."""
    if step == 1.0:
        return np.take(values, np.arange(length), axis)
    at = np.arange(length) / step
    low = at.astype(int)
    share = (at - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    return np.asarray(np.take(values, low, axis) * (1 - share) + np.take(values, low + 1, axis) * share)


def soft(distance: NDArray[Any], width: float = 1.0) -> NDArray[Any]:
    """Return 1 well inside (distance below 0), 0 well outside, and a smooth border `width` wide in between."""
    inside = np.clip(0.5 - distance / (2 * width), 0, 1)
    return np.asarray(inside * inside * (3 - 2 * inside))
