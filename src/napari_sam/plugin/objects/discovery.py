"""Earlier work on an image, and the folder of a layer's journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import LabelsError, NapariSamError
from napari_sam.journal.discovery import (
    SUFFIX,
    has_journal,
    journal_beside,
    journal_in_cache,
    journals_in_cache,
    labels_in,
    labels_path,
)
from napari_sam.journal.journal import Journal, open_journal

if TYPE_CHECKING:
    from napari_sam.plugin.layers.labels import LayerLabels

# Number of objects that are compared to find out whether a journal belongs to some labels.
MAX_COMPARED = 50


@dataclass(frozen=True, slots=True, eq=False)
class ResumableWork:
    """Earlier work that can be resumed.

    Parameters
    ----------
    count
        Number of objects.
    journal
        Folder of the journal.
    labels
        The label pyramid that they are in, or None for labels that were in memory.
    """

    count: int
    journal: Path
    labels: Path | None = None


def left_work(about: Mapping[str, Any], folder: Path | None) -> list[ResumableWork]:
    """Return all earlier work on an image, the latest first.

    Parameters
    ----------
    about
        The image, as `recording.about` describes it.
    folder
        Folder of the image's label pyramids; None for an image whose labels are in memory.

    Raises
    ------
    LabelsError
        A journal is damaged.
    """
    if folder is None:
        return [_offer(journal) for journal in journals_in_cache(about)]
    return [_offer(journal_beside(labels), labels) for labels in labels_in(folder, about)]


def _offer(journal: Path, labels: Path | None = None) -> ResumableWork:
    # Work without objects counts too: the caller then knows that there is a journal to open, which takes time.
    return ResumableWork(len(open_journal(journal).objects), journal, labels)


def journal_place(
    about: Mapping[str, Any], target: LayerLabels, name: str, taken: set[Path], is_new: bool, known: Path | None
) -> Path:
    """Return the folder for the journal of a layer.

    Labels on disk have theirs beside them. Labels in memory have that of their image, unless it holds other objects:
    earlier work that the user did not resume stays as it is, and the layer's journal is named after the layer.

    Parameters
    ----------
    about
        The layer's image, as `recording.about` describes it.
    target, name
        The layer.
    taken
        Journals that are open.
    is_new
        Whether the layer was made just now and holds nothing.
    known
        The journal that the layer had before, or None.
    """
    path = None if is_new else labels_path(target.array)
    if path is not None:
        return journal_beside(path)
    if known is not None and known not in taken and known.exists() and _is_of(known, target, was_of_layer=True):
        return known
    base = journal_in_cache(about)
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)[:60] or "labels"
    stem = base.name.removesuffix(SUFFIX)
    folder, number = base, 1
    while folder in taken or (folder.exists() and not _is_of(folder, target, is_new=is_new)):
        suffix = "" if number == 1 else f"-{number}"
        folder, number = base.with_name(f"{stem}-{plain}{suffix}{SUFFIX}"), number + 1
    return folder


def _is_of(folder: Path, target: LayerLabels, *, is_new: bool = False, was_of_layer: bool = False) -> bool:
    """Return whether a journal belongs to some labels: most of its objects are in them, or it is unused."""
    try:
        journal = open_journal(folder)
    except LabelsError:
        return not has_journal(folder)
    objects = journal.objects
    if is_new or not objects:
        return was_of_layer or _is_unused(journal)  # Undone objects may be redone in the same layer.
    some = objects[:: max(1, len(objects) // MAX_COMPARED)]
    try:
        there = [bool(np.any(target.read(row.plane, row.box) == row.label)) for row in some]
    except NapariSamError:
        return False
    return 2 * sum(there) >= len(there)


def _is_unused(journal: Journal) -> bool:
    return not journal.entries and journal.next_redo is None
