"""Read arrays and pyramids of N5 stores with z5py, in parts."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, first_line
from napari_sam.images.axes.attributes import grid_in, names_in
from napari_sam.images.axes.letters import named_axes
from napari_sam.images.files.folders import N5_FILE
from napari_sam.images.files.inner_names import several_arrays
from napari_sam.images.lazy.read_in_parts import ReadInParts
from napari_sam.images.source import ImageSource, calibrated, checked

MAX_FOLDERS = 20000
MAX_ATTRIBUTES_BYTES = 2**24
MAX_LENGTH = 2**48
TYPES = (*(f"{kind}{8 * size}" for kind in ("uint", "int") for size in (1, 2, 4, 8)), "float32", "float64")
# The levels of a pyramid are the arrays s0, s1 ... of a group.
FINEST = "s0"
# What attributes of an N5 array count along x, y and z; all but those of COSEM, below "transform".
REVERSED = ("axes", "resolution", "pixelResolution", "scale", "spacing", "translation", "translate", "offset", "units")
AXES = {2: "yx", 3: "zyx"}


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the metadata of an array say, with its axes backwards: planes, rows and columns."""

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    attributes: Mapping[str, Any]


def open_n5(path: Path, name: str | None = None) -> ImageSource:
    """Open an array of an N5 store, or the levels s0, s1 ... of one image.

    The axes of the arrays are those of the file backwards: planes, rows and columns.

    Parameters
    ----------
    path
        The folder of the store, or of a group or an array in it.
    name
        Path of the array or of the group of levels in the store; None for the only one.

    Raises
    ------
    ImageError
        There is no such array, there are several, or their metadata are damaged.
    """
    where = path if name is None else f"{path}:/{name}"
    parts = [part for part in (name or "").split("/") if part and part != "."]
    if ".." in parts:
        raise ImageError(f"{where} leads out of the store: name an array in it.")
    group = path.joinpath(*parts)
    folders = _levels_at(group) or (_only_image(path, group) if name is None else [])
    if not folders:
        found = _images_in(group if group.is_dir() else path)
        there = f"name one that is there, such as {', '.join(_name(path, each) for each in found[:3])}"
        raise ImageError(f"{path} holds no array {name}: {there if found else 'it has none'}.")
    levels = [_stored(folder) for folder in folders]
    attributes = levels[0].attributes
    if folders[0].name == FINEST:
        attributes = {**_attributes(folders[0].parent), **attributes}
    return checked(_described([_array(level) for level in levels], levels, attributes), where)


def _levels_at(folder: Path) -> list[Path]:
    """Return the folder of an array, or those of the levels in a group; none where there are neither."""
    if "dimensions" in _attributes(folder):
        return [folder]
    names = [FINEST]
    while "dimensions" in _attributes(folder / names[-1]):
        names.append(f"s{len(names)}")
    return [folder / name for name in names[:-1]]


def _images_in(group: Path) -> list[list[Path]]:
    """Return the arrays and pyramids of a group, each as the folders of its levels."""
    found = []
    for folder, inner, _ in itertools.islice(os.walk(group), MAX_FOLDERS):
        levels = _levels_at(Path(folder))
        if levels:
            inner.clear()  # Folders of chunks, of which there may be millions.
            if len(_stored(levels[0]).shape) > 1:
                found.append(levels)
        inner.sort()
    return found


def _only_image(path: Path, group: Path) -> list[Path]:
    """Return the folders of the only image of a store; raise an error that lists them where there are several."""
    found = _images_in(group)
    if not found:
        raise ImageError(f"{path} is an N5 store without arrays of pixels: give another one.")
    if len(found) > 1:
        raise several_arrays(path, [(_name(path, levels), _stored(levels[0])) for levels in found])
    return found[0]


def _name(path: Path, levels: list[Path]) -> str:
    inner = levels[0].relative_to(path)
    return f"/{(inner.parent if inner.name == FINEST else inner).as_posix()}"


def _attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group or an array; none where it has no file of them."""
    path = folder / N5_FILE
    try:
        if path.stat().st_size > MAX_ATTRIBUTES_BYTES:
            raise ImageError(f"{path} is too large for a description of an array: export it again.")
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{path} is damaged ({first_line(error)}): copy the store again.") from error
    return found if isinstance(found, dict) else {}


def _stored(folder: Path) -> _Stored:
    """Return the metadata of an array; the library ends the process for some that are damaged."""
    attributes = _attributes(folder)
    shape, chunks = (_lengths(attributes.get(key)) for key in ("dimensions", "blockSize"))
    kind = attributes.get("dataType")
    if shape is None or chunks is None or len(shape) != len(chunks):
        raise ImageError(f"{folder} has damaged metadata: copy the store again.")
    if kind not in TYPES:
        raise ImageError(f"{folder} has the unsupported pixel type {str(kind)[:40]}: export it as numbers.")
    return _Stored(folder, shape, np.dtype(str(kind)), chunks, attributes)


def _lengths(given: Any) -> tuple[int, ...] | None:
    """Return lengths along the axes, backwards; None where they are none."""
    is_list = isinstance(given, list) and given
    if not is_list or not all(type(each) is int and 0 < each < MAX_LENGTH for each in given):
        return None
    return tuple(reversed(given))


def _array(level: _Stored) -> ReadInParts:
    """Return an array that is read by z5py when it is sliced."""
    import z5py

    class Store(z5py.N5File):  # type: ignore[misc]
        def _check_version(self) -> None:
            """Take any folder for a store: many writers leave out the version, or put it into a folder above."""

    try:
        dataset = Store(str(level.folder.parent), "r")[level.folder.name]
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise ImageError(f"{level.folder} cannot be read ({first_line(error)}): copy the store again.") from error

    def read(parts: tuple[slice, ...]) -> NDArray[Any]:
        try:
            return np.asarray(dataset[parts])
        except (RuntimeError, ValueError, OSError) as error:
            raise ImageError(f"{level.folder} has a damaged block ({first_line(error)}): copy it again.") from error

    return ReadInParts(level.shape, level.dtype, level.chunks, read)


def _described(arrays: list[ReadInParts], levels: list[_Stored], attributes: Mapping[str, Any]) -> ImageSource:
    """Return the image with its axes, steps, origin and units, and the factors of its levels."""
    ndim = len(levels[0].shape)
    backwards = _backwards(attributes)
    names = names_in(backwards)
    grid = grid_in(backwards, ndim)
    if names is None and grid is not None and ndim in AXES:
        names = list(AXES[ndim])
    axes, guessed = named_axes(names, ndim)
    opened = ImageSource(tuple(arrays), axes, factors=_factors(levels, attributes, ndim), guessed_axes=guessed)
    return opened if axes is None or grid is None else calibrated(opened, *grid)


def _backwards(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with what they say along x, y and z turned around, as `names_in` and `grid_in` take them."""
    transform = attributes.get("transform")
    if isinstance(transform, Mapping):
        return {"transform": transform}
    found: dict[str, Any] = {}
    resolution = attributes.get("pixelResolution")
    if isinstance(resolution, Mapping):
        sizes = resolution.get("dimensions")
        attributes = {**attributes, "pixelResolution": sizes}
        if isinstance(sizes, list) and "units" not in attributes:
            found["units"] = [resolution.get("unit")] * len(sizes)
    for key in REVERSED:
        if isinstance(value := attributes.get(key), list):
            found[key] = value[::-1]
    return found


def _factors(levels: list[_Stored], attributes: Mapping[str, Any], ndim: int) -> tuple[tuple[float, ...], ...] | None:
    """Return the downsampling factor of each level along each axis; None where the levels do not state it."""
    common = attributes.get("downsamplingFactors")
    found = [(1.0,) * ndim]
    for number, level in enumerate(levels[1:], 1):
        given = level.attributes.get("downsamplingFactors")
        if given is None and isinstance(common, list) and len(common) == len(levels):
            given = common[number]
        if not isinstance(given, list) or len(given) != ndim:
            return None
        if not all(isinstance(each, (int, float)) and 0 < each < math.inf for each in given):
            return None
        found.append(tuple(float(factor) for factor in reversed(given)))
    return tuple(found)
