"""Create and open the arrays of label images on disk; `images.ome_zarr.metadata` holds their metadata."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from napari_sam.errors import LabelsError, one_line
from napari_sam.files.temporary import temporary_folder
from napari_sam.files.zarr_writes import no_write_goes_on
from napari_sam.images.ome_zarr import metadata
from napari_sam.images.ome_zarr.metadata import AXIS_TYPES, label_metadata, plane_axes, read_multiscale
from napari_sam.labels.regions import check_whole

if TYPE_CHECKING:
    import zarr

    from napari_sam.labels.storage.chunk_files import ZarrArray

DEFAULT_AXES = {2: "yx", 3: "zyx", 4: "tzyx", 5: "tczyx"}
COARSEST_SIDE = 512
CHUNK_SIDE = 512
COMPRESSION_LEVEL = 1


@dataclass(frozen=True, slots=True, eq=False)
class Multiscale:
    """The arrays of a label image.

    Parameters
    ----------
    node
        What holds the attributes: the group, or the array itself where there is but one.
    names
        The path of each level in the group; none for a single array.
    levels
        The arrays, finest first.
    steps
        For every level but the first, which whole step along each axis of the level before leads to it.
    """

    node: zarr.Group | ZarrArray
    names: tuple[str, ...]
    levels: tuple[ZarrArray, ...]
    steps: tuple[tuple[int, ...], ...]


def make_label_image(
    path: Path,
    shape: Sequence[int],
    axes: str | Sequence[str] | None,
    spacing: Sequence[float] | None,
    translation: Sequence[float] | None,
    unit: str | None,
    chunks: Sequence[int] | None,
    dtype: DTypeLike,
    name: str | None,
    source: str | None,
    attributes: Mapping[str, Any],
    time_unit: str | None = None,
) -> None:
    """Make an empty label image; see `LabelPyramid.create`. `attributes` go beside those of OME."""
    lengths = tuple(operator.index(length) for length in shape)
    ndim = len(lengths)
    if not 2 <= ndim <= 5 or min(lengths) < 1:
        raise LabelsError(f"Labels of shape {lengths} cannot be made: give two to five axes of length 1 or more.")
    letters = check_axes(axes, ndim)
    scale, origin = _numbers("spacing", spacing, ndim, 1.0), _numbers("translation", translation, ndim, 0.0)
    if not all(scale):
        raise LabelsError(f"The spacing {scale} is 0 along an axis: correct it.")
    in_plane = plane_axes(letters)
    default = tuple(CHUNK_SIDE if axis in in_plane else 1 for axis in range(ndim))
    sides = default if chunks is None else tuple(map(operator.index, chunks))
    if len(sides) != ndim or min(sides) < 1:
        raise LabelsError(f"Chunks of shape {sides} do not suit {ndim} axes: give one length above 0 for each.")
    check_whole(np.dtype(dtype))
    shapes = level_shapes(lengths, in_plane)
    units = dict.fromkeys("zyx", unit) | {"t": time_unit}
    ome = label_metadata(letters, units, scale, origin, len(shapes), name or path.stem, source)
    try:
        _make_at_once(path, {"ome": ome, **attributes}, shapes, sides, np.dtype(dtype), letters)
    except OSError as error:
        raise LabelsError(
            f"{path} cannot be made ({one_line(error)}): choose a folder that exists, may be written to and has space."
        ) from error


def _make_at_once(
    path: Path,
    attributes: Mapping[str, Any],
    shapes: Sequence[tuple[int, ...]],
    sides: Sequence[int],
    dtype: np.dtype[Any],
    axes: str,
) -> None:
    """Make a group beside its place and put it there when it is whole."""
    import zarr

    if path.exists():
        raise LabelsError(f"{path} exists already: open it, or choose another name.")
    with temporary_folder(path.parent) as folder:
        beside = folder / "new.zarr"
        with no_write_goes_on():
            group = zarr.open_group(beside, mode="w-", zarr_format=3, attributes=dict(attributes))
            for level, shape in enumerate(shapes):
                chunks = tuple(min(side, length) for side, length in zip(sides, shape, strict=True))
                create_level(group, str(level), shape, chunks, dtype, dimension_names=list(axes))
        beside.rename(path)


def create_level(
    group: zarr.Group, name: str, shape: Sequence[int], chunks: Sequence[int], dtype: np.dtype[Any], **options: Any
) -> ZarrArray:
    """Add an array of zeros to a group; its chunks take no space until something else is written into them."""
    from zarr.codecs import ZstdCodec

    # Of Zstandard and Blosc (LZ4, Zstandard), 256 and 512: as fast as any on labels and a fifth of LZ4's size.
    codecs: Any = "auto" if group.metadata.zarr_format == 2 else [ZstdCodec(level=COMPRESSION_LEVEL)]
    native = dtype.newbyteorder("=")
    return group.create_array(
        name, shape=tuple(shape), chunks=tuple(chunks), dtype=native, compressors=codecs, fill_value=0, **options
    )


def like(group: zarr.Group, name: str, array: ZarrArray, dtype: np.dtype[Any]) -> ZarrArray:
    """Add an empty array of another type but of the shape, chunks and keys of one that is there; replaces leftovers."""
    metadata: Any = array.metadata
    if group.metadata.zarr_format == 2:
        options: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": metadata.dimension_separator}}
    else:
        options = {"chunk_key_encoding": metadata.chunk_key_encoding, "dimension_names": metadata.dimension_names}
    options |= {"shards": array.shards, "attributes": array.attrs.asdict(), "overwrite": True}
    return create_level(group, name, array.shape, array.chunks, dtype, **options)


def open_label_image(path: Path) -> Multiscale:
    """Open a label image or a single array for writing; see `LabelPyramid.open`."""
    import zarr

    try:
        node: Any = zarr.open(path, mode="r+")
        if isinstance(node, zarr.Group):
            # A summary of the metadata does not know of arrays that are added.
            node = zarr.open_group(path, mode="r+", use_consolidated=False)
    except Exception as error:
        raise LabelsError(
            f"{path} is no zarr array or group that can be read ({one_line(error)}): give the folder of labels in zarr."
        ) from error
    if isinstance(node, zarr.Array):
        check_whole(np.dtype(node.dtype))
        return Multiscale(node, (), (node,), ())
    attributes = node.attrs.asdict()
    try:
        image = read_multiscale(attributes)
        levels = tuple(node[path] for path in image.paths)
    except Exception as error:
        listed = ", ".join(sorted(child.name for child in path.iterdir() if child.is_dir())) or "nothing"
        raise LabelsError(
            f"{path} is a zarr group whose metadata name no label image ({one_line(error)}): "
            f"give the path of a label image or of an array in it (it holds {listed})."
        ) from error
    if not all(isinstance(level, zarr.Array) for level in levels):
        raise LabelsError(f"{path} names groups where its levels should be arrays: check the store.")
    for level in levels:
        check_whole(np.dtype(level.dtype))
    steps = _steps(path, levels, [_scale(image, level, levels[0].ndim) for level in range(len(levels))])
    if not image.is_label:
        raise LabelsError(f"{path} is an image and no label image: choose labels, or another path for new ones.")
    return Multiscale(node, image.paths, levels, steps)


def level_shapes(shape: Sequence[int], in_plane: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the shape of every level: the axes of a plane are halved until the longer one is short."""
    shapes = [tuple(shape)]
    while max(shapes[-1][axis] for axis in in_plane) > COARSEST_SIDE:
        shapes.append(tuple(-(-n // 2) if axis in in_plane else n for axis, n in enumerate(shapes[-1])))
    return shapes


def check_axes(axes: str | Sequence[str] | None, ndim: int) -> str:
    """Return the letters of the axes in any order, by default those that arrays of so many axes mostly have.

    Raises
    ------
    LabelsError
        OME-Zarr knows no such axes.
    """
    letters = DEFAULT_AXES[ndim] if axes is None else "".join(axes)
    spatial = sum(AXIS_TYPES.get(letter) == "space" for letter in letters)
    known = set(letters) <= set(AXIS_TYPES) and len(set(letters)) == len(letters)
    if len(letters) != ndim or not known or not 2 <= spatial <= 3:
        raise LabelsError(
            f"{letters!r} are no axes for labels of {ndim} axes: give one letter for each, out of t, c and "
            "two or three of z, y and x."
        )
    return letters


def step_between(fine: int, coarse: int, ratio: float | None = None) -> int | None:
    """Return which whole step through `fine` samples gives `coarse` ones; None where there is none.

    Parameters
    ----------
    fine, coarse
        Lengths of one axis at two levels.
    ratio
        How many times larger the coarse pixels are by the metadata, where these say so; it decides where lengths that
        were rounded up or down leave a choice.
    """
    candidates = [fine / coarse, -(-fine // coarse), fine // coarse]
    if ratio is not None and math.isfinite(ratio):
        candidates.insert(0, ratio)
    steps = (round(candidate) for candidate in candidates)
    return next((step for step in steps if step >= 1 and coarse in (-(-fine // step), fine // step)), None)


def _scale(image: metadata.Multiscale, level: int, ndim: int) -> tuple[float, ...] | None:
    """Return the scale of a level; None where it is not stated or damaged, since lengths show the steps as well."""
    try:
        position = image.placement_of(level, ndim)
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    return None if position is None else position.scale


def _steps(
    path: Path, levels: Sequence[ZarrArray], scales: Sequence[tuple[float, ...] | None]
) -> tuple[tuple[int, ...], ...]:
    found = []
    for fine, coarse, near, far in zip(levels, levels[1:], scales, scales[1:], strict=False):
        ratios: Sequence[float | None] = [None] * fine.ndim
        if near and far and len(near) == len(far) == fine.ndim:
            ratios = [b / a for a, b in zip(near, far, strict=True)]
        same_kind = fine.ndim == coarse.ndim and fine.dtype == coarse.dtype
        steps = list(map(step_between, fine.shape, coarse.shape, ratios)) if same_kind else [None]
        if None in steps:
            raise LabelsError(
                f"The levels of {path} are no whole steps through each other ({fine.shape} {fine.dtype}, then "
                f"{coarse.shape} {coarse.dtype}): give the path of its finest array, or write the levels again."
            )
        found.append(tuple(step for step in steps if step is not None))
    return tuple(found)


def _numbers(what: str, values: Sequence[float] | None, ndim: int, default: float) -> list[float]:
    try:
        numbers = [float(value) for value in (values if values is not None else [default] * ndim)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != ndim or not all(map(math.isfinite, numbers)):
        raise LabelsError(f"The {what} {values!r} is not one number for each of {ndim} axes: correct it.")
    return numbers
