"""Label images as zarr on disk: created, recognized and opened for writing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.arguments import numbers, path_argument, shape_of, shown
from napari_sam.errors import LabelsError
from napari_sam.labels.storage.multiscales import Multiscale, make_label_image, open_label_image


def create_labels(
    path: Any,
    shape: Any,
    *,
    axes: Any,
    spacing: Any,
    translation: Any,
    unit: Any,
    chunks: Any,
    dtype: Any,
    name: Any,
    source: Any,
    time_unit: Any,
    attributes: Mapping[str, Any],
) -> Path:
    """Create an empty label image and return its folder; see `LabelPyramid.create`.

    Raises
    ------
    LabelsError
        The path exists or cannot be made, or an argument is wrong; nothing is left behind.
    """
    folder = labels_path(path)
    make_label_image(
        folder,
        label_shape(shape),
        label_axes(axes),
        label_numbers(spacing, "spacing"),
        label_numbers(translation, "translation"),
        label_text(unit, "unit"),
        label_chunks(chunks),
        label_dtype(dtype),
        label_text(name, "name"),
        label_text(source, "source"),
        attributes,
        label_text(time_unit, "unit of time"),
    )
    return folder


def existing_path(path: Any) -> Path:
    """Return the path of labels on disk.

    Raises
    ------
    LabelsError
        There is nothing.
    """
    folder = labels_path(path)
    with suppress(OSError):
        if folder.exists():
            return folder
    raise LabelsError(f"There are no labels at {folder}: check the path, or make them with LabelPyramid.create.")


def open_for_writing(path: Path) -> Multiscale:
    """Open a label image, or a single array.

    Raises
    ------
    LabelsError
        It is none, or read-only.
    """
    multiscale = open_label_image(path)
    if not all(os.access(place, os.W_OK) for place in (path, *(path / name for name in multiscale.names))):
        raise LabelsError(f"{path} cannot be written to: change its permissions, or copy it to where you may write.")
    return multiscale


def is_label_image(path: str | Path) -> bool:
    """Say whether a folder says of itself that it is an OME-Zarr label image."""
    import zarr

    with suppress(Exception):
        attributes = dict(zarr.open_group(path, mode="r").attrs)
        ome = attributes.get("ome", attributes)
        return isinstance(ome, dict) and "image-label" in ome
    return False


def labels_path(path: Any) -> Path:
    """Return the path of labels on disk.

    Raises
    ------
    LabelsError
        It is no path, or holds a NUL character or a name that is too long.
    """
    return path_argument(path, "The path of the labels", LabelsError)


def label_shape(shape: Any) -> tuple[int, ...]:
    """Return the lengths of the axes of labels.

    Raises
    ------
    LabelsError
        They are no whole numbers.
    """
    return shape_of(shape, "The shape of the labels", LabelsError)


def label_chunks(chunks: Any) -> tuple[int, ...] | None:
    """Return the lengths of chunks, or None.

    Raises
    ------
    LabelsError
        They are no whole numbers.
    """
    return None if chunks is None else shape_of(chunks, "The chunks", LabelsError)


def label_axes(axes: Any) -> str | list[str] | None:
    """Return the names of axes.

    Raises
    ------
    LabelsError
        They are neither text nor a list of texts.
    """
    if axes is None or isinstance(axes, str):
        return axes
    if not isinstance(axes, (list, tuple)) or not all(isinstance(letter, str) for letter in axes):
        raise LabelsError(f'The axes must be letters such as "zyx" and are {shown(axes)}: correct them.')
    return list(axes)


def label_numbers(values: Any, what: str) -> list[float] | None:
    """Return the spacing or translation, one number for each axis, or None.

    Raises
    ------
    LabelsError
        They are no finite numbers.
    """
    if values is None:
        return None
    refusal = LabelsError(f"The {what} {shown(values)} is not one number for each axis: correct it.")
    try:
        found = numbers(values, "They", "one for each axis", LabelsError)
    except LabelsError as error:
        raise refusal from error
    if found.ndim != 1 or not np.isfinite(found).all():
        raise refusal
    return [float(value) for value in found]


def label_text(value: Any, what: str) -> str | None:
    """Return a name or unit, or None.

    Raises
    ------
    LabelsError
        It is no text.
    """
    if not (value is None or isinstance(value, str)):
        raise LabelsError(f"The {what} of labels must be text and is {shown(value)}: correct it.")
    return value


def label_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the type of labels.

    Raises
    ------
    LabelsError
        numpy knows no such type.
    """
    try:
        if dtype is None or isinstance(dtype, bool):
            raise TypeError("no type")
        found: np.dtype[Any] = np.dtype(dtype)
    except Exception as error:  # An object that is asked for its `dtype` may raise anything.
        raise LabelsError(f"Labels cannot have the type {shown(dtype)}: use a whole-number type.") from error
    return found
