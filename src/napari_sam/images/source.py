"""What an opened image is: its arrays, and what the file says of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_sam.errors import ImageError
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.axes.units import in_one_unit, unit_name

# A tile, strip or chunk is decoded as a whole, however little of it is wanted.
MAX_CHUNK_BYTES = 4 * 2**30
WRITE_ANEW = "write the pyramid anew from its finest level"


class ArrayLike(Protocol):
    """What an image must offer: numpy, zarr, dask and tensorstore arrays all do."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class ImageSource:
    """An image file or store: opened, not read.

    Parameters
    ----------
    levels
        Finest first, each sliced lazily; with the same number of axes and the same type.
    axes
        One letter for each axis of the arrays, out of "tczyx" and s, colour samples, the last; never both c and s.
        None where that is unknown.
    spacing
        Step from one pixel of the finest level to the next along each axis, negative where the axis runs backwards; or
        None.
    unit
        Of the space axes, or None.
    factors
        How many pixels of the finest level one of each level covers along each axis; None: as the shapes say.
    windows
        Contrast limits of each channel that the file suggests, or nothing.
    colors, channel_names
        Of each channel, "RRGGBB" and a word, or nothing.
    nodata
        The value of pixels that hold nothing, or None.
    georeference
        Where on the earth the image lies, or None.
    origin
        Center of the first pixel along each axis, in the unit of the spacing; None for 0 everywhere.
    time_unit
        Of the time axis, or None.
    guessed_axes
        Letters of `axes` that the file itself does not use: they stand for axes that it does not name.
    shown_channels
        Which channels a viewer shows first, as red, green and blue, or nothing: the first ones.
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


def checked(opened: ImageSource, where: str | Path, advice: str = WRITE_ANEW) -> ImageSource:
    """Refuse levels that are not those of one image.

    Raises
    ------
    ImageError
        The pixels are no numbers, or are stored in pieces of more than 4 GiB; a level has other axes or another type
        than the finest, is larger than the one before it, or is of another form.
    """
    first, *coarser = opened.levels
    if np.dtype(first.dtype).kind not in "buif":
        raise ImageError(
            f"Pixels of type {first.dtype} are no image, and {where} holds such: give whole or real numbers."
        )
    for level in opened.levels:
        piece = math.prod(getattr(level, "chunks", None) or ()) * np.dtype(level.dtype).itemsize
        if piece > MAX_CHUNK_BYTES:
            raise ImageError(
                f"{where} is stored in pieces of {piece / 2**30:.0f} GiB, which cannot be read in parts: save it with "
                "smaller tiles or chunks."
            )
    before = first
    for number, level in enumerate(coarser, 1):
        shapes = f"level {number} of {where} has shape {tuple(level.shape)}"
        if len(level.shape) != len(first.shape) or np.dtype(level.dtype) != np.dtype(first.dtype):
            raise ImageError(
                f"The {shapes} and type {level.dtype}, and level 0 has {tuple(first.shape)} and {first.dtype}: "
                f"{advice}."
            )
        if any(short > long for short, long in zip(level.shape, before.shape, strict=True)):
            raise ImageError(f"The {shapes}, which is larger than the one before it, {tuple(before.shape)}: {advice}.")
        if not fits(first.shape, level.shape, opened.axes, opened.factors[number] if opened.factors else None):
            raise ImageError(f"The {shapes}, which is not that of {tuple(first.shape)} made smaller: {advice}.")
        before = level
    return opened


def fits(fine: Sequence[int], coarse: Sequence[int], axes: str | None, factors: Sequence[float] | None = None) -> bool:
    """Say whether a level can be another one made smaller: as is stated, or by one factor along rows and columns.

    Lengths are cut, rounded or rounded up by those who write pyramids, so all that is asked is less than a pixel.
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
        Its axes are known.
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
