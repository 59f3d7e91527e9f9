"""Read arrays in HDF5 files with h5py, in parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import ImageError
from napari_sam.images.axes.attributes import grid_in, names_in
from napari_sam.images.axes.letters import named_axes
from napari_sam.images.files.external_references import MAX_NESTED, check_beside
from napari_sam.images.files.inner_names import MAX_LISTED, several_arrays
from napari_sam.images.source import ImageSource, calibrated, checked

MAX_OBJECTS = 20000
MAX_LINKS = 64
# Pixel sizes (z, y, x) in micrometers, as ImageJ and PlantSeg write them.
ELEMENT_SIZE = "element_size_um"


def open_hdf5(path: Path, name: str | None = None) -> ImageSource:
    """Open an array of an HDF5 file.

    Parameters
    ----------
    path
        The file.
    name
        Path of the array in the file; None for the only one.

    Raises
    ------
    ImageError
        There is no such array, the file holds several, or its pixels lie outside its folder.
    """
    import h5py

    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise ImageError(f"{path} is damaged or cut off ({error}): copy it again.") from error
    dataset = _only_image(path, file) if name is None else _named(path, file, name)
    _check_sources(path, dataset, MAX_NESTED)
    attributes = _attributes(dataset)
    names = _axis_names(dataset, attributes)
    axes, guessed = named_axes(names, dataset.ndim)
    opened = ImageSource((dataset,), axes, guessed_axes=guessed)
    if axes is not None and (grid := _grid(attributes, axes)) is not None:
        opened = calibrated(opened, *grid)
    return checked(opened, path if name is None else f"{path}:{name}")


def _only_image(path: Path, file: Any) -> Any:
    """Return the only array of a file; raise an error that lists them where there are several."""
    found: list[Any] = []
    seen = 0

    def visit(_: str, entry: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if _is_image(entry):
            found.append(entry)
        return True if seen >= MAX_OBJECTS else None

    file.visititems(visit)
    if len(found) == 1:
        return found[0]
    if not found:
        raise ImageError(f"{path} holds no array of pixels: give another file.")
    raise several_arrays(path, [(entry.name, entry) for entry in found])


def _is_image(entry: Any) -> bool:
    import h5py

    return (
        isinstance(entry, h5py.Dataset) and entry.ndim >= 2 and min(entry.shape[-2:]) > 1 and entry.dtype.kind in "buif"
    )


def _named(path: Path, file: Any, name: str, followed: int = 0) -> Any:
    """Return an array by its path, following links no further than the folder of the file."""
    import h5py

    entry, parts = file, [part for part in name.split("/") if part]
    while parts:
        part = parts.pop(0)
        link = entry.get(part, getlink=True) if isinstance(entry, h5py.Group) else None
        if link is None:
            raise ImageError(f"{path} holds no array {name}: {_what_there_is(file)}.")
        if isinstance(link, h5py.HardLink):
            entry = entry[part]
            continue
        followed += 1
        if followed > MAX_LINKS:
            raise ImageError(f"{path} has links in {name} that lead back to themselves: name the array itself.")
        target = [each for each in link.path.split("/") if each and each != "."]
        if isinstance(link, h5py.ExternalLink):
            other = check_beside(path, link.filename)
            if not other.is_file():
                raise ImageError(f"{path} has pixels in {link.filename}, which is missing: copy it beside the file.")
            return _named(other, h5py.File(other, "r", locking=False), "/".join([*target, *parts]), followed)
        entry = file if link.path.startswith("/") else entry
        parts = [*target, *parts]
    if not isinstance(entry, h5py.Dataset):
        raise ImageError(f"{name} of {path} is a group and no array: {_what_there_is(entry)}.")
    return entry


def _what_there_is(group: Any) -> str:
    found: list[str] = []

    def visit(name: str, entry: Any) -> bool | None:
        if _is_image(entry):
            found.append(entry.name)
        return True if len(found) > MAX_LISTED else None

    group.visititems(visit)
    return f"name one that is there, such as {', '.join(found[:MAX_LISTED])}" if found else "it has none"


def _check_sources(path: Path, dataset: Any, depth: int) -> None:
    """Refuse an array whose pixels lie in other files outside the folder."""
    import h5py

    for name, *_ in dataset.external or ():
        check_beside(path, name)
    if not dataset.is_virtual:
        return
    for source in dataset.virtual_sources():
        if source.file_name == ".":
            if source.dset_name in dataset.file and source.dset_name != dataset.name and depth:
                _check_sources(path, dataset.file[source.dset_name], depth - 1)
            continue
        other = check_beside(path, source.file_name)
        if not other.is_file():
            raise ImageError(f"{path} has pixels in {source.file_name}, which is missing: copy it beside the file.")
        if depth == 0:
            raise ImageError(f"{path} refers to files that refer to others without end: save its pixels in one file.")
        with h5py.File(other, "r", locking=False) as file:
            _check_sources(other, _named(other, file, source.dset_name), depth - 1)


def _attributes(dataset: Any) -> dict[str, Any]:
    """Return attributes as plain values, with texts decoded; those that cannot be read are left out."""
    found: dict[str, Any] = {}
    for key in dataset.attrs:
        try:
            value = dataset.attrs[key]
        except (OSError, TypeError, ValueError):
            continue
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, list):
            value = [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in value]
        found[key] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return found


def _axis_names(dataset: Any, attributes: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the axes: labels of HDF5, tags of ilastik, or attributes as in zarr."""
    labels = [dimension.label for dimension in dataset.dims]
    if all(labels):
        return labels
    try:
        tags = json.loads(attributes["axistags"])["axes"]
        return [str(tag["key"]) for tag in tags]
    except (KeyError, TypeError, ValueError):
        pass
    names = names_in(attributes)
    if names is None and ELEMENT_SIZE in attributes and dataset.ndim == 3:
        return ["z", "y", "x"]
    return names


def _grid(attributes: Mapping[str, Any], axes: str) -> Any:
    """Return the steps, the origin and the units along the axes; None where the file has none."""
    found = grid_in(attributes, len(axes))
    if found is not None:
        return found
    sizes = attributes.get(ELEMENT_SIZE)
    if isinstance(sizes, list) and len(sizes) == 3 and all(isinstance(size, float) and size > 0 for size in sizes):
        known = dict(zip("zyx", sizes, strict=True))
        steps = tuple(known.get(letter, 1.0) for letter in axes)
        return steps, (0.0,) * len(axes), ["micrometer" if letter in known else None for letter in axes]
    return None
