"""Files that are written whole or not at all, and never over an older one unless that is wanted."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sam.errors import OutputError

ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")


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
