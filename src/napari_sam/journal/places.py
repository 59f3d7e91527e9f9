"""Where the journal of an image is: beside its labels, or in the cache folder for labels that are on no disk."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.files.folders import cache_folder
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.journal.image_identity import belongs_to, is_of_another, spread_blocks
from napari_sam.journal.lines import parse_lines
from napari_sam.journal.log import LINES
from napari_sam.labels.access import path_of
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.regions import WritableArray

if TYPE_CHECKING:
    from napari_sam.images.opening import ArrayLike

SUFFIX = ".journal"
NAMED = re.compile(r"[0-9a-f]{32}(-\d+)?\.journal")
# What `set_aside` adds to the name of a journal that is not to be continued.
SET_ASIDE = re.compile(r"-\d{8}-\d{6}\.journal$")
MAX_HEADER = 2**20
SAMPLE_SIDE = 32


def journal_folder() -> Path:
    """Return the folder in the cache for the journals of labels that are on no disk."""
    return cache_folder() / "journals"


def journal_beside(labels: Path) -> Path:
    """Return where the journal of a label file or zarr is: NAME.journal beside NAME."""
    return labels.with_name(f"{labels.name}{SUFFIX}")


def journal_in_cache(about: Mapping[str, Any]) -> Path:
    """Return where the journal of an image is whose labels are on no disk, or would be made.

    Parameters
    ----------
    about
        What its first line says, or would say: see `recording.about`.
    """
    base = journal_folder() / f"{about['digest']}{SUFFIX}"
    if base.exists() and _may_be_of(base, about):
        return base
    renamed = (folder for folder in _all_in(journal_folder()) if NAMED.fullmatch(folder.name))
    found = next((folder for folder in renamed if _was_renamed(folder, about)), None)
    if found is not None:
        return found
    names = itertools.chain([base], (base.with_name(f"{about['digest']}-{n}{SUFFIX}") for n in itertools.count(2)))
    return next(folder for folder in names if not folder.exists() or _may_be_of(folder, about))


def replaced_journal(about: Mapping[str, Any], place: Path) -> Path | None:
    """Return the journal of another image that was at the same path before, where `place` is the one of this image."""
    earlier = journal_folder() / f"{about['digest']}{SUFFIX}"
    if place == earlier or place.parent != earlier.parent:
        return None
    header = read_header(earlier)
    return earlier if header is not None and is_of_another(header, about) else None


def journals_in_cache(about: Mapping[str, Any]) -> list[Path]:
    """Return all journals of an image in the cache, the one written last first; not those that were set aside."""
    stem = journal_in_cache(about).name.removesuffix(SUFFIX)
    found = [
        folder
        for folder in _all_in(journal_folder())
        if folder.name.startswith(stem) and not SET_ASIDE.search(folder.name) and _may_be_of(folder, about)
    ]
    return sorted(found, key=_time_of, reverse=True)


def labels_in(folder: Path, about: Mapping[str, Any]) -> list[Path]:
    """Return the labels in a folder whose journals lie beside them and are of an image, the ones written last first."""
    found = [place for place in _all_in(folder) if place.with_name(place.name.removesuffix(SUFFIX)).exists()]
    return [
        place.with_name(place.name.removesuffix(SUFFIX))
        for place in sorted(found, key=_time_of, reverse=True)
        if (header := read_header(place)) is not None and belongs_to(header, about)
    ]


def read_header(folder: Path) -> dict[str, Any] | None:
    """Return the first line of a journal, or None where there is none that can be read."""
    path = folder / LINES
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            found = parse_lines(file.readline(MAX_HEADER)).contents
    except OSError:
        return None
    return found[0] if found else None


def labels_path(labels: WritableArray | None) -> Path | None:
    """Return the folder or file of labels that are on this machine's disk, or None."""
    return labels.path if isinstance(labels, LabelPyramid) else path_of(labels)


def _may_be_of(folder: Path, about: Mapping[str, Any]) -> bool:
    """Return whether a journal is of an image; of one that cannot be read, opening it says what is wrong."""
    header = read_header(folder)
    return header is None or belongs_to(header, about)


def _was_renamed(folder: Path, about: Mapping[str, Any]) -> bool:
    header = read_header(folder)
    if header is None or "pixels" not in header or not belongs_to(header, about):
        return False
    return isinstance(header.get("place"), str) and isinstance(about.get("place"), str)


def _all_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.endswith(SUFFIX))
    except OSError:
        return []


def _time_of(folder: Path) -> float:
    try:
        return (folder / LINES).stat().st_mtime
    except OSError:
        return 0.0


def image_digest(source: str | Path | None, array: ArrayLike, shape: Sequence[int]) -> str:
    """Return what the journal of an image in the cache is named after; see `image_identity` for whose it is.

    It is of the path or URL of a file, or else of the shape, type and a few pixels of an array.

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
        sides = [min(SAMPLE_SIDE, length) for length in array.shape]
        for key in spread_blocks(array.shape, sides):
            digest.update(np.ascontiguousarray(np.asarray(array[key])).tobytes())
    return digest.hexdigest()[:32]
