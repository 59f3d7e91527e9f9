"""Where the journal of an image is: beside its labels, or in the cache folder for labels that are on no disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.lazy import dtype_of
from napari_sam.stores.boxes import WritableArray
from napari_sam.stores.locations import cache_folder
from napari_sam.stores.pyramid import LabelPyramid

if TYPE_CHECKING:
    from napari_sam.opening import ArrayLike

SUFFIX = ".journal"
SAMPLE_SIDE = 32
MOST_SAMPLES = 27


def journal_folder() -> Path:
    """Return the folder in the cache for the journals of labels that are on no disk."""
    return cache_folder() / "journals"


def journal_beside(labels: Path) -> Path:
    """Return where the journal of a label file or zarr is: NAME.journal beside NAME."""
    return labels.with_name(f"{labels.name}{SUFFIX}")


def journal_of(labels: WritableArray | None, image_digest: str) -> Path:
    """Return where the journal of labels is: beside them where they are on disk, else in the cache, by the image.

    Parameters
    ----------
    labels
        What is written into, or None.
    image_digest
        See `image_digest`.
    """
    path = labels_path(labels)
    return journal_beside(path) if path is not None else journal_folder() / f"{image_digest}{SUFFIX}"


def labels_path(labels: WritableArray | None) -> Path | None:
    """Return the folder or file of labels that are on this machine's disk, or None."""
    if isinstance(labels, LabelPyramid):
        return labels.path
    if isinstance(labels, np.memmap) and labels.filename is not None:
        return Path(labels.filename)
    root = getattr(getattr(labels, "store", None), "root", None)
    return Path(root) / str(getattr(labels, "path", "")) if isinstance(root, (str, Path)) else None


def image_digest(source: str | Path | None, array: ArrayLike, shape: Sequence[int]) -> str:
    """Return what an image is known by: its path or URL, or else its shape, type and a few of its pixels.

    Parameters
    ----------
    source
        Path or URL, or None for an array.
    array
        The finest level; of an array without a source, blocks of 32 pixels along each axis are read, at most 27.
    shape
        Of the volume.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    if source is not None:
        text = str(source)
        # As the file system has it: a name need not be valid UTF-8, nor a link lead anywhere.
        digest.update(os.fsencode(text if "://" in text else os.path.realpath(text)))
    else:
        digest.update(f"{tuple(shape)} {dtype_of(array).str}".encode())
        for key in _spots(array.shape):
            digest.update(np.ascontiguousarray(np.asarray(array[key])).tobytes())
    return digest.hexdigest()[:32]


def _spots(shape: Sequence[int]) -> list[tuple[Any, ...]]:
    """Return blocks spread over an array: begin, middle and end of its longest axes, and the middle of the others."""
    longest = sorted(range(len(shape)), key=lambda axis: shape[axis])[-3:]
    parts = []
    for axis, length in enumerate(shape):
        side = min(SAMPLE_SIDE, length)
        last = length - side
        starts = {0, last // 2, last} if axis in longest else {last // 2}
        parts.append([slice(start, start + side) for start in sorted(starts)])
    return list(product(*parts))[:MOST_SAMPLES]
