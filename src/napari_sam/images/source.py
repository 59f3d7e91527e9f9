"""ImageSource: the arrays and the metadata of an opened image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_sam.errors import ImageError
from napari_sam.images.axes.anatomy import Anatomy
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.axes.units import in_one_unit, unit_name

# A tile, strip or chunk is always decoded as a whole.
MAX_CHUNK_BYTES = 4 * 2**30
WRITE_AGAIN = "write the pyramid again from its finest level"


class ArrayLike(Protocol):
    """Interface of image arrays, such as those of numpy, zarr, dask and tensorstore."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class ImageSource:
    """An image file or store that is open, with pixels not yet read.

    Parameters
    ----------
    levels
        Finest first, each sliced lazily; with the same number of axes and the same type.
    axes
        One letter for each axis of the arrays, out of "tczyx", and s for color samples as last axis; never both c and
        s. None if they are unknown.
    spacing
        Step from one pixel of the finest level to the next along each axis, negative for a reversed axis; or None.
    unit
        Of the space axes, or None.
    factors
        Downsampling factor of each level along each axis; None to infer it from the shapes.
    windows
        Contrast limits of each channel suggested by the file, or empty.
    colors, channel_names
        Color ("RRGGBB") and name of each channel, or empty.
    nodata
        Value of pixels without data, or None.
    georeference
        Position of the image on the earth, or None.
    origin
        Center of the first pixel along each axis, in the unit of the spacing; None for 0 everywhere.
    time_unit
        Of the time axis, or None.
    guessed_axes
        Letters of `axes` that are guesses, for axes without a known name in the file.
    shown_channels
        Channels to show at first, as red, green and blue; empty for the first ones.
    anatomy
        Position of the image in the body, or None.
    metadata
        What a napari layer of the image carries for the writers of other plugins, such as the header of a NIfTI file.
    """

    levels: tuple[ArrayLike, ...]
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    unit: str | None = None
    factors: tuple[tuple[float, ...], ...] | None = None
    windows: tuple[tuple[float, float] | None, ...] = ()
    colors: tuple[str, ...] = ()
    channel_names: tuple[str, ...] = ()
    nodata: float | None = None
    georeference: Georeference | None = None
    origin: tuple[float, ...] | None = None
    time_unit: str | None = None
    guessed_axes: str = ""
    shown_channels: tuple[int, ...] = ()
    anatomy: Anatomy | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def checked(opened: ImageSource, where: str | Path, advice: str = WRITE_AGAIN) -> ImageSource:
    """Refuse levels that do not belong to one image.

    Raises
    ------
    ImageError
        The pixels are not numbers, or are stored in chunks of more than 4 GiB; a level has other axes or another type
        than the finest one, is larger than the one before it, or has another aspect ratio.
    """
    first, *coarser = opened.levels
    if np.dtype(first.dtype).kind not in "buif":
        raise ImageError(
            f"{where} has the unsupported pixel type {first.dtype}: use an integer or floating-point image."
        )
    for level in opened.levels:
        piece = math.prod(getattr(level, "chunks", None) or ()) * np.dtype(level.dtype).itemsize
        if piece > MAX_CHUNK_BYTES:
            raise ImageError(
                f"{where} is stored in chunks of {piece / 2**30:.0f} GiB, which cannot be read in parts: save it with "
                "smaller tiles or chunks."
            )
    before = first
    for number, level in enumerate(coarser, 1):
        shapes = f"Level {number} of {where} has shape {tuple(level.shape)}"
        if len(level.shape) != len(first.shape) or np.dtype(level.dtype) != np.dtype(first.dtype):
            raise ImageError(
                f"{shapes} and type {level.dtype}, and level 0 has {tuple(first.shape)} and {first.dtype}: {advice}."
            )
        if any(short > long for short, long in zip(level.shape, before.shape, strict=True)):
            raise ImageError(f"{shapes}, which is larger than the one before it, {tuple(before.shape)}: {advice}.")
        if not fits(first.shape, level.shape, opened.axes, opened.factors[number] if opened.factors else None):
            raise ImageError(f"{shapes}, which is not a smaller copy of {tuple(first.shape)}: {advice}.")
        before = level
    return opened


def fits(fine: Sequence[int], coarse: Sequence[int], axes: str | None, factors: Sequence[float] | None = None) -> bool:
    """Return whether a level can be a smaller copy of another: by given factors, or one along rows and columns.

    Writers of pyramids cut, round or round up lengths, so a difference of less than a pixel is allowed.
    """
    if 0 in coarse and 0 not in fine:
        return False
    if factors is not None:
        shrunk = zip(fine, coarse, factors, strict=True)
        return all(factor > 1 - 1e-6 and abs(long / factor - short) < 1.01 for long, short, factor in shrunk)
    letters = axes or ("yx" if len(fine) == 2 else "")
    least, most = 0.0, math.inf
    for letter, long, short in zip(letters, fine, coarse, strict=False):
        if letter in "cs" and long != short:
            return False
        if letter in "yx":
            least = max(least, long / (short + 1))
            most = min(most, long / (short - 1) if short > 1 else math.inf)
    return least < most


def calibrated(
    opened: ImageSource, scale: Sequence[float], origin: Sequence[float], units: Sequence[str | None]
) -> ImageSource:
    """Return an image with the steps, the origin and the units of its axes; lengths in the unit of the columns.

    Parameters
    ----------
    opened
        An image with known axes.
    scale, origin, units
        One entry for each axis, in the file's own units.
    """
    assert opened.axes is not None
    steps, starts = (dict(zip(opened.axes, values, strict=True)) for values in (scale, origin))
    known = {letter: unit_name(unit) for letter, unit in zip(opened.axes, units, strict=True)}
    lengths, unit = in_one_unit({letter: steps[letter] for letter in steps if letter in "zyx"}, known)
    starts |= {letter: starts[letter] * lengths[letter] / steps[letter] for letter in lengths}
    steps |= lengths
    return replace(
        opened,
        spacing=tuple(float(steps[letter]) for letter in opened.axes),
        origin=tuple(float(starts[letter]) for letter in opened.axes) if any(starts.values()) else None,
        unit=unit,
        time_unit=known.get("t"),
    )


def step_along(
    spacing: Sequence[float] | None, opened: ImageSource, channel_axis: int | None
) -> tuple[float, ...] | None:
    """Return the step along each axis: the given spacing, in the direction that the file states."""
    stated = None if opened.spacing is None else without_axis(opened.spacing, channel_axis)
    if stated is None or not all(math.isfinite(step) and step for step in stated):
        return None if spacing is None else tuple(spacing)
    if spacing is None:
        return tuple(float(step) for step in stated)
    return tuple(math.copysign(size, step) for size, step in zip(spacing, stated, strict=True))


def without_axis(values: Sequence[Any], axis: int | None) -> tuple[Any, ...]:
    """Return values, one for each axis, without that of the channel axis."""
    return tuple(value for i, value in enumerate(values) if i != axis)


def names_along(opened: ImageSource, channel_axis: int | None) -> str | None:
    """Return the letter by which the file names each axis, "?" for an axis without a name; None for no names."""
    if not opened.axes:
        return None
    names = ("?" if letter in opened.guessed_axes else letter for letter in opened.axes)
    return "".join(without_axis(tuple(names), channel_axis))
