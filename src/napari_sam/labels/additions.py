"""Additions to labels on disk: all objects of a run, or none where it fails or is killed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_sam.errors import LabelsError
from napari_sam.files.temporary import ADDITIONS, dead_folders, temporary_folder
from napari_sam.journal.journal import Journal
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.targets import LabelTarget

JOURNAL = "added.journal"


@contextmanager
def adding_to(target: LabelTarget) -> Iterator[Journal]:
    """Give a journal to accept the objects of a run with, which are taken back where it does not end well.

    The journal lies in a temporary folder beside the labels. It is removed in the end; where the run is killed, the
    next opening of the labels takes the objects back and removes it.

    Parameters
    ----------
    target
        The labels, a `LabelPyramid`.

    Raises
    ------
    LabelsError
        The folder of the labels cannot be written to.
    """
    pyramid = target.array
    assert isinstance(pyramid, LabelPyramid)
    try:
        with temporary_folder(pyramid.path.parent) as folder:
            note = {"labels": pyramid.path.name, "inode": _inode(pyramid.path), "highest": pyramid.highest_label()}
            _write_note(folder, note)
            with Journal(folder / JOURNAL, target, about={}, durable=False) as journal:
                try:
                    yield journal
                except BaseException:
                    _take_back(journal, pyramid, folder, note)
                    raise
            (folder / ADDITIONS).unlink()
    except OSError as error:
        raise LabelsError(
            f"The labels {pyramid.path} cannot be added to ({error.strerror or error}): make space on the disk or "
            "check the permissions of their folder, then try again."
        ) from error


def take_back_unfinished(pyramid: LabelPyramid) -> None:
    """Take back what runs that were killed had added to labels."""
    for folder in dead_folders(pyramid.path.parent):
        note = _note_in(folder)
        if note.get("labels") != pyramid.path.name:
            continue
        if note.get("inode") == _inode(pyramid.path) and (folder / JOURNAL).exists():
            with contextlib.suppress(LabelsError):  # It was killed before the first object.
                journal = Journal(folder / JOURNAL, LabelTarget(pyramid), about={}, durable=False)
                with journal:
                    _take_back(journal, pyramid, folder, note)
        (folder / ADDITIONS).unlink()


def _take_back(journal: Journal, pyramid: LabelPyramid, folder: Path, note: dict[str, Any]) -> None:
    """Undo all objects and free their labels; it may be killed too, and goes on then."""
    given, highest = note.get("given"), note.get("highest")
    last = max((entry.label for entry in journal.entries if entry.label is not None), default=None)
    if isinstance(given, int):
        last = given
    elif last is not None:
        # Entries that were undone do not count any more when this goes on after a kill.
        with contextlib.suppress(OSError):
            _write_note(folder, note | {"given": last})
    with pyramid.exclusive():
        while journal.undo() is not None:
            pass
        if last is not None and isinstance(highest, int):
            pyramid.release(last, highest)


def _write_note(folder: Path, note: dict[str, Any]) -> None:
    """Write the note whole or not at all: where half of one lay, nobody would know whose folder it is."""
    unnamed = folder / f"{ADDITIONS}.new"
    unnamed.write_text(json.dumps(note))
    unnamed.replace(folder / ADDITIONS)


def _note_in(folder: Path) -> dict[str, Any]:
    try:
        note = json.loads((folder / ADDITIONS).read_bytes())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _inode(path: Path) -> int:
    return path.stat().st_ino
