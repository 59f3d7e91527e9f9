"""Volume: one way to read pixels from arrays, pyramids and image files of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.rendering import Rendering, render_in_parts
from napari_sam.core.tiles import Tile
from napari_sam.images.arguments import (
    MAX_CHANNELS,
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
from napari_sam.images.arrays import is_masked, opened_array
from napari_sam.images.axes.anatomy import Anatomy
from napari_sam.images.axes.calibration import Calibration
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.lazy.blocks import KEPT_BYTES, BlockCache, grown_to_chunks
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.images.lazy.recoloring import over_black
from napari_sam.images.levels import coarsest_level, level_factors
from napari_sam.images.opening import ArrayLike, open_image
from napari_sam.images.plane_reader import PlaneReader, without_nodata
from napari_sam.images.projection import Projection
from napari_sam.images.sampling import sample_blocks, sampled_limits
from napari_sam.images.source import names_along, step_along, without_axis

__all__ = ["MAX_CHANNELS", "BlockCache", "Volume"]

DEFAULT_LETTERS = {2: "yx", 3: "zyx", 4: "tzyx"}
PRIMARIES = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An image of any number of axes, read by plane and box, from the coarsest sufficient level of a pyramid.

    Parameters
    ----------
    levels
        Arrays of the pixels, finest level first: anything that can be sliced.
    factors
        Downsampling factor of each level along each axis, channels not counted.
    spacing
        Size of a pixel along each axis, in any common unit, channels not counted.
    rgb
        Whether the channel axis holds the colors of a photograph.
    channel_axis
        Array axis of colors or channels, which is not an axis of the volume; or None.
    channels
        Channels to use, in this order.
    windows
        Contrast limits of every channel suggested by the file, or empty.
    colors
        (red, green, blue), 0 to 1, of every channel as suggested by the file, or empty.
    nodata
        Value of pixels without data, or None. NaN and infinite pixels never count as data.
    georeference
        Position of the image on the earth, or None.
    axes
        One letter for each axis, channels not counted; None if the file does not name them.
    unit
        Unit of the spacing, or None.
    scale
        Step from one pixel to the next along each axis, channels not counted: like `spacing`, but with the step of
        time, and negative for reversed axes. None if it is unknown.
    origin
        Center of the first pixel along each axis, channels not counted, in the same unit; None for 0 everywhere.
    time_unit
        Unit of the time axis, or None.
    axis_names
        Letter of each axis in the file, channels not counted, with "?" for an axis without a known name; None if the
        file names no axes.
    projection
        Combination of several planes into one, or None for single planes.
    anatomy
        Position of the image in the body, or None.
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
    scale: tuple[float, ...] | None = None
    origin: tuple[float, ...] | None = None
    time_unit: str | None = None
    axis_names: str | None = None
    projection: Projection | None = None
    anatomy: Anatomy | None = None
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
            count as pixels without data.
        rgb
            Whether the last axis holds colors. By default as the file states; otherwise if its length is 3 or 4 and
            the two axes before it are longer than that (longer than 30 for other types than uint8).
        channel_axis
            Axis of the array that holds channels; by default as the file states.
        channels
            Channels to use, at most three; by default red, green and blue of the file, else the first three.
        spacing
            Size of a pixel along each axis, channels not counted; by default that of the file, else 1.
        nodata
            Value of pixels without data; by default that of the file, if it has one.

        Raises
        ------
        ImageError
            The file is missing or not an image, the levels do not match, or the array is no image.
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
        sizes = checked_spacing(spacing, opened, len(shape), axis)
        return cls(
            levels=opened.levels,
            factors=tuple(without_axis(level, axis) for level in level_factors(opened)),
            spacing=sizes,
            rgb=is_rgb,
            channel_axis=axis,
            channels=checked_channels(channels, count, opened.shown_channels, rgb=is_rgb),
            windows=opened.windows if len(opened.windows) == max(count, 1) else (),
            colors=colors_from_hex(opened.colors) if len(opened.colors) == count and not is_rgb else (),
            nodata=opened.nodata if nodata is None else checked_nodata(nodata),
            georeference=opened.georeference,
            axes="".join(without_axis(opened.axes, axis)) if opened.axes else None,
            unit=opened.unit,
            scale=step_along(None if spacing is None else sizes, opened, axis),
            origin=without_axis(opened.origin, axis) if opened.origin else None,
            time_unit=opened.time_unit,
            axis_names=names_along(opened, axis),
            anatomy=opened.anatomy,
        )

    def projected(self, projection: Projection | None) -> Volume:
        """Return the same volume with another projection, and a cache of its own."""
        return replace(self, projection=projection, _blocks=BlockCache(KEPT_BYTES))

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
        return tuple(int(n) for n in without_axis(self.levels[0].shape, self.channel_axis))

    @property
    def plane_axes(self) -> tuple[int, int]:
        """The row and the column axis: those named y and x, else the last two."""
        if self.axes and {"y", "x"} <= set(self.axes):
            return self.axes.index("y"), self.axes.index("x")
        return len(self.shape) - 2, len(self.shape) - 1

    def calibration(self, plane: Plane | None = None) -> Calibration | None:
        """Return the calibration of labels for the whole volume or one plane; None if it is unknown."""
        letters = self.axes if self.axes and set(self.axes) <= set("tczyx") else DEFAULT_LETTERS.get(len(self.shape))
        if letters is None or (self.axes is None and self.scale is None):
            return None
        whole = Calibration(letters, self.scale, self.origin, self.unit, self.time_unit)
        return whole if plane is None else whole.along(plane.axes)

    def georeference_of(self, plane: Plane | None = None) -> Georeference | None:
        """Return the georeference of labels for the whole volume or one plane; None if there is none."""
        if self.georeference is None or plane is None or plane.axes == self.plane_axes:
            return self.georeference
        return self.georeference.transposed() if plane.axes == self.plane_axes[::-1] else None

    @property
    def may_hold_nothing(self) -> bool:
        """Whether there may be pixels without data."""
        return self.nodata is not None or self.dtype.kind == "f" or self._has_opacity or is_masked(self.levels[0])

    @property
    def _has_opacity(self) -> bool:
        """Whether the last channel is the opacity of the colors."""
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
            Plane of the volume, in level-0 pixels.
        box
            Whole pixels of the level, inside the plane.
        level
            Level of the data.

        Returns
        -------
        numpy.ndarray
            Shape (rows, cols), or (rows, cols, channels), in the dtype of the array; float32 with
            NaN if there are pixels without data. Colors with an opacity are blended over black.

        Raises
        ------
        ImageError
            It cannot be read.
        """
        array = self.levels[level]
        block = self._blocks.get(level, plane, box)
        if block is None:
            wanted = grown_to_chunks(array, self._array_axes(plane), box, plane.shape_in(self._shape_of(level)))
            block = self._fetch(array, plane, wanted, level)
            if not isinstance(array, np.ndarray):
                self._blocks.put(level, plane, wanted, block)
            block = block[box.moved(-wanted.top, -wanted.left).slices]
        if self._has_opacity:
            block = over_black(block, self.dtype)
        return without_nodata(block, self.nodata)

    def read_tile(self, plane: Plane, tile: Tile) -> tuple[NDArray[Any], tuple[float, float], tuple[float, float]]:
        """Read the pixels of a tile from the coarsest level that is fine enough for it.

        Returns
        -------
        pixels : numpy.ndarray
            As returned by `read`.
        origin : tuple of float
            (row, col) of their first edge, in level-0 pixels.
        size : tuple of float
            Height and width of one of them, in level-0 pixels.
        """
        level = self.level_for(plane, tile)
        size = self._size_in(level, plane)
        rows, cols = plane.shape_in(self._shape_of(level))
        inside = self._box_in(level, plane, tile.read)
        if inside.is_empty:  # Some writers cut levels instead of rounding up: use their last pixels.
            top, left = min(int(inside.top), rows - 1), min(int(inside.left), cols - 1)
            inside = Box(top, left, max(int(inside.bottom), top + 1), max(int(inside.right), left + 1))
        return self.read(plane, inside, level), (inside.top * size[0], inside.left * size[1]), size

    def render(self, plane: Plane, tile: Tile, rendering: Rendering) -> NDArray[np.uint8]:
        """Read a tile and render it into the encoder's input, shape (side, side, 3)."""
        pixels = self.pixels_for(plane, tile)
        return render_in_parts(lambda part: self.read_tile(plane, part), tile, rendering, pixels)

    def level_for(self, plane: Plane, tile: Tile) -> int:
        """Return the coarsest level of the data whose pixels are no larger than those of a tile, on any axis."""
        return coarsest_level(self.factors, dict(zip(plane.axes, tile.step, strict=True)))

    def pixels_for(self, plane: Plane, tile: Tile) -> float:
        """Return the number of pixels of the data that are read for a tile."""
        height, width = self._size_in(self.level_for(plane, tile), plane)
        return tile.read.height / height * (tile.read.width / width)

    def read_ahead(self, plane: Plane, tiles: Sequence[Tile]) -> None:
        """Read the pixels of several overlapping tiles at once, unless they are in memory."""
        by_level: dict[int, list[Tile]] = {}
        for tile in tiles:
            by_level.setdefault(self.level_for(plane, tile), []).append(tile)
        for level, members in by_level.items():
            if len(members) < 2 or isinstance(self.levels[level], np.ndarray):
                continue
            inside = self._box_in(level, plane, reduce(Box.union, (tile.read for tile in members)))
            if not inside.is_empty:
                self.read(plane, inside, level)

    def forget(self) -> None:
        """Clear the cache of pixels. Call this after changing them in place."""
        self._blocks.clear()

    def rendering(
        self,
        limits: Sequence[float] | Sequence[Sequence[float]] | None = None,
        gamma: float | Sequence[float] = 1.0,
    ) -> Rendering:
        """Return the rendering of the whole volume to 8 bits.

        Parameters
        ----------
        limits
            Contrast limits (low, high), or a pair for each channel. By default those of the file, 0 and 255 for 8-bit
            RGB, else the 0.5 and 99.5 percentiles of a few blocks spread over the volume.
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
        suggested = [self.windows[i] for i in self.channels or (0,)] if self.windows else []
        if suggested and all(window is not None for window in suggested):
            return Rendering(tuple(window for window in suggested if window is not None), gamma, colors)
        sample = sample_blocks(self.shape, self.read)
        if self.channel_axis is None or self.rgb:
            colors_only = sample[..., :MAX_CHANNELS] if self.rgb else sample
            return Rendering((sampled_limits(colors_only, self.shape, self.dtype),), gamma)
        channels = np.moveaxis(sample, -1, 0)
        return Rendering(tuple(sampled_limits(each, self.shape, self.dtype) for each in channels), gamma, colors)

    def _shape_of(self, level: int) -> tuple[int, ...]:
        return tuple(int(n) for n in without_axis(self.levels[level].shape, self.channel_axis))

    def _size_in(self, level: int, plane: Plane) -> tuple[float, float]:
        """Return height and width of a pixel of a level, in level-0 pixels of a plane."""
        return self.factors[level][plane.axes[0]], self.factors[level][plane.axes[1]]

    def _box_in(self, level: int, plane: Plane, box: Box) -> Box:
        """Return the pixels of a level that intersect a box of level-0 pixels."""
        height, width = self._size_in(level, plane)
        scaled = Box(box.top / height, box.left / width, box.bottom / height, box.right / width)
        return scaled.rounded_out().intersection(Box.of_shape(plane.shape_in(self._shape_of(level))))

    def _array_axes(self, plane: Plane) -> tuple[int, int]:
        """Return the axes of the arrays that are the rows and columns of a plane."""
        rows, cols = (axis + (self.channel_axis is not None and axis >= self.channel_axis) for axis in plane.axes)
        return rows, cols

    def _fetch(self, array: ArrayLike, plane: Plane, box: Box, level: int) -> NDArray[Any]:
        """Read a box of a level, of shape (rows, cols) or (rows, cols, channels)."""
        shape, factors = self._shape_of(level), self.factors[level]
        index = tuple(
            min(int((at + 0.5) / factor), length - 1)
            for at, factor, length in zip(plane.index, factors, shape, strict=True)
        )
        reader = PlaneReader(array, Plane(plane.axes, index), box, self.channel_axis, self.channels)
        spans = self._spans(plane, level)
        return reader.read() if spans is None or self.projection is None else reader.project(spans, self.projection)

    def _spans(self, plane: Plane, level: int) -> dict[int, range] | None:
        """Return the planes of a level that are combined along each hidden axis; None without a projection."""
        projection = self.projection
        if projection is None or not set(projection.modes) - {"none"}:
            return None
        found = {}
        for axis, (at, whole, length) in enumerate(zip(plane.index, self.shape, self._shape_of(level), strict=True)):
            if axis not in plane.axes:
                span, factor = projection.span(axis, at, whole), self.factors[level][axis]
                first, last = (min(int((end + 0.5) / factor), length - 1) for end in (span[0], span[-1]))
                found[axis] = range(first, last + 1)
        return found or None
