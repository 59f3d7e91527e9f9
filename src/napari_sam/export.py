"""Results on disk: label images and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.files import replacing

LABEL_SUFFIXES = (".tif", ".tiff", ".zarr")


def write_labels(path: Path, labels: NDArray[Any]) -> None:
    """Write a label image as a zlib-compressed TIFF or as a zarr array, by the path's suffix.

    Parameters
    ----------
    path
        Ends in .tif, .tiff or .zarr; replaced if it exists.
    labels
        Integer labels of any shape.

    Raises
    ------
    OutputError
        The file cannot be written; whatever stood there before still does.
    """
    with replacing(path) as temporary:
        if path.suffix.lower() == ".zarr":
            import zarr

            chunks = (1,) * (labels.ndim - 2) + tuple(min(length, 512) for length in labels.shape[-2:])
            array = zarr.create_array(temporary, shape=labels.shape, dtype=labels.dtype, chunks=chunks, fill_value=0)
            array[...] = labels
        else:
            import tifffile

            tifffile.imwrite(temporary, labels, compression="zlib", photometric="minisblack")


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
