"""Boxes, planes of nD arrays, and the interpolation of pixels and logits.

Coordinates are (row, col) in level-0 data pixels. A *point* (r, c) names the center of pixel [r, c], as in numpy and
napari; a *box* is half-open and counts pixel edges, so the box (0, 0, 2, 2) holds the pixels 0 and 1 of each axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.arguments import index_of, shape_of, shown
from napari_sam.errors import ImageError

# Number of positions that are interpolated together.
BAND = 128


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open rectangle, (top, left) included and (bottom, right) excluded, in level-0 pixel edges."""

    top: float
    left: float
    bottom: float
    right: float

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> Box:
        """Return the box of a whole plane of `shape` (rows, cols)."""
        return cls(0, 0, shape[0], shape[1])

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def extent(self) -> float:
        """The longer side, in level-0 pixels."""
        return max(self.height, self.width)

    @property
    def is_empty(self) -> bool:
        return self.height <= 0 or self.width <= 0

    @property
    def center(self) -> tuple[float, float]:
        """The center (row, col), in pixel edges."""
        return (self.top + self.bottom) / 2, (self.left + self.right) / 2

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices of the pixels inside; meant for boxes with whole edges."""
        return slice(int(self.top), int(self.bottom)), slice(int(self.left), int(self.right))

    @property
    def pixel_shape(self) -> tuple[int, int]:
        return int(self.bottom) - int(self.top), int(self.right) - int(self.left)

    def as_tuple(self) -> tuple[float, float, float, float]:
        return self.top, self.left, self.bottom, self.right

    def contains(self, other: Box) -> bool:
        return (
            self.top <= other.top
            and self.left <= other.left
            and self.bottom >= other.bottom
            and self.right >= other.right
        )

    def contains_point(self, row: float, col: float) -> bool:
        """Return whether the pixel of the point (row, col) lies in the box."""
        return self.top <= row + 0.5 < self.bottom and self.left <= col + 0.5 < self.right

    def contains_points(self, points: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return of points of shape (n, 2), (row, col), whether the pixel of each lies in the box."""
        edges = points + 0.5
        inside = (edges >= (self.top, self.left)) & (edges < (self.bottom, self.right))
        return np.asarray(inside.all(axis=1), bool)

    def intersection(self, other: Box) -> Box:
        """Return the intersection; it is empty, possibly with negative sides, if the boxes do not overlap."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def union(self, other: Box) -> Box:
        """Return the smallest box that contains both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def grown(self, margin: float) -> Box:
        """Return the box extended by `margin` on every side."""
        return Box(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin)

    def moved(self, rows: float, cols: float) -> Box:
        """Return the box shifted by a number of rows and columns."""
        return Box(self.top + rows, self.left + cols, self.bottom + rows, self.right + cols)

    def rounded_out(self) -> Box:
        """Return the smallest box with integer edges that contains this one."""
        return Box(math.floor(self.top), math.floor(self.left), math.ceil(self.bottom), math.ceil(self.right))


@dataclass(frozen=True, slots=True)
class Plane:
    """One 2-D plane of an nD array: its row and column axes, and its position along the other axes.

    Parameters
    ----------
    axes
        The array axes of the plane's rows and columns, in that order; the row axis may come after the column axis.
    index
        One entry for each axis of the array; the entries of the two plane axes are 0 and mean nothing.
    """

    axes: tuple[int, int]
    index: tuple[int, ...]

    @classmethod
    def of(
        cls, shape: Sequence[int], index: Plane | int | Sequence[int] | None = None, axes: Sequence[int] = (-2, -1)
    ) -> Plane:
        """Return the plane of an array of `shape` at the position `index` along its other axes.

        Parameters
        ----------
        shape
            The array's shape without a channel axis, in pixels.
        index
            A position for each axis that is not in `axes`, in axis order, or a plane of an array of this shape. May be
            left out where these axes have length one. Negative positions count from the end.
        axes
            The row axis and the column axis.

        Raises
        ------
        ImageError
            The array has fewer than two axes, or `index` does not name one plane of it.
        """
        shape = shape_of(shape, "The shape of the image", ImageError)
        ndim = len(shape)
        if ndim < 2:
            raise ImageError(
                f"An image needs at least two axes and this one has shape {tuple(shape)}: give a 2-D array."
            )
        if isinstance(index, Plane):
            return index.checked(shape)
        row, col = plane_axes(axes, shape)
        others = [axis for axis in range(ndim) if axis not in (row, col)]
        if index is None and all(shape[axis] == 1 for axis in others):
            index = (0,) * len(others)
        if index is None:
            numbers = [str(shape[axis] // 2) for axis in others]
            as_tuple = f"({', '.join(numbers)}{',' * (len(numbers) == 1)})"
            raise ImageError(
                f"An image of shape {tuple(shape)} has many planes: say which one by {len(numbers)} number(s), "
                f"for example plane={as_tuple} in a script or --plane {','.join(numbers)} on the command line."
            )
        given = _positions(index)
        if len(given) != len(others):
            raise ImageError(
                f"An image of shape {tuple(shape)} needs {len(others)} plane number(s) and {len(given)} came: "
                f"{shown(tuple(given))}."
            )
        full = [0] * ndim
        for axis, position in zip(others, given, strict=True):
            if not -shape[axis] <= position < shape[axis]:
                raise ImageError(
                    f"Plane {shown(position)} does not exist: axis {axis} of the image has the planes 0 to "
                    f"{shape[axis] - 1}."
                )
            full[axis] = int(position) % shape[axis]
        return cls((row, col), tuple(full))

    @property
    def position(self) -> tuple[int, ...]:
        """Position along each axis that is not one of the plane's own, in axis order, as `of` takes it."""
        return tuple(at for axis, at in enumerate(self.index) if axis not in self.axes)

    def checked(self, shape: Sequence[int]) -> Plane:
        """Return this plane if it is one of an array of `shape`.

        Raises
        ------
        ImageError
            It is not.
        """
        row, col = plane_axes(self.axes, shape)
        given = _positions(self.index)
        fits = len(given) == len(shape) and all(
            0 <= at < length or axis in (row, col) for axis, (at, length) in enumerate(zip(given, shape, strict=True))
        )
        if not fits:
            raise ImageError(
                f"{shown(self)} is not a plane of an image of shape {tuple(shape)}: give one of this image."
            )
        return self

    def shape_in(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return (rows, cols) of this plane in an array of `shape`."""
        return shape[self.axes[0]], shape[self.axes[1]]

    def slicer(self, box: Box) -> tuple[int | slice, ...]:
        """Return the index of `box` in the whole array; apply `oriented` to the result."""
        rows, cols = box.slices
        where: list[int | slice] = list(self.index)
        where[self.axes[0]] = rows
        where[self.axes[1]] = cols
        return tuple(where)

    def oriented(self, block: NDArray[Any]) -> NDArray[Any]:
        """Transpose a block that `slicer` read, or one to be written, so that its first two axes are (row, col)."""
        return block if self.axes[0] < self.axes[1] else block.swapaxes(0, 1)


def plane_axes(axes: Any, shape: Sequence[int]) -> tuple[int, int]:
    """Return the row axis and the column axis, counted from 0."""
    ndim = len(shape)
    numbers = _positions(axes)
    found = [axis + ndim if axis < 0 else axis for axis in numbers]
    if len(found) != 2 or found[0] == found[1] or not all(0 <= axis < ndim for axis in found):
        raise ImageError(f"The axes {shown(axes)} are not two different axes of an array of shape {tuple(shape)}.")
    return found[0], found[1]


def _positions(index: Any) -> list[int]:
    """Return whole numbers, given one by one or as a sequence, array or tensor."""
    is_row = isinstance(index, Sequence) and not isinstance(index, (str, bytes))
    values = list(index) if is_row or getattr(index, "ndim", 0) == 1 else [index]
    found = [index_of(value) for value in values]
    if any(value is None for value in found):
        raise ImageError(f"Planes and axes are named by whole numbers, and {shown(index)} is none: correct it.")
    return [value for value in found if value is not None]


def interpolation_matrix(source_length: int, positions: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the matrix that interpolates linearly between samples at pixel centers.

    Parameters
    ----------
    source_length
        The number of samples; sample i stands at i + 0.5.
    positions
        Shape (n,): where to evaluate, in the same unit. Positions beyond the outermost centers take their value.

    Returns
    -------
    numpy.ndarray
        Shape (n, source_length), float32; each row sums to one.
    """
    low, high, weight = _neighbours(source_length, positions)
    matrix = np.zeros((len(positions), source_length), np.float32)
    rows = np.arange(len(positions))
    matrix[rows, low] = 1 - weight
    matrix[rows, high] += weight
    return matrix


def _neighbours(
    source_length: int, positions: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the samples before and after each position, and the share of the latter."""
    at = np.clip(positions - 0.5, 0, source_length - 1)
    low = np.minimum(np.floor(at).astype(np.intp), max(source_length - 2, 0))
    return low, np.minimum(low + 1, source_length - 1), (at - low).astype(np.float32)


def interpolated(
    samples: NDArray[np.float32], rows: NDArray[np.floating[Any]], cols: NDArray[np.floating[Any]]
) -> NDArray[np.float32]:
    """Interpolate an image bilinearly at the crossings of rows and columns.

    Parameters
    ----------
    samples
        Shape (r, c), float32; sample i of an axis stands at i + 0.5.
    rows, cols
        Shapes (n,) and (m,), ascending: where to evaluate, in the same unit. Positions beyond the outermost centers
        take their value.

    Returns
    -------
    numpy.ndarray
        Shape (n, m), float32.
    """
    out = np.empty((len(rows), len(cols)), np.float32)
    for part, values in _bands(samples, rows, cols):
        out[part] = values
    return out


def positive(
    samples: NDArray[np.float32], rows: NDArray[np.floating[Any]], cols: NDArray[np.floating[Any]]
) -> NDArray[np.bool_]:
    """Return where an interpolated image is above 0, without storing its values; see `interpolated`."""
    out = np.empty((len(rows), len(cols)), np.bool_)
    for part, values in _bands(samples, rows, cols):
        np.greater(values, 0, out=out[part])
    return out


def _bands(
    samples: NDArray[np.float32], rows: NDArray[np.floating[Any]], cols: NDArray[np.floating[Any]]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield an interpolated image in bands of rows that stay in the processor's cache.

    By the two neighbours of each position and not as products with matrices, whose library keeps a second thread
    waiting busily for the next product: that costs more than the products.
    """
    wide = np.ascontiguousarray(_between(np.ascontiguousarray(samples.T), cols).T)
    for first in range(0, len(rows), BAND):
        part = slice(first, first + BAND)
        yield part, _between(wide, rows[part])


def _between(samples: NDArray[np.float32], positions: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Interpolate linearly along the first axis."""
    low, high, weight = _neighbours(len(samples), positions)
    out = np.take(samples, low, axis=0)
    out *= (1 - weight)[:, None]
    other = np.take(samples, high, axis=0)
    other *= weight[:, None]
    out += other
    return out


def overlap_matrix(
    centers: NDArray[np.floating[Any]], length: float, start: float, count: int, size: float = 1.0
) -> NDArray[np.float32]:
    """Return the share of each target interval that every source cell covers.

    Parameters
    ----------
    centers
        Shape (n,): the middles of the target intervals.
    length
        Their length, in the same unit.
    start, count, size
        Where the source cells begin, how many there are, and how long each is.

    Returns
    -------
    numpy.ndarray
        Shape (n, count), float32; a row sums to one where the source covers all of its interval.
    """
    cells = shared_lengths(centers - length / 2, centers + length / 2, count, start, size)
    return np.asarray(cells / length, np.float32)


def shared_lengths(
    low: NDArray[np.floating[Any]],
    high: NDArray[np.floating[Any]],
    count: int,
    start: float = 0.0,
    size: float = 1.0,
) -> NDArray[np.float64]:
    """Return the length that each interval shares with each of a row of cells.

    Parameters
    ----------
    low, high
        Shape (n,): ends of the intervals.
    count, start, size
        Number of cells, start of the first one, and length of each, in the same unit.

    Returns
    -------
    numpy.ndarray
        Shape (n, count), float64.
    """
    cell = start + size * np.arange(count)[None]
    shared = np.minimum(high[:, None], cell + size) - np.maximum(low[:, None], cell)
    return np.asarray(np.clip(shared, 0, None), np.float64)
