"""Publishing: copy a finished folder to a URL, so that nobody opens a part of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from napari_sam.errors import OutputError, first_line
from napari_sam.files.libraries import library

# `Path` reduces two slashes to one.
URL = re.compile(r"(file|https?|ftp|s3|gs|gcs|az|abfss?|memory):/+", re.ASCII | re.IGNORECASE)
# To these nothing can be written.
READ_ONLY = ("http://", "https://", "ftp://")
# What says that a folder is a zarr array or group: without it there is none.
HEADS = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")


def url_of(path: str | Path) -> str | None:
    """Return the URL that was given as a path, or None for a path."""
    found = URL.match(str(path))
    return None if found is None else f"{found[1].lower()}://{str(path)[found.end() :]}"


def check_published(url: str, *, overwrite: bool = False) -> None:
    """Refuse a URL to which nothing can be published, before any work is done.

    Parameters
    ----------
    url
        Where the folder will be.
    overwrite
        Whether what is there is replaced.

    Raises
    ------
    OutputError
        It cannot be reached, or something is there.
    """
    files, path = _opened(url)
    path = path.rstrip("/")
    try:
        # A zarr that does not say what it is was copied by half.
        said = [f"{path}/{name}" for name in HEADS] if path.endswith(".zarr") else [path]
        is_taken = files.isfile(path) or any(map(files.exists, said))
    except Exception as error:  # Of any file system.
        raise _refused(url, error) from error
    if is_taken and not overwrite:
        raise OutputError(f"{url} exists already: choose another name, or pass --overwrite.")


def publish(folder: str | Path, url: str, *, overwrite: bool = False) -> None:
    """Copy a folder to a URL, such as finished labels into a bucket.

    The files that say what the folder is are copied last, and removed first where an older one is replaced: others see
    nothing or all of it. Nothing may be written into the folder meanwhile.

    Parameters
    ----------
    folder
        A zarr array or group, or any other folder.
    url
        Where it will be, in any file system of fsspec that can be written to, such as s3://bucket/labels.ome.zarr.
    overwrite
        Whether what is there is replaced.

    Raises
    ------
    OutputError
        The folder is missing, or the URL cannot be written to or is taken.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise OutputError(f"There is no folder {folder}: give one that is finished.")
    check_published(url, overwrite=overwrite)
    files, path = _opened(url)
    path = path.rstrip("/")
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    heads = [name for name in HEADS if name in names]
    try:
        if files.exists(path):
            for name in HEADS:
                if files.exists(f"{path}/{name}"):
                    files.rm_file(f"{path}/{name}")
            files.rm(path, recursive=True)
        for part in ([name for name in names if name not in heads], heads):
            if part:
                files.put([str(folder / name) for name in part], [f"{path}/{name}" for name in part])
    except Exception as error:  # Of any file system.
        raise _refused(url, error) from error


def _opened(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    if url.startswith(READ_ONLY):
        raise OutputError(f"{url} can only be read from: name a path, or a bucket such as s3://bucket/labels.ome.zarr.")
    core = library("fsspec.core", "fsspec", "A URL")
    try:
        files, path = core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise _refused(url, error) from error
    return files, str(path)


def _refused(url: str, error: Exception) -> OutputError:
    return OutputError(
        f"{url} cannot be written to ({first_line(error)}): correct the URL or your access to it, and run the same "
        "command again."
    )
