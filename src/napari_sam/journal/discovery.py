"""Discovery: which journal belongs to an image and its labels, and the work that earlier sessions left.

The journal of labels on disk is beside them, that of labels in memory in the cache folder, named after the image.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.masks import Mask
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.files.folders import cache_folder
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.images.volume import Volume
from napari_sam.journal.entries import Provenance
from napari_sam.journal.image_identity import (
    belongs_to,
    inode_of,
    is_of_another,
    pixel_digest,
    place_of,
    spread_blocks,
)
from napari_sam.journal.journal import Journal
from napari_sam.journal.storage.complete_areas import AREAS
from napari_sam.journal.storage.database import read_about
from napari_sam.journal.storage.files import NAME, log_of
from napari_sam.journal.storage.former_log import LINES, read_log_header
from napari_sam.journal.storage.opening import FILES as FILES
from napari_sam.journal.storage.opening import LOCK
from napari_sam.labels.access import path_of
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.regions import WritableArray
from napari_sam.labels.sink import LabelSink

if TYPE_CHECKING:
    from napari_sam.images.opening import ArrayLike

SUFFIX = ".journal"
_PARTS = re.compile(
    rf"{re.escape(NAME)}(-wal|-shm|-journal|\.new.*)?|{re.escape(LINES)}(\.cut)?|{re.escape(LOCK)}"
    rf"|{re.escape(AREAS)}"
)
NAMED = re.compile(r"[0-9a-f]{32}(-\d+)?\.journal")
# What `set_aside` adds to the name of a journal that is not to be continued.
SET_ASIDE = re.compile(r"-\d{8}-\d{6}\.journal$")
SAMPLE_SIDE = 32


def find_journal(volume: Volume, source: str | Path | None, labels: WritableArray | None) -> Path:
    """Return where the journal of an image and its labels is, or would be made.

    Parameters
    ----------
    volume
        The image.
    source
        Its path or URL, or None for an array.
    labels
        What is written into, or None for new labels in memory.
    """
    path = labels_path(labels)
    return journal_in_cache(about(volume, source)) if path is None else journal_beside(path)


def record(
    volume: Volume,
    source: str | Path | None,
    target: LabelSink,
    folder: Path | None = None,
    *,
    is_new: bool = False,
    durable: bool = True,
) -> Journal:
    """Open the journal of an image with its labels, or make one, and go on where it was left.

    Parameters
    ----------
    volume, source
        See `find_journal`.
    target
        The labels. Those that hold nothing get all objects of the journal back.
    folder
        Where the journal is; `find_journal` tells when left out.
    is_new
        Whether the labels are known to hold nothing; looked at when left out.
    durable
        See `Journal`.

    Raises
    ------
    LabelsError, OutputError
        See `Journal`.
    """
    path, said = None if is_new else labels_path(target.array), about(volume, source)
    place = folder or (journal_in_cache(said) if path is None else journal_beside(path))
    journal = Journal(place, target, about=said, durable=durable)
    try:
        if journal.entries and (is_new or target.is_empty):
            journal.restore()
        elif not journal.entries and (earlier := replaced_journal(said, place)) is not None:
            journal.trouble = (
                f"The earlier work on {source} is of other pixels than the image has now, so it is left in {earlier} "
                "and not continued."
            )
    except BaseException:
        journal.close()
        raise
    return journal


def about(volume: Volume, source: str | Path | None) -> dict[str, Any]:
    """Return what a journal says of its image.

    Parameters
    ----------
    volume, source
        See `find_journal`.
    """
    place = place_of(source)
    return {
        "image": None if source is None else str(source),
        "shape": list(volume.shape),
        "dtype": dtype_of(volume.array).str,
        "digest": image_digest(source, volume.array, volume.shape),
        "place": place,
        "inode": inode_of(place),
        "pixels": pixel_digest(volume.array),
    }


def provenance(
    encoder: TileEncoder, mask: Mask, candidate: str | None = None, downsample: float | None = None
) -> Provenance:
    """Return how a mask was made, for its entry in the journal.

    Parameters
    ----------
    encoder
        Encoder of its tile.
    mask
        One that the decoder gave, or that was made of it.
    candidate
        Its name among the three.
    downsample
        How many pixels of the image one pixel of the screen showed, if there was a screen.
    """
    return encoder.provenance(mask, candidate, downsample)


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
    """Return what a journal says of its image, or None where there is none that can be read."""
    if os.path.lexists(folder / NAME):
        return read_about(folder / NAME)
    return read_log_header(folder / LINES)


def has_journal(folder: Path) -> bool:
    """Return whether a folder holds a journal, of this or of an earlier version."""
    return any(os.path.lexists(folder / name) for name in FILES)


def is_only_journal(folder: Path) -> bool:
    """Return whether a folder holds a journal, and nothing that is not part of one."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return False
    return any((folder / name).is_file() for name in FILES) and all(_PARTS.fullmatch(name) for name in names)


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
    """Return when something was written into a journal last."""
    path = folder / NAME if os.path.lexists(folder / NAME) else folder / LINES
    times = [0.0]
    for file in (path, log_of(path)):
        with contextlib.suppress(OSError):
            times.append(file.stat().st_mtime)
    return max(times)


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
