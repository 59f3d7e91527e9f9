"""From raw pixels to what the image encoder sees: uint8 RGB, stretched once for the image, resampled to a tile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.transform import downscale_local_mean

from napari_sam.core.geometry import interpolation_matrix
from napari_sam.core.tiles import Tile

PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, slots=True)
class Rendering:
    """How the pixels of a whole image become grey or RGB values; the same for every tile, so equal pixels look equal.

    Parameters
    ----------
    limits
        (low, high) data values that become black and white, for each channel; one entry for a grey image.
    gamma
        Exponent applied after the stretch, as in napari.
    """

    limits: tuple[tuple[float, float], ...]
    gamma: float = 1.0

    def __call__(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Render pixels of shape (rows, cols) or (rows, cols, channels) to (rows, cols, 3) uint8.

        One channel is repeated three times; of two, the first is repeated; of more than three, the first three count.
        """
        values = pixels[..., None] if pixels.ndim == 2 else pixels
        channels = values.shape[-1]
        values = values[..., [0, 1, 0]] if channels == 2 else values[..., :3]
        low, high = np.array([self.limits[min(i, len(self.limits) - 1)] for i in range(values.shape[-1])], np.float64).T
        above, span = values.astype(np.float64) - low, high - low
        flat = np.where(span > 0, span, 1)
        scaled = np.where(span > 0, np.clip(above, 0, flat) / flat, above > 0)
        if self.gamma != 1.0:
            np.power(scaled, self.gamma, out=scaled)
        rendered = (scaled * 255 + 0.5).astype(np.uint8)
        return np.repeat(rendered, 3, axis=-1) if rendered.shape[-1] == 1 else rendered


def percentile_limits(sample: NDArray[Any]) -> tuple[float, float]:
    """Return the contrast limits of a grey sample of any shape: its 0.5 and 99.5 percentiles."""
    low, high = np.percentile(sample.astype(np.uint8) if sample.dtype == bool else sample, PERCENTILES)
    return float(low), float(high)


def render_tile(pixels: NDArray[Any], tile: Tile, rendering: Rendering) -> NDArray[np.uint8]:
    """Render the level-0 pixels of a tile into the encoder's input.

    Coarse levels are area averages, magnified ones are interpolated linearly; what the image does not fill is black,
    at the bottom and at the right.

    Parameters
    ----------
    pixels
        Shape (rows, cols) or (rows, cols, channels): the level-0 pixels of `tile.read`.
    tile
        The tile that they belong to.
    rendering
        How to stretch them.

    Returns
    -------
    numpy.ndarray
        Shape (side, side, 3), uint8.
    """
    factor = int(tile.downsample) if tile.level > 0 else 1
    if factor > 1:
        pixels = area_average(pixels, factor)
    rendered = rendering(pixels)
    if tile.level < 0:
        rendered = _magnify(rendered, round(1 / tile.downsample))
    out = np.zeros((tile.side, tile.side, 3), np.uint8)
    rows, cols = (min(n, tile.side) for n in rendered.shape[:2])
    out[:rows, :cols] = rendered[:rows, :cols]
    return out


def area_average(pixels: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Average blocks of factor x factor pixels; the last ones of each axis average what they have.

    Parameters
    ----------
    pixels
        Shape (rows, cols) or (rows, cols, channels).
    factor
        Block side in pixels.

    Returns
    -------
    numpy.ndarray
        Shape (ceil(rows / factor), ceil(cols / factor)[, channels]), float32.
    """
    more = (1,) * (pixels.ndim - 2)
    mean = np.asarray(downscale_local_mean(pixels.astype(np.float64), (factor, factor, *more)))
    rows, cols = (np.minimum(factor, n - factor * np.arange(math.ceil(n / factor))) for n in pixels.shape[:2])
    share = np.outer(rows, cols) / factor**2  # scikit-image counts what is missing as zeros
    return np.asarray(mean / share.reshape(*share.shape, *more), np.float32)


def _magnify(rendered: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    rows, cols = ((np.arange(n * factor) + 0.5) / factor for n in rendered.shape[:2])
    by_row = interpolation_matrix(rendered.shape[0], rows)
    by_col = interpolation_matrix(rendered.shape[1], cols)
    planes = by_row @ rendered.astype(np.float32).transpose(2, 0, 1) @ by_col.T
    return np.asarray((planes.transpose(1, 2, 0) + 0.5).astype(np.uint8))
