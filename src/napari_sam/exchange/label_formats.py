"""Write label images in the format that the ending of their name selects; and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from napari_sam.files.outputs import replacing
from napari_sam.files.zarr_writes import no_write_goes_on
from napari_sam.images.axes.attributes import grid_attributes, map_attributes
from napari_sam.images.axes.calibration import Calibration
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.axes.units import MICROMETRES
from napari_sam.images.rasters.gdal import write_labels_geotiff
from napari_sam.images.tiff.ome_sizes import metadata_of

WriteLabels = Callable[[Path, NDArray[Any], Calibration | None, Georeference | None], None]
"""Writes a label image to a path: integer labels, their axes and pixel sizes, and their position on the earth."""

# Labels of any size, which are written chunk by chunk while they are made: see `LabelPyramid`.
PYRAMID_SUFFIX = ".ome.zarr"


def write_labels(
    path: Path, labels: NDArray[Any], calibration: Calibration | None = None, place: Georeference | None = None
) -> None:
    """Write a label image as a zlib-compressed TIFF or as a zarr array, by the path's suffix.

    A calibrated TIFF is an OME-TIFF, one of an image that lies on the earth a GeoTIFF; a zarr array names its axes, and
    has steps, origin and units in its attributes.

    Parameters
    ----------
    path
        Ends in .tif, .tiff or .zarr; replaced if it exists.
    labels
        Integer labels of any shape.
    calibration
        Axes and pixel sizes of the labels, or None.
    place
        Position of rows and columns on the earth, or None.

    Raises
    ------
    OutputError
        The file cannot be written; whatever stood there before still does.
    """
    LABEL_WRITERS[path.suffix.lower()](path, labels, calibration, place)


def write_labels_zarr(
    path: Path, labels: NDArray[Any], calibration: Calibration | None = None, place: Georeference | None = None
) -> None:
    """Write a label image as one zarr array; see `write_labels`."""
    with replacing(path) as temporary:
        _fill_zarr(temporary, labels, calibration, place)


def write_labels_tiff(
    path: Path, labels: NDArray[Any], calibration: Calibration | None = None, place: Georeference | None = None
) -> None:
    """Write a label image as a TIFF, OME-TIFF or GeoTIFF; see `write_labels`."""
    if place is not None and place.is_known and labels.ndim == 2:
        write_labels_geotiff(path, labels, place)
        return
    with replacing(path) as temporary:
        _fill_tiff(temporary, labels, calibration)


# A new format of label images is a function here.
LABEL_WRITERS: dict[str, WriteLabels] = {
    ".tif": write_labels_tiff,
    ".tiff": write_labels_tiff,
    ".zarr": write_labels_zarr,
}
LABEL_SUFFIXES = tuple(LABEL_WRITERS)


def _fill_zarr(path: Path, labels: NDArray[Any], calibration: Calibration | None, place: Georeference | None) -> None:
    import zarr

    attributes: dict[str, Any] = {}
    if calibration is not None and calibration.scale is not None:
        attributes |= grid_attributes(calibration.axes, calibration.scale, calibration.starts, calibration.units)
    if place is not None:
        attributes |= map_attributes(place)
    in_plane = calibration.axes if calibration is not None and {"y", "x"} <= set(calibration.axes) else None
    chunks = [1] * labels.ndim
    for axis in (-2, -1) if in_plane is None else map(in_plane.index, "yx"):
        chunks[axis] = min(labels.shape[axis], 512)
    with no_write_goes_on():
        array = zarr.create_array(
            path,
            shape=labels.shape,
            dtype=labels.dtype,
            chunks=tuple(chunks),
            fill_value=0,
            attributes=attributes,
            dimension_names=None if calibration is None else list(calibration.axes),
        )
        array[...] = labels


def _fill_tiff(path: Path, labels: NDArray[Any], calibration: Calibration | None) -> None:
    import tifffile

    options: dict[str, Any] = {"compression": "zlib", "photometric": "minisblack"}
    if calibration is not None and labels.ndim == 2:
        # A TIFF has rows and columns, whatever section of the space they are.
        calibration = replace(calibration, axes="yx") if set(calibration.axes) <= set("zyx") else None
    if calibration is None or (labels.ndim == 2 and calibration.scale is None):
        tifffile.imwrite(path, labels, **options)
    elif not calibration.axes.endswith("yx"):
        # OME-TIFF wants rows and columns last: such labels keep the names of their axes alone.
        tifffile.imwrite(path, labels, metadata={"axes": calibration.axes.upper()}, **options)
    else:
        metadata = metadata_of(calibration, math.prod(labels.shape[:-2]))
        metadata = {**metadata, "UUID": str(_identity(labels, repr(metadata)))}
        tifffile.imwrite(path, labels, ome=True, metadata=metadata, **options, **_resolution(calibration))


def _identity(labels: NDArray[Any], metadata: str) -> UUID:
    """Return the identity of an OME-TIFF, by its content: the same labels make the same file."""
    digest = blake2b(f"{labels.dtype.str} {labels.shape} {metadata}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(labels).data)
    return UUID(bytes=digest.digest(), version=4)


def _resolution(calibration: Calibration) -> dict[str, Any]:
    """Return the resolution tags for programs that read no OME metadata."""
    if calibration.scale is None or calibration.unit not in MICROMETRES:
        return {}
    height, width = (abs(step) * MICROMETRES[calibration.unit] for step in calibration.scale[-2:])
    per_centimeter = (1e4 / width, 1e4 / height)
    # Tags are fractions of 32-bit numbers.
    if not all(1e-3 < count < 2**31 for count in per_centimeter):
        return {}
    return {"resolution": per_centimeter, "resolutionunit": "CENTIMETER"}


def write_json(path: Path, data: Any) -> None:
    """Write plain data as JSON.

    Raises
    ------
    OutputError
        The file cannot be written; whatever stood there before still does.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2) + "\n")


def as_label_dtype(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as uint16, or as uint32 where their values need it."""
    return labels.astype(np.uint16 if labels.max(initial=0) < 2**16 else np.uint32)
