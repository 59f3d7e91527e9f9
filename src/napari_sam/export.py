"""Results on disk: whole or not at all, and never over an older file unless that is wanted."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import OutputError

ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
LABEL_SUFFIXES = (".tif", ".tiff", ".zarr")


def check_output(path: Path, suffixes: tuple[str, ...] = (), overwrite: bool = False) -> None:
    """Refuse a place that cannot be written to, before any work is done for it; nothing is made yet.

    Raises
    ------
    OutputError
        The suffix is unknown, the path exists and may not be overwritten, or its folder (the nearest that exists)
        cannot be written to.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"{path.name} has an unknown ending: use one of {', '.join(suffixes)}.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already: choose another name, or pass --overwrite.")
    _check_replaceable(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"The folder {folder} cannot be written to ({error.strerror}): choose another one."
        ) from error


def _check_replaceable(path: Path) -> None:
    """Refuse to put a file in the place of a folder, or a zarr array in the place of a folder that is none."""
    is_zarr = path.suffix.lower() == ".zarr" and any((path / name).exists() for name in ZARR_FILES)
    if path.is_dir() and not is_zarr:
        raise OutputError(f"{path} is a folder that is no zarr array, and it is not replaced: choose another name.")


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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` and move what was written there into place only when all went well.

    Raises
    ------
    OutputError
        It cannot be written or moved; whatever stood there before still does.
    """
    _check_replaceable(path)
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        older = path.with_name(f"{temporary.name}.old")
        if path.is_dir():
            path.rename(older)
        try:
            temporary.replace(path)
        except OSError:
            if older.exists():
                older.rename(path)
            raise
        shutil.rmtree(older, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}): is the disk full or the folder read-only?"
        ) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def as_label_dtype(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as uint16, or as uint32 where their values need it."""
    return labels.astype(np.uint16 if labels.max(initial=0) < 2**16 else np.uint32)
