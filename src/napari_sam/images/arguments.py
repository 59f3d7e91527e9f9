"""Check arguments that describe an image: axes, channels, spacing and contrast."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_sam.arguments import shown as in_words
from napari_sam.errors import ImageError
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.images.source import ImageSource

MAX_CHANNELS = 3
# A last axis of at most this length, after two much longer ones, holds channels and not columns.
MAX_UNNAMED_CHANNELS = 4
MIN_SIDE = 16
SHORT = 4
# A larger ratio of pixel sizes is a mistake of units, and no tile could show such pixels.
MAX_ANISOTROPY = 1e5


def check_image(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse arrays that are not images.

    Raises
    ------
    ImageError
        The numbers are not real, there are fewer than two axes, or there are no pixels.
    """
    if dtype.kind not in "buif":
        raise ImageError(f"The pixel type {dtype} is not supported: give an integer or floating-point image.")
    if len(shape) < 2:
        raise ImageError(f"An image needs at least two axes and this one has shape {shape}: give a 2-D array.")
    if 0 in shape:
        raise ImageError(f"The image is empty, its shape is {shape}: give one with pixels.")


def is_color(opened: ImageSource, shape: tuple[int, ...], rgb: bool | None) -> bool:
    """Return whether the last axis holds colors: by the argument or the file, else by its length."""
    if rgb is not None or opened.axes is not None:
        return bool(rgb) if rgb is not None else opened.axes is not None and opened.axes.endswith("s")
    shortest = 4 if dtype_of(opened.levels[0]) == np.uint8 else 30
    return len(shape) > 2 and shape[-1] in (3, 4) and min(shape[-3:-1]) > shortest


def checked_channel_axis(
    opened: ImageSource, shape: tuple[int, ...], rgb: bool | None, channel_axis: int | None, *, has_channels: bool
) -> int | None:
    """Return the axis of colors or channels, counted from 0, or None.

    Parameters
    ----------
    opened
        The image.
    shape
        Of its finest level.
    rgb, channel_axis
        The caller's argument, or None.
    has_channels
        Whether the caller selects channels: a short last axis is then taken for them.

    Raises
    ------
    ImageError
        There is no such axis, or too few others.
    """
    axis = _channel_axis(opened, shape, rgb, channel_axis)
    if axis is None and has_channels and (ends_in_channels(shape) or is_short(shape)):
        axis = len(shape) - 1
    if axis is not None and len(shape) < 3:
        raise ImageError(f"An image with channels needs two more axes and this one has shape {shape}.")
    return axis


def _channel_axis(
    opened: ImageSource, shape: tuple[int, ...], rgb: bool | None, channel_axis: int | None
) -> int | None:
    if channel_axis is not None:
        try:
            axis = operator.index(channel_axis)
        except TypeError as error:
            raise ImageError(
                f"The channel axis {in_words(channel_axis)} is not a whole number: count axes from 0."
            ) from error
        if not -len(shape) <= axis < len(shape):
            raise ImageError(f"There is no axis {axis} in an image of shape {shape}: name another one.")
        return axis % len(shape)
    if rgb:
        if len(shape) < 3:
            raise ImageError(f"An RGB image needs a channel axis at the end and this one has shape {shape}.")
        return len(shape) - 1
    if rgb is None and opened.axes is not None:
        found = [axis for axis, letter in enumerate(opened.axes) if letter in "cs"]
        return found[-1] if found else None
    return len(shape) - 1 if is_color(opened, shape, rgb) else None


def ends_in_channels(shape: Sequence[int]) -> bool:
    """Return whether the last axis is far too short to be the columns of an image."""
    return len(shape) > 2 and shape[-1] <= MAX_UNNAMED_CHANNELS and min(shape[-3:-1]) >= MIN_SIDE


def check_plane_axes(shape: Sequence[int], axes: Sequence[Any], *, is_named: bool = True) -> None:
    """Refuse planes whose columns are an axis of channels that was not named.

    Parameters
    ----------
    shape
        Of the image, channels not counted.
    axes
        The row and the column axis of the planes.
    is_named
        Whether the caller says which plane is meant: then any axis but a very short one may be its columns.

    Raises
    ------
    ImageError
        The last axis of the image seems to hold channels, and the planes run along it.
    """
    last = len(shape) - 1
    if not any(isinstance(axis, int) and axis in (-1, last) for axis in axes):
        return
    if ends_in_channels(shape):
        raise ImageError(
            f"The last axis of an image of shape {tuple(shape)} seems to hold channels: say so with channel_axis=-1 in "
            "a script, or choose them with --channels 0 on the command line."
        )
    if not is_named and is_short(shape):
        raise ImageError(
            f"An image of shape {tuple(shape)} has many planes along its short last axis: if that holds channels, say "
            "so with channel_axis=-1 (--channels 0 on the command line); if it is the depth, give axes=(0, 1) and "
            "plane=0 in a script; else say which plane, for example plane=0 or --plane 0."
        )


def is_short(shape: Sequence[int]) -> bool:
    """Return whether the last axis is so much shorter than the two before it that it is rarely the columns."""
    return len(shape) > 2 and min(shape[-3:-1]) >= MIN_SIDE and shape[-1] * SHORT <= min(shape[-3:-1])


def checked_channels(channels: Sequence[int] | None, count: int, shown: Sequence[int], *, rgb: bool) -> tuple[int, ...]:
    """Return the selected channels.

    Parameters
    ----------
    channels
        The caller's argument, or None.
    count
        Number of channels.
    shown
        Default channels of the file, or empty.
    rgb
        Whether they are colors.

    Raises
    ------
    ImageError
        They are not numbers, more than three, empty, or do not exist.
    """
    if channels is None:
        return tuple(shown) or tuple(range(count if rgb else min(count, MAX_CHANNELS)))
    try:
        chosen = tuple(operator.index(channel) for channel in np.atleast_1d(np.asarray(channels, object)))
    except (TypeError, ValueError) as error:
        raise ImageError(
            f"Channels are named by whole numbers counted from 0, and {in_words(channels)} are none."
        ) from error
    if not 1 <= len(chosen) <= MAX_CHANNELS or not all(0 <= channel < count for channel in chosen):
        raise ImageError(
            f"Channels {in_words(chosen)} cannot be shown: name one to three of the image's {count} channels, counted "
            "from 0."
        )
    return chosen


def checked_spacing(
    spacing: Sequence[float] | None, opened: ImageSource, ndim: int, channel_axis: int | None
) -> tuple[float, ...]:
    """Return the size of a pixel along each axis, channels not counted.

    Raises
    ------
    ImageError
        The caller's sizes are not as many numbers above 0 as there are axes, or differ beyond reason.
    """
    count = ndim - (channel_axis is not None)
    if spacing is None:
        sizes = _spacing_of(opened, channel_axis)
        return sizes if sizes is not None and _is_reasonable(sizes, count) else (1.0,) * count
    try:
        sizes = tuple(float(size) for size in np.atleast_1d(np.asarray(spacing, np.float64)))
    except (TypeError, ValueError, OverflowError):
        sizes = ()
    if not _is_reasonable(sizes, count):
        raise ImageError(
            f"The spacing {in_words(spacing)} does not fit: give {count} numbers above 0, one for each axis, none "
            f"of them more than {MAX_ANISOTROPY:g} times another."
        )
    return sizes


def _spacing_of(opened: ImageSource, channel_axis: int | None) -> tuple[float, ...] | None:
    if opened.spacing is None or opened.axes is None:
        return None
    sizes = zip(opened.spacing, opened.axes, strict=True)
    # Time has no length: its steps say nothing of the shape of pixels.
    return tuple(
        1.0 if letter == "t" else abs(float(size)) for axis, (size, letter) in enumerate(sizes) if axis != channel_axis
    )


def _is_reasonable(sizes: Sequence[float], count: int) -> bool:
    is_complete = len(sizes) == count and all(math.isfinite(size) and size > 0 for size in sizes)
    return is_complete and max(sizes) <= MAX_ANISOTROPY * min(sizes)


def checked_nodata(nodata: Any) -> float:
    """Return the value of pixels without data.

    Raises
    ------
    ImageError
        It is not a number.
    """
    try:
        return float(nodata)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError(
            f"The nodata value {in_words(nodata)} is not a number: give the value of empty pixels, or leave it out."
        ) from error


def checked_gamma(gamma: Any, channels: int) -> float | tuple[float, ...]:
    """Return gamma as a number, or as one for each channel.

    Raises
    ------
    ImageError
        It is not a number above 0, or their number is not that of the channels.
    """
    try:
        powers = np.atleast_1d(np.asarray(gamma, np.float64))
    except (TypeError, ValueError, OverflowError):
        powers = np.zeros(1)
    is_valid = powers.ndim == 1 and len(powers) in (1, channels) and bool(np.isfinite(powers).all())
    if not is_valid or not (powers > 0).all():
        raise ImageError(f"Gamma must be above 0 and is {in_words(gamma)}: 1 leaves the image as it is.")
    return float(powers[0]) if len(powers) == 1 else tuple(float(power) for power in powers)


def checked_limits(limits: Sequence[Any], channels: int) -> tuple[tuple[float, float], ...]:
    """Return contrast limits as pairs: one for all channels, or one for each.

    Raises
    ------
    ImageError
        They are not two finite numbers in rising order.
    """
    try:
        pairs = np.atleast_2d(np.asarray(limits, np.float64))
    except (TypeError, ValueError, OverflowError):
        pairs = np.zeros((0, 0))
    if pairs.shape not in {(1, 2), (channels, 2)} or not np.isfinite(pairs).all() or (pairs[:, 0] >= pairs[:, 1]).any():
        raise ImageError(f"Contrast limits must be two numbers, low < high, and these are {in_words(limits)}.")
    return tuple((float(low), float(high)) for low, high in pairs)


def colors_from_hex(names: Sequence[str]) -> tuple[tuple[float, float, float], ...]:
    """Convert "RRGGBB", with or without a hash, to numbers; white for anything else."""
    found = []
    for name in names:
        digits = name.lstrip("#")[:6]
        try:
            red, green, blue = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
        except ValueError:
            red = green = blue = 1.0
        found.append((red, green, blue))
    return tuple(found)
