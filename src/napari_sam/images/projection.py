"""Projection: several planes of a volume combined into one, as thick slices in viewers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError

Mode = Literal["none", "sum", "mean", "max", "min"]
# Planes are read and projected in parts of about this size, so that memory does not grow with the thickness.
PART_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Projection:
    """A thick slice: the planes on either side of the current one, and how they are combined.

    Parameters
    ----------
    modes
        "none" (the plane alone), "sum", "mean", "max" or "min": one for all channels, or one for each.
    before, after
        How far the slice reaches along each axis of the volume, in level-0 pixels from the middle of the plane;
        the axes of the plane itself do not count.

    Raises
    ------
    ImageError
        There is no such mode.
    """

    modes: tuple[Mode, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]

    def __post_init__(self) -> None:
        unknown = [mode for mode in self.modes if mode not in get_args(Mode)]
        if unknown:
            raise ImageError(f"There is no projection {unknown[0]!r}: use {', '.join(get_args(Mode))}.")

    def span(self, axis: int, at: int, length: int) -> range:
        """Return the planes of the thick slice around the plane `at` of an axis of `length`."""
        return slab_planes(at, self.before[axis], self.after[axis], length)


def slab_planes(at: float, before: float, after: float, length: int) -> range:
    """Return the planes of a thick slice along an axis, at least one.

    Rounded as napari does, half to even, so that the same planes are seen.

    Parameters
    ----------
    at
        Position of the middle of the slice, in pixels.
    before, after
        How far it reaches, in pixels.
    length
        Number of planes.
    """
    low, high = round(at - before), round(at + after)
    start = min(max(low, 0), length - 1)
    stop = max(high, 0) + bool(np.isclose(max(high, 0), at + after))
    return range(start, min(max(stop, start + 1), length))


def project(
    read: Callable[[range], NDArray[Any]], planes: range, modes: Sequence[Mode], middle: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Combine planes into one, reading some of them at a time.

    Parameters
    ----------
    read
        Returns some of the planes, shape (n, ...); the last axis holds the channels where there are several modes.
    planes
        Which ones; what `read` returns may hold several for each.
    modes
        One for all, or one for each channel.
    middle
        The plane in view, for channels whose mode is "none".

    Returns
    -------
    numpy.ndarray
        Of the planes' type for "max" and "min", of a wider one for "sum", and of floats for "mean".
    """
    first = read(planes[:1])
    step = max(1, PART_BYTES // max(first.nbytes, 1))
    channels: list[Any] = [...] if len(modes) == 1 else [(..., number) for number in range(len(modes))]
    found = [_reduced(first[at], mode) for at, mode in zip(channels, modes, strict=True)]
    count = len(first)
    for start in range(1, len(planes), step):
        block = read(planes[start : start + step])
        count += len(block)
        for number, (at, mode) in enumerate(zip(channels, modes, strict=True)):
            found[number] = _UFUNCS[mode](found[number], _reduced(block[at], mode))
    if count == 1:
        return np.asarray(first[0])
    for number, (at, mode) in enumerate(zip(channels, modes, strict=True)):
        if mode == "mean":
            found[number] = found[number] / count
        elif mode == "none" and middle is not None:
            found[number] = middle[at]
    return np.asarray(found[0]) if len(modes) == 1 else np.stack(found, axis=-1)


_UFUNCS: dict[Mode, np.ufunc] = {
    "none": np.maximum,
    "sum": np.add,
    "mean": np.add,
    "max": np.maximum,
    "min": np.minimum,
}


def _reduced(block: NDArray[Any], mode: Mode) -> NDArray[Any]:
    """Reduce the planes of a block, shape (n, ...), to one."""
    kind = np.float64 if mode == "mean" else None
    return np.asarray(_UFUNCS[mode].reduce(block, axis=0, dtype=_wide(block.dtype, mode) or kind))


def _wide(dtype: np.dtype[Any], mode: Mode) -> Any:
    """Return the type of sums, as in numpy, or None for that of the operation."""
    if mode != "sum":
        return None
    return {"b": np.int64, "i": np.int64, "u": np.uint64}.get(dtype.kind)
