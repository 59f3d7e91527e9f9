"""Planes from one picture: the same object, moved and bent a little from plane to plane."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

# Spread of the rotation in degrees, and of scale, shift and bending as shares of the side.
ROTATION, SCALE, SHIFT, BENDING = 4.0, 0.05, 0.02, 0.012
# Rows and columns for each random number of a bending field.
COARSE = 8
# Spread of gain and offset of the brightness, and the most noise, in gray values.
GAIN, OFFSET, NOISE = 0.08, 8.0, 10.0


def bent_planes(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], count: int, rng: np.random.Generator, amount: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return planes in which a picture and the mask of an object move, each made from the one before.

    Parameters
    ----------
    picture
        Shape (rows, cols, 3).
    mask
        Shape (rows, cols).
    count
        Number of planes.
    rng
        Random numbers.
    amount
        Scales the movement.

    Returns
    -------
    planes : numpy.ndarray
        Shape (count, rows, cols, 3), uint8.
    masks : numpy.ndarray
        Shape (count, rows, cols), bool.
    """
    planes, masks = [], []
    for _ in range(count):
        rows, cols = _moved(mask.shape, rng, amount)
        warped = [map_coordinates(picture[..., i], (rows, cols), order=1, mode="reflect") for i in range(3)]
        mask = map_coordinates(mask.astype(np.float32), (rows, cols), order=1) > 0.5
        picture = _relit(np.stack(warped, -1), rng)
        planes.append(picture)
        masks.append(mask)
    return np.stack(planes), np.stack(masks)


def _moved(shape: tuple[int, ...], rng: np.random.Generator, amount: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return where each pixel comes from: rows and columns of shape `shape`."""
    height, width = shape
    angle, scales = np.deg2rad(rng.normal() * ROTATION * amount), np.exp(rng.normal(size=2) * SCALE * amount)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag(scales)
    middle, shift = np.array([height / 2, width / 2]), rng.normal(size=2) * SHIFT * amount * (height, width)
    at = np.indices((height, width)).astype(np.float64) - middle[:, None, None]
    rows, cols = np.tensordot(turn, at, 1) + (middle + shift)[:, None, None]
    bent = []
    for _ in range(2):
        field = gaussian_filter(rng.normal(size=(height // COARSE + 2, width // COARSE + 2)), rng.uniform(2, 5))
        field = (field - field.mean()) / (field.std() + 1e-6)
        fine = zoom(field, COARSE, order=1)[:height, :width]
        bent.append(fine * max(height, width) * BENDING * amount)
    return rows + bent[0], cols + bent[1]


def _relit(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a picture with other brightness and noise."""
    values = picture.astype(np.float32) * (1 + rng.normal() * GAIN) + rng.normal() * OFFSET
    smoothness = rng.uniform(0, 1.2)
    values += gaussian_filter(rng.normal(size=values.shape), (smoothness, smoothness, 0)) * rng.uniform(0, NOISE)
    return values.clip(0, 255).astype(np.uint8)
