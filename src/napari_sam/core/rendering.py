"""Rendering: the input of the image encoder as uint8 RGB, with limits that hold for the whole image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.transform import downscale_local_mean

from napari_sam.core.geometry import Box, interpolation_matrix, shared_lengths
from napari_sam.core.tiles import Tile

PERCENTILES = (0.5, 99.5)
# A tile that lies on more pixels is read and averaged in parts, since an image without coarser levels is read whole.
MOST_AT_ONCE = 2**24


@dataclass(frozen=True, slots=True)
class Rendering:
    """Conversion of pixels to gray or RGB values, the same for all tiles, so equal pixels look equal.

    Parameters
    ----------
    limits
        (low, high) data values that become black and white, for each channel; one entry for a gray image.
    gamma
        Exponent applied after the stretch, as in napari; one for all channels, or one for each.
    colors
        (red, green, blue) from 0 to 1 for each channel: channels are added in these colours, as a viewer does. Left
        out, one channel is gray and several are red, green and blue as they come.
    """

    limits: tuple[tuple[float, float], ...]
    gamma: float | tuple[float, ...] = 1.0
    colors: tuple[tuple[float, float, float], ...] | None = None

    def __call__(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Render pixels of shape (rows, cols) or (rows, cols, channels) to (rows, cols, 3) uint8; NaN is black.

        Without colours, one channel is repeated three times; of two, the first is repeated; of more than three, the
        first three count.
        """
        values = pixels[..., None] if pixels.ndim == 2 else pixels
        if self.colors is not None:
            values = values[..., : len(self.colors)]
        elif values.shape[-1] == 2:
            values = values[..., [0, 1, 0]]
        else:
            values = values[..., :3]
        scaled = self._stretched(values)
        if self.colors is not None:
            scaled = np.minimum(scaled @ np.array(self.colors, np.float64), 1)
        rendered = (scaled * 255 + 0.5).astype(np.uint8)
        return np.repeat(rendered, 3, axis=-1) if rendered.shape[-1] == 1 else rendered

    def _stretched(self, values: NDArray[Any]) -> NDArray[np.float64]:
        channels = range(values.shape[-1])
        low, high = np.array([self.limits[min(i, len(self.limits) - 1)] for i in channels], np.float64).T
        above, span = values.astype(np.float64) - low, high - low
        flat = np.where(span > 0, span, 1)
        scaled = np.where(span > 0, np.clip(above, 0, flat) / flat, above > 0)
        if values.dtype.kind == "f":
            scaled = np.where(np.isfinite(values), scaled, 0)
        gamma = np.array(self.gamma, np.float64)
        if (gamma != 1.0).any():
            np.power(scaled, gamma, out=scaled)
        return np.asarray(scaled)


def percentile_limits(sample: NDArray[Any]) -> tuple[float, float]:
    """Return the contrast limits of a gray sample of any shape: its 0.5 and 99.5 percentiles; (0, 1) without values."""
    values = sample.astype(np.uint8) if sample.dtype == bool else sample
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)


def render_tile(
    pixels: NDArray[Any],
    tile: Tile,
    rendering: Rendering,
    origin: tuple[float, float] | None = None,
    size: tuple[float, float] = (1.0, 1.0),
) -> NDArray[np.uint8]:
    """Render the pixels under a tile into the encoder's input.

    What is coarser than the pixels is averaged by area, what is finer is interpolated linearly; what the image does
    not fill is black, at the bottom and at the right.

    Parameters
    ----------
    pixels
        Shape (rows, cols) or (rows, cols, channels), covering `tile.read`; NaN has no value and does not count.
    tile
        The tile that they belong to.
    rendering
        How to stretch them.
    origin
        (row, col) of their first edge, in level-0 pixels; that of `tile.read` when left out.
    size
        Height and width of one of them, in level-0 pixels: those of the data's own coarser level.

    Returns
    -------
    numpy.ndarray
        Shape (side, side, 3), uint8.
    """
    starts = (tile.read.top, tile.read.left) if origin is None else origin
    counts = [
        min(tile.side, math.ceil(length / step - 1e-9))
        for length, step in zip((tile.read.height, tile.read.width), tile.step, strict=True)
    ]
    spans = [
        Span((first - start) / size, step / size, count, (last - start) / size)
        for first, last, start, size, step, count in zip(
            (tile.read.top, tile.read.left),
            (tile.read.bottom, tile.read.right),
            starts,
            size,
            tile.step,
            counts,
            strict=True,
        )
    ]
    reduced = _reduce(_filled(pixels, spans), spans)
    rendered = _magnify(rendering(reduced), spans)
    out = np.zeros((tile.side, tile.side, 3), np.uint8)
    out[: counts[0], : counts[1]] = rendered
    return out


def render_in_parts(
    read: Callable[[Tile], tuple[NDArray[Any], tuple[float, float], tuple[float, float]]],
    tile: Tile,
    rendering: Rendering,
    pixels: float,
) -> NDArray[np.uint8]:
    """Read and render a tile, so many of its rows at a time that memory stays bounded.

    Parameters
    ----------
    read
        Returns pixels under a tile, the (row, col) of their first edge and the size of one; see `Volume.read_tile`.
    tile
        The tile.
    rendering
        How to stretch them.
    pixels
        Number of pixels of the data that the tile lies on.

    Returns
    -------
    numpy.ndarray
        Shape (side, side, 3), uint8: what `render_tile` returns for all pixels at once.
    """
    box, step = tile.read, tile.step[0]
    count = min(tile.side, math.ceil(box.height / step - 1e-9))
    # Rows of a magnified tile are interpolated between pixels beyond the edges of a part.
    rows = count if step < 1 else max(1, int(count * MOST_AT_ONCE / max(pixels, 1)))
    out = np.zeros((tile.side, tile.side, 3), np.uint8)
    for first in range(0, count, rows):
        bottom = min(box.top + (first + rows) * step, box.bottom)
        part = replace(tile, read=Box(box.top + first * step, box.left, bottom, box.right))
        values, origin, size = read(part)
        until = min(first + rows, count)
        out[first:until] = render_tile(values, part, rendering, origin, size)[: until - first]
    return out


@dataclass(frozen=True, slots=True)
class Span:
    """The part of one pixel axis that a tile covers, in pixels of the data.

    Parameters
    ----------
    offset
        Start of the first tile pixel.
    step
        Length of a tile pixel.
    count
        Number of tile pixels.
    stop
        End of the tile, or of the image where that comes first.
    """

    offset: float
    step: float
    count: int
    stop: float

    @property
    def is_whole(self) -> bool:
        """Whether every tile pixel begins and ends at an edge of the data's pixels."""
        return self.step < 1 or all(abs(value - round(value)) < 1e-9 for value in (self.offset, self.step))


def _filled(pixels: NDArray[Any], spans: Sequence[Span]) -> NDArray[Any]:
    """Repeat the last row and column where a coarser level was cut and ends before the tile does."""
    for axis, span in enumerate(spans):
        length = pixels.shape[axis]
        missing = math.ceil(span.stop - 1e-9) - length
        if missing > 0 and span.step >= 1:
            pixels = np.take(pixels, np.minimum(np.arange(length + missing), length - 1), axis)
    return pixels


def _reduce(pixels: NDArray[Any], spans: Sequence[Span]) -> NDArray[Any]:
    """Average by area along the axes in which a tile pixel holds more than one pixel."""
    if not all(span.is_whole for span in spans):
        return _average(pixels, lambda values: _weighted(values, spans))
    factors = [max(1, round(span.step)) for span in spans]
    extents: list[float] = []
    for axis, (span, factor) in enumerate(zip(spans, factors, strict=True)):
        begin = round(span.offset) if span.step >= 1 else 0
        length = min(span.count * factor, span.stop - begin) if span.step >= 1 else pixels.shape[axis]
        pixels = pixels[(slice(None),) * axis + (slice(begin, begin + math.ceil(length - 1e-9)),)]
        extents.append(length)
    return pixels if factors == [1, 1] else area_average(pixels, factors, extents)


def _weighted(values: NDArray[np.float64], spans: Sequence[Span]) -> NDArray[np.float64]:
    for axis, span in enumerate(spans):
        if span.step >= 1:
            low = span.offset + np.arange(span.count) * span.step
            high = np.minimum(low + span.step, span.stop)
            weights = shared_lengths(low, high, values.shape[axis])
            weights /= weights.sum(1, keepdims=True)
            values = np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
    return values


def _average(pixels: NDArray[Any], mean: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float32]:
    """Apply a linear mean over the pixels that have a value; where none has, the result is NaN."""
    values = pixels.astype(np.float64)
    known = np.isfinite(values) if pixels.dtype.kind == "f" else None
    if known is None or known.all():
        return np.asarray(mean(values), np.float32)
    share = mean(known.astype(np.float64))
    total = mean(np.where(known, values, 0))
    return np.asarray(np.where(share > 1e-6, total / np.maximum(share, 1e-6), np.nan), np.float32)


def area_average(
    pixels: NDArray[Any], factors: int | Sequence[int], extents: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Average blocks of pixels; the last ones of each axis average what they have, and NaN does not count.

    Parameters
    ----------
    pixels
        Shape (rows, cols) or (rows, cols, channels).
    factors
        Rows and columns of a block in pixels; one number for a square.
    extents
        Rows and columns that count, in pixels: of the last ones possibly only a part, where a coarser level was
        rounded up. By default all.

    Returns
    -------
    numpy.ndarray
        Shape (ceil(rows / factor), ceil(cols / factor)[, channels]), float32.
    """
    by = (factors, factors) if isinstance(factors, int) else tuple(factors)

    lengths = pixels.shape[:2] if extents is None else tuple(extents)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        values[-1] *= 1 - (values.shape[0] - lengths[0])
        values[:, -1] *= 1 - (values.shape[1] - lengths[1])
        averaged = np.asarray(downscale_local_mean(values, (*by, *(1,) * (values.ndim - 2))))
        rows, cols = (
            np.minimum(factor, length - factor * np.arange(math.ceil(count / factor)))
            for factor, length, count in zip(by, lengths, values.shape[:2], strict=True)
        )
        share = np.outer(rows, cols) / (by[0] * by[1])  # scikit-image counts what is missing as zeros
        return np.asarray(averaged / share.reshape(*share.shape, *(1,) * (values.ndim - 2)))

    return _average(pixels, mean)


def _magnify(rendered: NDArray[np.uint8], spans: Sequence[Span]) -> NDArray[np.uint8]:
    """Interpolate linearly along the axes in which a tile pixel is smaller than a pixel."""
    if all(span.step >= 1 for span in spans):
        return rendered
    matrices = [
        interpolation_matrix(length, span.offset + (np.arange(span.count) + 0.5) * span.step)
        if span.step < 1
        else np.eye(length, dtype=np.float32)
        for length, span in zip(rendered.shape[:2], spans, strict=True)
    ]
    planes = matrices[0] @ rendered.astype(np.float32).transpose(2, 0, 1) @ matrices[1].T
    return np.asarray((planes.transpose(1, 2, 0) + 0.5).astype(np.uint8))
