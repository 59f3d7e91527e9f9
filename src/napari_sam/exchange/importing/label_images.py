"""Read objects from label images of any format that is read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import ImageError, PromptError
from napari_sam.exchange.importing.imported_object import ImportedObject
from napari_sam.images.lazy.whole_numbers import as_whole_numbers
from napari_sam.images.opening import open_image

# The table of boxes by label has a row for each number up to the highest.
MAX_TABLE = 2**22


def read_label_image(path: Path | str, shape: Sequence[int], axes: tuple[int, int]) -> list[ImportedObject]:
    """Return the objects of a label image of the shape of an image, or of one of its planes.

    Parameters
    ----------
    path
        The label image, 0 where there is no object.
    shape
        Of the image, without its channel axis.
    axes
        Row and column axis of its planes.

    Raises
    ------
    PromptError
        It is no image of whole numbers, or of another shape.
    """
    try:
        return _objects_in(as_whole_numbers(open_image(path, as_labels=True).levels[0], path), path, shape, axes)
    except ImageError as error:
        raise PromptError(str(error)) from error


def _objects_in(array: Any, path: Path | str, shape: Sequence[int], axes: tuple[int, int]) -> list[ImportedObject]:
    if np.dtype(array.dtype).kind not in "bui":
        raise PromptError(f"{path} holds numbers of the type {array.dtype}, and labels are whole numbers: convert it.")
    found_shape, sides = tuple(int(length) for length in array.shape), tuple(shape[axis] for axis in axes)
    if found_shape == tuple(shape):
        planes = [Plane.of(shape, index, axes) for index in product(*_others(shape, axes))]
        return [
            one
            for plane in planes
            for one in _objects_of(plane.oriented(_read(array, plane.slicer(Box.of_shape(sides)))), plane.position)
        ]
    if found_shape == sides:
        return _objects_of(_read(array, (slice(None), slice(None))), None)
    raise PromptError(
        f"{path} has the shape {' x '.join(map(str, found_shape))} and the image {' x '.join(map(str, shape))}: give "
        "labels of the image or of one of its planes."
    )


def _others(shape: Sequence[int], axes: tuple[int, int]) -> list[range]:
    return [range(length) for axis, length in enumerate(shape) if axis not in axes]


def _read(array: Any, key: tuple[Any, ...]) -> NDArray[Any]:
    return np.asarray(array[key])


def _objects_of(labels: NDArray[Any], index: tuple[int, ...] | None) -> list[ImportedObject]:
    numbers = np.asarray([], labels.dtype)
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        labels = np.where(labels < 0, 0, labels)
    dense: NDArray[Any] = labels.astype(np.uint8) if labels.dtype.kind == "b" else labels
    if dense.size and int(dense.max()) > MAX_TABLE:
        numbers, dense = np.unique(dense, return_inverse=True)
        dense = dense.reshape(labels.shape)
        if numbers[0] != 0:  # Every pixel has a label.
            numbers, dense = np.concatenate([[0], numbers]), dense + 1
    found = []
    for number, slices in enumerate(find_objects(dense.astype(np.int64, copy=False)), 1):
        if slices is None:
            continue
        rows, cols = slices
        mask = Mask(Box(rows.start, cols.start, rows.stop, cols.stop), dense[slices] == number)
        found.append(ImportedObject(mask, int(numbers[number]) if len(numbers) else number, index=index))
    return found
