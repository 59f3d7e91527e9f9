"""Volume: one way to read pixels from arrays, pyramids and image files of any size.

The only module that touches lazy arrays: it slices first and converts to numpy afterwards, so a click reads the chunks
under its tile and no others.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.rendering import Rendering, percentile_limits, render_tile
from napari_sam.core.tiles import Tile
from napari_sam.errors import ImageError
from napari_sam.geo import Georeference
from napari_sam.images.arguments import (
    MOST_CHANNELS,
    check_image,
    checked_channel_axis,
    checked_channels,
    checked_gamma,
    checked_limits,
    checked_nodata,
    checked_spacing,
    colors_from_hex,
    is_color,
)
from napari_sam.images.arrays import is_masked, opened_array, values_of
from napari_sam.images.recoloring import over_black
from napari_sam.lazy import dtype_of
from napari_sam.opening import ArrayLike, Opened, open_image

__all__ = ["MOST_CHANNELS", "BlockCache", "Volume"]

SAMPLE_PIXELS = 2**22
SAMPLE_PLANES = 32
SAMPLE_BLOCKS = 24
SAMPLE_BLOCK_SIDE = 256
KEPT_BYTES = 64 * 2**20
PRIMARIES = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An image of any number of axes, read plane by plane and box by box, from its own levels where it has some.

    Parameters
    ----------
    levels
        The pixels, finest level first: anything that can be sliced.
    factors
        For each level, how many level-0 pixels one of its pixels covers along each axis, channels not counted.
    spacing
        Size of a pixel along each axis, in any common unit, channels not counted.
    rgb
        Whether the channel axis holds the colours of a photograph.
    channel_axis
        The array axis that holds colours or channels and does not count as an axis of the volume, or None.
    channels
        Which channels count, in this order.
    windows
        Contrast limits of every channel that the file itself suggests, or nothing.
    colors
        (red, green, blue) from 0 to 1 of every channel that the file itself suggests, or nothing.
    nodata
        The value of pixels that hold nothing, or None; NaN and infinite ones hold nothing anyway.
    georeference
        Where a map would show the image, or None.
    axes
        One letter for each axis, channels not counted, where the file names them.
    unit
        Of the spacing, where the file says it.
    """

    levels: tuple[ArrayLike, ...]
    factors: tuple[tuple[float, ...], ...]
    spacing: tuple[float, ...]
    rgb: bool = False
    channel_axis: int | None = None
    channels: tuple[int, ...] = ()
    windows: tuple[tuple[float, float] | None, ...] = ()
    colors: tuple[tuple[float, float, float], ...] = ()
    nodata: float | None = None
    georeference: Georeference | None = None
    axes: str | None = None
    unit: str | None = None
    _blocks: BlockCache = field(default_factory=lambda: BlockCache(KEPT_BYTES), repr=False)

    @classmethod
    def of(
        cls,
        image: Volume | ArrayLike | Sequence[ArrayLike] | str | Path,
        rgb: bool | None = None,
        *,
        channel_axis: int | None = None,
        channels: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
        nodata: float | None = None,
    ) -> Volume:
        """Return a volume of an array, of the levels of a pyramid, or of an image file.

        Parameters
        ----------
        image
            A numpy, zarr, dask or tensorstore array, a torch tensor, a picture of Pillow, a sequence of arrays from
            fine to coarse, or the path or URL of a file or store (see `open_image`). Masked pixels of a masked array
            hold nothing.
        rgb
            Whether the last axis holds colours; left out, the file tells, or else it does where it has length 3 or 4
            and the two axes before it are longer than that (longer than 30 where the pixels are not uint8).
        channel_axis
            The axis of the array that holds channels; the file tells where it can.
        channels
            Which channels count, at most three; left out, those that the file calls red, green and blue, or the
            first three.
        spacing
            Size of a pixel along each axis, channels not counted; the file tells, or else all are equal.
        nodata
            The value of pixels that hold nothing; the file tells, or else there is none.

        Raises
        ------
        ImageError
            The file is missing or no image, the levels do not match, or the array is no image (complex, text, fewer
            than two axes).
        """
        if isinstance(image, Volume):
            return image
        opened = open_image(image) if isinstance(image, (str, Path)) else opened_array(image)
        first = opened.levels[0]
        shape = tuple(int(length) for length in first.shape)
        check_image(shape, dtype_of(first))
        axis = checked_channel_axis(opened, shape, rgb, channel_axis, has_channels=channels is not None)
        is_rgb = axis is not None and (axis == len(shape) - 1 and (bool(rgb) or is_color(opened, shape, rgb)))
        count = 0 if axis is None else shape[axis]
        return cls(
            levels=opened.levels,
            factors=tuple(_without(level, axis) for level in _factors(opened)),
            spacing=checked_spacing(spacing, opened, len(shape), axis),
            rgb=is_rgb,
            channel_axis=axis,
            channels=checked_channels(channels, count, opened.shown_channels, rgb=is_rgb),
            windows=opened.windows if len(opened.windows) == count else (),
            colors=colors_from_hex(opened.colors) if len(opened.colors) == count and not is_rgb else (),
            nodata=opened.nodata if nodata is None else checked_nodata(nodata),
            georeference=opened.georeference,
            axes="".join(_without(opened.axes, axis)) if opened.axes and opened.spacing else None,
            unit=opened.unit,
        )

    @property
    def array(self) -> ArrayLike:
        """The pixels of the finest level."""
        return self.levels[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        return dtype_of(self.levels[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis in level-0 pixels, without the channel axis."""
        return tuple(int(n) for n in _without(self.levels[0].shape, self.channel_axis))

    @property
    def may_hold_nothing(self) -> bool:
        """Whether there can be pixels that hold no value."""
        is_float = self.dtype.kind == "f"
        return self.nodata is not None or is_float or self._has_opacity or is_masked(self.levels[0])

    @property
    def _has_opacity(self) -> bool:
        """Whether the last of the channels is the opacity of the colors before it."""
        return self.rgb and self.channels == (0, 1, 2, 3)

    def pixel_size(self, plane: Plane) -> tuple[float, float]:
        """Return the size of a pixel along rows and columns of a plane, the smaller being 1."""
        rows, cols = (self.spacing[axis] for axis in plane.axes)
        smaller = min(rows, cols)
        return rows / smaller, cols / smaller

    def read(self, plane: Plane, box: Box, level: int = 0) -> NDArray[Any]:
        """Read the pixels of a box of a plane.

        Parameters
        ----------
        plane
            Which section of the volume, in level-0 pixels.
        box
            Whole pixels of the level, inside the plane.
        level
            Which level of the data.

        Returns
        -------
        numpy.ndarray
            Shape (rows, cols), or (rows, cols, channels), in the dtype of the array; in float32 where pixels hold
            nothing, and those are NaN. Colors with an opacity are mixed with black, and come without it.

        Raises
        ------
        ImageError
            It cannot be read.
        """
        array = self.levels[level]
        block = self._blocks.get(level, plane, box)
        if block is None:
            wanted = _to_chunks(array, self._array_axes(plane), box, plane.shape_in(self._shape_of(level)))
            block = self._fetch(array, plane, wanted, level)
            if not isinstance(array, np.ndarray):
                self._blocks.put(level, plane, wanted, block)
            block = block[box.moved(-wanted.top, -wanted.left).slices]
        return self._without_nodata(block)

    def read_tile(self, plane: Plane, tile: Tile) -> tuple[NDArray[Any], tuple[float, float], tuple[float, float]]:
        """Read what a tile needs from the coarsest level of the data that is fine enough for it.

        Returns
        -------
        pixels : numpy.ndarray
            As `read` gives them.
        origin : tuple of float
            (row, col) of their first edge, in level-0 pixels.
        size : tuple of float
            Height and width of one of them, in level-0 pixels.
        """
        level = self.level_for(plane, tile)
        size = self._size_in(level, plane)
        rows, cols = plane.shape_in(self._shape_of(level))
        inside = self._box_in(level, plane, tile.read)
        if inside.is_empty:  # Levels are cut instead of rounded up now and then: take their last pixels.
            top, left = min(int(inside.top), rows - 1), min(int(inside.left), cols - 1)
            inside = Box(top, left, max(int(inside.bottom), top + 1), max(int(inside.right), left + 1))
        return self.read(plane, inside, level), (inside.top * size[0], inside.left * size[1]), size

    def render(self, plane: Plane, tile: Tile, rendering: Rendering) -> NDArray[np.uint8]:
        """Read a tile and render it into the encoder's input, shape (side, side, 3)."""
        pixels, origin, size = self.read_tile(plane, tile)
        return render_tile(pixels, tile, rendering, origin, size)

    def level_for(self, plane: Plane, tile: Tile) -> int:
        """Return the coarsest level of the data whose pixels are no larger than those of a tile, on any axis."""
        wanted = dict(zip(plane.axes, tile.step, strict=True))
        most = [wanted.get(axis, max(1.0, *tile.step)) for axis in range(len(self.shape))]
        fine = [
            level
            for level, factors in enumerate(self.factors)
            if all(factor <= limit * (1 + 1e-6) for factor, limit in zip(factors, most, strict=True))
        ]
        return max(fine, default=0)

    def pixels_for(self, plane: Plane, tile: Tile) -> float:
        """Return how many pixels of the data must be read for a tile."""
        height, width = self._size_in(self.level_for(plane, tile), plane)
        return tile.read.height / height * (tile.read.width / width)

    def read_ahead(self, plane: Plane, tiles: Sequence[Tile]) -> None:
        """Read what several tiles need at once, where they lie over each other and the pixels are not in memory."""
        by_level: dict[int, list[Tile]] = {}
        for tile in tiles:
            by_level.setdefault(self.level_for(plane, tile), []).append(tile)
        for level, members in by_level.items():
            if len(members) < 2 or isinstance(self.levels[level], np.ndarray):
                continue
            union = members[0].read
            for tile in members[1:]:
                union = union.union(tile.read)
            inside = self._box_in(level, plane, union)
            if not inside.is_empty:
                self.read(plane, inside, level)

    def forget(self) -> None:
        """Forget the pixels that are kept in memory; call it after changing them in place."""
        self._blocks.clear()

    def rendering(
        self,
        limits: Sequence[float] | Sequence[Sequence[float]] | None = None,
        gamma: float | Sequence[float] = 1.0,
    ) -> Rendering:
        """Return how the whole volume is stretched to 8 bits.

        Parameters
        ----------
        limits
            Contrast limits (low, high), or a pair for each channel; left out, they are what the file suggests, 0 and
            255 for 8-bit RGB, and else the 0.5 and 99.5 percentiles of a few blocks spread over the volume.
        gamma
            As in napari; one for all channels, or one for each.

        Raises
        ------
        ImageError
            The limits are not two finite numbers in rising order, or gamma is not above 0.
        """
        gamma = checked_gamma(gamma, len(self.channels))
        colors = tuple(self.colors[i] for i in self.channels) if self.colors else None
        if colors is None and len(self.channels) > 1 and not self.rgb:
            colors = PRIMARIES[: len(self.channels)]
        if limits is not None:
            return Rendering(checked_limits(limits, max(len(self.channels), 1)), gamma, colors)
        if self.rgb and self.dtype == np.uint8:
            return Rendering(((0.0, 255.0),), gamma)
        suggested = [self.windows[i] for i in self.channels] if self.windows else []
        if suggested and all(window is not None for window in suggested):
            return Rendering(tuple(window for window in suggested if window is not None), gamma, colors)
        sample = self._sample()
        if self.rgb or self.channel_axis is None:
            return Rendering((self._limits(sample[..., :MOST_CHANNELS] if self.rgb else sample),), gamma)
        return Rendering(tuple(self._limits(sample[..., i]) for i in range(sample.shape[-1])), gamma, colors)

    def _limits(self, sample: NDArray[Any]) -> tuple[float, float]:
        low, high = percentile_limits(sample)
        if low == high and self.dtype.kind in "ui" and sample.size and sample.min() == sample.max():
            # Blocks of a sparsely filled image that all hold the same say nothing: take what the type can hold.
            info = np.iinfo(self.dtype)
            return (float(info.min), float(info.max)) if math.prod(self.shape) > SAMPLE_PIXELS else (low, high)
        return low, high

    def _sample(self) -> NDArray[Any]:
        """Read a few blocks spread over the volume, along the last two axes; of small volumes a few whole planes.

        Returns
        -------
        numpy.ndarray
            Shape (n,), or (n, channels).
        """
        *others, height, width = self.shape
        count = math.prod(others)
        if count * height * width <= SAMPLE_PIXELS:
            chosen = np.unique(np.linspace(0, count - 1, min(count, SAMPLE_PLANES)).astype(int))
            spots = [(int(at), Box(0, 0, height, width)) for at in chosen]
        else:
            spots = list(_spread(count, height, width))
        blocks = [
            self.read(Plane.of(self.shape, [int(i) for i in np.unravel_index(at, others)] if others else None), box)
            for at, box in spots
        ]
        depth = () if self.channel_axis is None else (blocks[0].shape[-1],)
        return np.concatenate([block.reshape(-1, *depth) for block in blocks])

    # -- arrays ----------------------------------------------------------------------------------------------------

    def _shape_of(self, level: int) -> tuple[int, ...]:
        return tuple(int(n) for n in _without(self.levels[level].shape, self.channel_axis))

    def _size_in(self, level: int, plane: Plane) -> tuple[float, float]:
        """Return height and width of a pixel of a level, in level-0 pixels of a plane."""
        return self.factors[level][plane.axes[0]], self.factors[level][plane.axes[1]]

    def _box_in(self, level: int, plane: Plane, box: Box) -> Box:
        """Return the pixels of a level that a box of level-0 pixels meets."""
        height, width = self._size_in(level, plane)
        scaled = Box(box.top / height, box.left / width, box.bottom / height, box.right / width)
        return scaled.rounded_out().intersection(Box.of_shape(plane.shape_in(self._shape_of(level))))

    def _array_axes(self, plane: Plane) -> tuple[int, int]:
        """Return the axes of the arrays that are the rows and columns of a plane."""
        rows, cols = (axis + (self.channel_axis is not None and axis >= self.channel_axis) for axis in plane.axes)
        return rows, cols

    def _fetch(self, array: ArrayLike, plane: Plane, box: Box, level: int) -> NDArray[Any]:
        """Read a box of a level; the first axes of what it gives are (row, col), the last one the channels."""
        index = tuple(
            min(int((at + 0.5) / factor), length - 1)
            for at, factor, length in zip(plane.index, self.factors[level], self._shape_of(level), strict=True)
        )
        key: list[Any] = list(Plane(plane.axes, index).slicer(box))
        picked: list[int] | None = None
        if self.channel_axis is not None:
            chosen = self.channels
            # A slice is what every kind of array can do; the channels are picked from what it gives.
            key.insert(self.channel_axis, slice(min(chosen), max(chosen) + 1))
            picked = [channel - min(chosen) for channel in chosen]
        try:
            block = values_of(array[tuple(key)])
        except Exception as error:  # Stores, codecs and file systems each raise their own.
            raise ImageError(
                f"The pixels of {_edges(box)} cannot be read ({_first_line(error)}): the file or store is damaged, "
                "incomplete or out of reach; mend it, or work elsewhere in the image."
            ) from error
        if picked is not None:
            at = sum(not isinstance(part, int) for part in key[: self.channel_axis])
            block = np.moveaxis(block, at, -1)
            if picked != list(range(block.shape[-1])):
                block = block[..., picked]
        return plane.oriented(block)

    def _without_nodata(self, block: NDArray[Any]) -> NDArray[Any]:
        if self._has_opacity:
            block = over_black(block, self.dtype)
        if self.nodata is not None and math.isfinite(self.nodata):
            nothing = block == self.nodata
            if nothing.any():
                return np.where(nothing, np.float32(np.nan), block.astype(np.float32))
        return block


class BlockCache:
    """The blocks that were read last, up to a number of bytes, so that tiles over each other read no chunk twice."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[tuple[int, Plane, Box], NDArray[Any]] = OrderedDict()
        self._lock = Lock()

    def get(self, level: int, plane: Plane, box: Box) -> NDArray[Any] | None:
        """Return the pixels of a box if one block that is kept holds all of them."""
        with self._lock:
            for key, block in reversed(self._blocks.items()):
                if key[0] == level and key[1] == plane and key[2].contains(box):
                    self._blocks.move_to_end(key)
                    return block[box.moved(-key[2].top, -key[2].left).slices]
        return None

    def put(self, level: int, plane: Plane, box: Box, block: NDArray[Any]) -> None:
        """Keep a block, unless it alone is larger than half of what may be kept."""
        if block.nbytes > self._capacity / 2:
            return
        with self._lock:
            self._blocks[level, plane, box] = block
            while sum(kept.nbytes for kept in self._blocks.values()) > self._capacity:
                self._blocks.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._blocks.clear()


def _factors(opened: Opened) -> tuple[tuple[float, ...], ...]:
    """Return how many pixels of the finest level one pixel of each level covers, along every axis.

    Raises
    ------
    ImageError
        The levels are no pyramid: their axes or types differ, or they do not shrink from one to the next.
    """
    first = opened.levels[0]
    found: list[tuple[float, ...]] = []
    for number, level in enumerate(opened.levels):
        if len(level.shape) != len(first.shape) or dtype_of(level) != dtype_of(first):
            raise ImageError(
                f"Level {number} of the pyramid has shape {tuple(level.shape)} and type {dtype_of(level)}, and level 0 "
                f"has {tuple(first.shape)} and {dtype_of(first)}: give levels of one image, or the finest one alone."
            )
        ratios = opened.factors[number] if opened.factors else _ratios(first.shape, level.shape)
        if any(ratio < before - 1e-6 for ratio, before in zip(ratios, found[-1] if found else ratios, strict=True)):
            raise ImageError(
                f"Level {number} of the pyramid, of shape {tuple(level.shape)}, is larger than the one before it: give "
                "levels from fine to coarse, or the finest one alone."
            )
        found.append(ratios)
    return tuple(found)


def _ratios(fine: Sequence[int], coarse: Sequence[int]) -> tuple[float, ...]:
    """Return the factor along each axis; a whole one where the shapes allow it, since levels are cut or rounded up."""
    ratios = []
    for long, short in zip(fine, coarse, strict=True):
        ratio = long / max(short, 1)
        whole = max(round(ratio), 1)
        ratios.append(float(whole) if abs(long / whole - short) < 1 else ratio)
    return tuple(ratios)


def _without(values: Sequence[Any], axis: int | None) -> tuple[Any, ...]:
    return tuple(value for i, value in enumerate(values) if i != axis)


def _to_chunks(array: ArrayLike, axes: tuple[int, int], box: Box, shape: tuple[int, int]) -> Box:
    """Return a box grown to the borders of the chunks under it: reading those costs nothing more."""
    chunks = getattr(array, "chunks", None)
    if isinstance(array, np.ndarray) or not isinstance(chunks, tuple) or len(chunks) != len(array.shape):
        return box
    rows, cols = (int(chunks[axis] if np.ndim(chunks[axis]) == 0 else max(chunks[axis])) for axis in axes)
    grown = Box(
        box.top // rows * rows, box.left // cols * cols, -(-box.bottom // rows) * rows, -(-box.right // cols) * cols
    ).intersection(Box.of_shape(shape))
    size = dtype_of(array).itemsize * grown.height * grown.width
    return grown if size <= KEPT_BYTES / 4 else box


def _spread(count: int, height: int, width: int) -> Iterator[tuple[int, Box]]:
    """Yield blocks spread evenly, and the same each time, over all planes: (plane number, box)."""
    rows, cols = min(height, SAMPLE_BLOCK_SIDE), min(width, SAMPLE_BLOCK_SIDE)
    # The plastic number's powers (Roberts 2018): points of a sequence that leaves no large hole in three dimensions.
    steps = 1 / 1.2207440846057596 ** np.arange(1, 4)
    for number in range(SAMPLE_BLOCKS):
        z, y, x = (0.5 + number * steps) % 1
        top, left = round(y * (height - rows)), round(x * (width - cols))
        yield int(z * count), Box(top, left, top + rows, left + cols)


def _edges(box: Box) -> str:
    return f"rows {box.top:g} to {box.bottom:g}, columns {box.left:g} to {box.right:g}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
