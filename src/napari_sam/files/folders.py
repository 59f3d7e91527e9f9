"""Where things are kept on this machine: the cache of embeddings, and labels that have no better place."""

from __future__ import annotations

import os
import re
from pathlib import Path

from napari_sam.errors import OutputError
from napari_sam.files.paths import user_folder

FOLDER_VARIABLE = "NAPARI_SAM_CACHE"
SIZE_VARIABLE = "NAPARI_SAM_CACHE_SIZE"
DEFAULT_CAPACITY = "20 GB"
_UNITS = " KMGT"


def cache_folder() -> Path:
    """Return the folder of the cache: what NAPARI_SAM_CACHE names, else the platform's own.

    Raises
    ------
    OutputError
        NAPARI_SAM_CACHE names a URL, or nothing names a folder: there is no home folder.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        cache = user_folder("cache")
        if cache is None:
            raise OutputError(f"There is no home folder to keep a cache in: set {FOLDER_VARIABLE} to a folder.")
        return cache
    if "://" in named:
        raise OutputError(f"{FOLDER_VARIABLE} is {named!r}, which is no folder: set it to one of this machine.")
    return Path(os.path.expanduser(named))  # noqa: PTH111  An unknown ~user is no error here.


def embedding_folder() -> Path:
    """Return the folder in the cache where embeddings are kept."""
    return cache_folder() / "embeddings"


def label_folder() -> Path:
    """Return the folder for new labels of an image that has none of its own; labels are work, and no cache.

    Raises
    ------
    OutputError
        There is no home folder.
    """
    data = user_folder("data")
    if data is None:
        raise OutputError("There is no home folder for new labels: set XDG_DATA_HOME or HOME to a folder.")
    return data / "labels"


def cache_capacity() -> int:
    """Return how many bytes the cache may hold: what NAPARI_SAM_CACHE_SIZE says, else 20 GB.

    Raises
    ------
    OutputError
        It says something that is no size.
    """
    return parse_size(os.environ.get(SIZE_VARIABLE) or DEFAULT_CAPACITY)


def parse_size(text: str) -> int:
    """Turn "20 GB", "500M", "1.5TiB" or "1000000" into bytes.

    Raises
    ------
    OutputError
        It is none of these.
    """
    match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(?:([KMGT])(i?))?B?\s*", text, re.ASCII | re.IGNORECASE)
    if match is None:
        raise OutputError(f"The cache size {text!r} is not understood: write it like 20GB or 500MB.")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _UNITS.index((match[2] or " ").upper()))
