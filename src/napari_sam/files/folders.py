"""Folders of the cache, models and labels on this machine, and the environment variables that name them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from napari_sam.errors import ModelError, NapariSamError, OutputError
from napari_sam.files.paths import user_folder

CACHE_VARIABLE = "NAPARI_SAM_CACHE"
SIZE_VARIABLE = "NAPARI_SAM_CACHE_SIZE"
MODELS_VARIABLE = "NAPARI_SAM_MODELS"
DEFAULT_CAPACITY = "20 GB"
_UNITS = " KMGT"


def cache_folder() -> Path:
    """Return the folder that NAPARI_SAM_CACHE names; by default the platform's folder for caches.

    Raises
    ------
    OutputError
        NAPARI_SAM_CACHE is a URL, or it is not set and there is no home folder.
    """
    found = _folder_in(CACHE_VARIABLE, OutputError) or user_folder("cache")
    if found is None:
        raise OutputError(f"There is no home folder for a cache: set {CACHE_VARIABLE} to a folder.")
    return found


def models_folder() -> Path:
    """Return the folder that NAPARI_SAM_MODELS names; by default `models` in the cache folder.

    Raises
    ------
    ModelError
        NAPARI_SAM_MODELS or NAPARI_SAM_CACHE is a URL, or neither is set and there is no home folder.
    """
    named = _folder_in(MODELS_VARIABLE, ModelError)
    if named is not None:
        return named.absolute()
    cache = _folder_in(CACHE_VARIABLE, ModelError) or user_folder("cache")
    if cache is None:
        raise ModelError(f"There is no home folder for models: set {MODELS_VARIABLE} to a folder.")
    return (cache / "models").absolute()


def taught_folder() -> Path:
    """Return the folder of the models that users taught: in that of NAPARI_SAM_MODELS, or among the user's data.

    It is not in the cache, since a deleted one would have to be taught again.

    Raises
    ------
    ModelError
        NAPARI_SAM_MODELS is a URL, or it is not set and there is no home folder.
    """
    named = _folder_in(MODELS_VARIABLE, ModelError) or user_folder("data")
    if named is None:
        raise ModelError(f"There is no home folder for taught models: set {MODELS_VARIABLE} to a folder.")
    return (named / "taught").absolute()


def _folder_in(variable: str, error: type[NapariSamError]) -> Path | None:
    """Return the folder that an environment variable names, or None where it is not set.

    Raises
    ------
    NapariSamError
        It is a URL; of the given type.
    """
    named = os.environ.get(variable)
    if not named:
        return None
    if "://" in named:
        raise error(f"{variable} is {named!r}, which is not a folder on this computer: set it to one.")
    return Path(os.path.expanduser(named))  # noqa: PTH111  An unknown ~user is no error here.


def embedding_folder() -> Path:
    """Return the folder of embeddings in the cache folder."""
    return cache_folder() / "embeddings"


def label_folder() -> Path:
    """Return the folder for new labels of images that lie in no folder.

    It is among the user's data and not in the cache, since labels cannot be computed again.

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
    """Return the size in bytes that the cache may reach: NAPARI_SAM_CACHE_SIZE, by default 20 GB.

    Raises
    ------
    OutputError
        NAPARI_SAM_CACHE_SIZE is not a size.
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
