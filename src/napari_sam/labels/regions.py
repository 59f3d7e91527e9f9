"""Regions: boxes of arrays with any number of axes, and the labels in them."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.arguments import index_of, path_argument, shown
from napari_sam.errors import ImageError, LabelsError, one_line
from napari_sam.files.publishing import url_of
from napari_sam.images.lazy.levels import dtype_of

Region = tuple[slice, ...]
"""A box of an array of any number of axes: one slice for each, with a start, a stop and step 1."""

READ_LENGTH = 2**24


class WritableArray(Protocol):
    """An array of labels: numpy, zarr, tensorstore, or a `LabelPyramid`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...

    def __setitem__(self, key: Any, value: Any, /) -> None: ...


def region_of(key: Any, shape: Sequence[int]) -> tuple[Region, list[bool]]:
    """Return the region that an index names, and for each axis whether the result keeps it.

    Parameters
    ----------
    key
        A whole number or a slice of step 1 for each axis, as in numpy; `...` stands for those left out.
    shape
        Of the array.

    Raises
    ------
    LabelsError
        It is another kind of index, or outside the array.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    left_out = len(shape) - sum(part is not ... for part in parts)
    at = next((number for number, part in enumerate(parts) if part is ...), len(parts))
    parts[at : at + 1] = [slice(None)] * left_out
    refusal = LabelsError(
        f"{key!r} names no box of labels of shape {tuple(shape)}: give one whole number inside, or one slice of step "
        "1, for each axis."
    )
    region = []
    if len(parts) != len(shape):
        raise refusal
    for part, length in zip(parts, shape, strict=True):
        try:
            start, stop, step = (part if isinstance(part, slice) else _single(part, length)).indices(length)
        except (TypeError, IndexError) as error:
            raise refusal from error
        if step != 1:
            raise refusal
        region.append(slice(start, max(start, stop)))
    return tuple(region), [isinstance(part, slice) for part in parts]


def intersection(a: Region, b: Region) -> Region:
    """Return the common part of two regions; where they do not meet, some stop is not above its start."""
    return tuple(slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def relative(region: Region, whole: Region) -> Region:
    """Return where a region lies in the block that was read of `whole`."""
    return tuple(slice(x.start - y.start, x.stop - y.start) for x, y in zip(region, whole, strict=True))


def fitting(values: Any, region: Region, kept: Sequence[bool], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values as a block of a region, in the labels' type; it may share its memory with them."""
    block = np.asarray(values)
    if block.dtype.kind != "b":
        check_whole(block.dtype)
    lengths = [at.stop - at.start for at in region]
    wanted = tuple(length for length, keep in zip(lengths, kept, strict=True) if keep)
    try:
        block = np.broadcast_to(block, wanted)
    except ValueError as error:
        raise LabelsError(
            f"Values of shape {block.shape} do not fill a box of shape {wanted}: make them equal."
        ) from error
    limits = np.iinfo(dtype)
    if block.size and not limits.min <= int(block.min()) <= int(block.max()) <= limits.max:
        raise LabelsError(
            f"Values from {block.min()} to {block.max()} do not fit into {dtype} labels: use labels of a larger type."
        )
    return block.reshape(lengths).astype(dtype, copy=False)


def check_whole(dtype: np.dtype[Any]) -> None:
    """Refuse a type that is not an integer type.

    Raises
    ------
    LabelsError
        It is neither signed nor unsigned.
    """
    if dtype.kind not in "ui":
        raise LabelsError(
            f"Labels must be whole numbers and this target holds {dtype}: convert it, for example by .astype('uint16')."
        )


def wider(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the 32-bit type of 8- or 16-bit labels.

    Raises
    ------
    LabelsError
        The labels have 32 bits or more already.
    """
    if dtype.itemsize >= 4:
        raise LabelsError(f"Labels of {dtype} are as wide as labels get: write into new ones, or under labels in use.")
    return np.dtype(np.uint32 if dtype.kind == "u" else np.int32)


def end_of(dtype: np.dtype[Any]) -> int:
    """Return the highest number of an integer type."""
    return int(np.iinfo(dtype).max)


def highest_in(values: NDArray[Any], *, with_end: bool) -> int:
    """Return the highest label of some pixels, 0 where there is none; with or without the end of their type."""
    highest = max(int(values.max(initial=0)), 0)
    if with_end or highest < end_of(values.dtype):
        return highest
    return max(int(values[values != highest].max(initial=0)), 0)


def _single(position: Any, length: int) -> slice:
    at = operator.index(position)
    if not -length <= at < length:
        raise IndexError
    return slice(at % length, at % length + 1)


def blocks(array: WritableArray) -> Iterator[tuple[slice, ...]]:
    """Yield regions that cover an array, each small enough for memory and of whole chunks where the array has any."""
    chunks = getattr(array, "chunks", None) or ()
    sides = list(chunks) if all(isinstance(side, int) for side in chunks) and chunks else [1] * len(array.shape)
    for axis in reversed(range(len(sides))):
        times = max(READ_LENGTH // math.prod(sides), 1)
        sides[axis] = max(min(array.shape[axis], times * sides[axis]), 1)
    starts = (range(0, length, side) for length, side in zip(array.shape, sides, strict=True))
    for corner in product(*starts):
        yield tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))


def loaded(array: WritableArray, key: tuple[int | slice, ...]) -> NDArray[Any]:
    """Return a copy of a region of any kind of array.

    Raises
    ------
    LabelsError
        It cannot be read.
    """
    try:
        return np.array(array[key])
    except LabelsError:
        raise
    except ImageError as error:  # Its sentence says what to do.
        raise LabelsError(str(error)) from error
    except Exception as error:
        raise LabelsError(
            f"The labels cannot be read ({one_line(error)}): check that their file or store is complete and open."
        ) from error


def can_widen(array: Any) -> bool:
    """Return whether labels can be given more bits: in memory, or in a label pyramid; up to 32."""
    own = getattr(array, "can_widen", None)
    if own is not None:
        return bool(own)
    return isinstance(array, np.ndarray) and not isinstance(array, np.memmap) and array.dtype.itemsize < 4


def is_used(array: WritableArray, label: int) -> bool:
    """Return whether any pixel has a label; the whole array is searched, block by block.

    Raises
    ------
    LabelsError
        It cannot be read.
    """
    return any(bool((loaded(array, block) == label).any()) for block in blocks(array))


def free_numbers(array: WritableArray) -> Iterator[int]:
    """Yield the numbers from 1 to the end of the type that no pixel has; the array is searched once, block by block.

    Raises
    ------
    LabelsError
        The array cannot be read.
    """
    used: set[int] = set()
    for block in blocks(array):
        used.update(np.unique(loaded(array, block)).tolist())
    yield from (number for number in range(1, end_of(dtype_of(array)) + 1) if number not in used)


def checked_labels(labels: Any) -> WritableArray | Path | None:
    """Return labels as an array that can be written to, or the path of one.

    A torch tensor in the computer's memory becomes a numpy array that shares its memory.

    Raises
    ------
    LabelsError
        They are no array, have masked values, or the path cannot be one.
    """
    if labels is None:
        return None
    if isinstance(labels, (str, Path)):
        if url_of(labels) is not None:
            raise LabelsError(
                f"{labels} is a URL, and labels are changed on disk only: name a folder, and copy it by "
                "napari_sam.files.publishing.publish when it is finished."
            )
        return path_argument(labels, "The path of the labels", LabelsError)
    if hasattr(labels, "detach") and hasattr(labels, "cpu"):
        if labels.device.type != "cpu":
            raise LabelsError(f"The labels are a tensor on {labels.device}: pass labels.cpu().")
        try:
            labels = labels.detach().numpy()
        except (TypeError, RuntimeError) as error:
            raise LabelsError(
                f"The labels are a tensor that numpy cannot share ({shown(labels.dtype)}): pass a numpy array."
            ) from error
    if isinstance(labels, np.ma.MaskedArray):
        raise LabelsError("The labels are a masked array, whose mask cannot be kept: pass labels.filled(0).")
    is_array = all(hasattr(labels, name) for name in ("shape", "dtype", "__getitem__", "__setitem__"))
    if not is_array or hasattr(labels, "iloc"):
        raise LabelsError(f"Labels must be a numpy or zarr array and are a {type(labels).__name__}: convert them.")
    array: WritableArray = labels
    return array


def label_number(value: Any) -> int:
    """Return a label as a whole number.

    Raises
    ------
    LabelsError
        It is no whole number, or does not fit 64 bits.
    """
    label = index_of(value)
    if label is None or abs(label) > np.iinfo(np.int64).max:
        raise LabelsError(f"A label must be a whole number from 1 on and is {shown(value)}: correct it.")
    return label


def check_same_shape(labels: WritableArray, shape: tuple[int, ...]) -> None:
    """Refuse labels of another shape than the image's.

    Raises
    ------
    LabelsError
        The shapes differ.
    """
    if tuple(labels.shape) != shape:
        raise LabelsError(f"The labels have shape {tuple(labels.shape)} and the image {shape}: make them equal.")
