"""Additions to labels on disk: all objects of a run, or none if it fails or is killed.

Before an edit is written it is appended to a log in a temporary folder beside the labels. Where the run fails, or at
the next opening of the labels after a kill, the edits of the log are taken back, the last one first.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from napari_sam.errors import LabelsError
from napari_sam.files.temporary import ADDITIONS, dead_folders, temporary_folder
from napari_sam.labels.edit import LabelEdit, Readable, plan_undo

LOG = "added.edits"
# Before each edit: its length and its checksum, four bytes each.
HEAD = 8


class LabelsOnDisk(Readable, Protocol):
    """A `LabelPyramid`, which imports this module."""

    path: Path

    def exclusive(self) -> AbstractContextManager[None]: ...

    def write_box(self, key: Any, values: Any) -> None: ...

    def release(self, label: int, highest: int) -> None: ...


class Logged(Protocol):
    """A `LabelArray`, which imports this module."""

    @property
    def array(self) -> Any: ...

    def logged_by(self, log: EditLog) -> AbstractContextManager[None]: ...


class EditLog:
    """Edits in a file, each there before it is in the labels.

    What was appended survives a crash of the program, but not of the machine.

    Parameters
    ----------
    file
        Opened for writing, without a buffer.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def append(self, edit: LabelEdit) -> None:
        """Append an edit.

        Raises
        ------
        LabelsError
            The disk refuses.
        """
        packed = edit.pack()
        head = len(packed).to_bytes(4, "little") + zlib.crc32(packed).to_bytes(4, "little")
        at = self._file.tell()
        try:
            if self._file.write(head + packed) != HEAD + len(packed):
                raise OSError("the disk is full")
        except OSError as error:
            with suppress(OSError):
                self._file.seek(at)
                self._file.truncate()
            raise LabelsError(
                f"The labels are not written, because what would take that back cannot be ({error.strerror or error}): "
                "make space on the disk, then try again."
            ) from error


def edits_in(path: Path, shape: tuple[int, ...]) -> list[LabelEdit]:
    """Return the edits of a log, in order; one that was cut off by a kill was not written into the labels.

    An edit that is damaged or reaches outside labels of this shape ends the log, too.
    """
    edits: list[LabelEdit] = []
    with suppress(OSError, ValueError):
        content, at = path.read_bytes(), 0
        while at + HEAD <= len(content):
            length, checksum = (int.from_bytes(content[at + i : at + i + 4], "little") for i in (0, 4))
            packed = content[at + HEAD : at + HEAD + length]
            if len(packed) < length or zlib.crc32(packed) != checksum:
                break
            edits.append(LabelEdit.unpack(packed, shape))
            at += HEAD + length
    return edits


@contextmanager
def adding_to(labels: Logged) -> Iterator[None]:
    """Take back all that is written into labels in this block where it does not end well.

    Where the process is killed in it, the next opening of the labels takes it back.

    Parameters
    ----------
    labels
        A `LabelArray` of a `LabelPyramid`.

    Raises
    ------
    LabelsError
        The folder of the labels cannot be written to.
    """
    pyramid: LabelsOnDisk = labels.array
    try:
        with temporary_folder(pyramid.path.parent) as folder:
            with (folder / LOG).open("xb", buffering=0) as file:
                _write_note(folder, {"labels": pyramid.path.name, "inode": pyramid.path.stat().st_ino})
                try:
                    with labels.logged_by(EditLog(file)):
                        yield
                except BaseException:
                    _take_back(folder, pyramid)
                    raise
            (folder / ADDITIONS).unlink()
    except OSError as error:
        raise LabelsError(
            f"The labels {pyramid.path} cannot be added to ({error.strerror or error}): make space on the disk or "
            "check the permissions of their folder, then try again."
        ) from error


def take_back_unfinished(pyramid: LabelsOnDisk) -> None:
    """Take back what runs that were killed had added to labels."""
    for folder in dead_folders(pyramid.path.parent):
        note = _note_in(folder)
        if note.get("labels") != pyramid.path.name:
            continue
        if note.get("inode") == pyramid.path.stat().st_ino:
            _take_back(folder, pyramid)
        (folder / ADDITIONS).unlink()


def _take_back(folder: Path, pyramid: LabelsOnDisk) -> None:
    """Undo all edits of a log and free their labels; where this is killed, it is done again from the start.

    Doing it again changes nothing more: every pixel goes back through the labels that it had, down to the first.
    """
    with pyramid.exclusive():
        for edit in reversed(edits_in(folder / LOG, pyramid.shape)):
            back = plan_undo(pyramid, edit)
            if not back.changes_nothing:
                pyramid.write_box(back.plane.slicer(back.box), back.plane.oriented(back.after))
            if edit.highest_before is not None:
                pyramid.release(edit.label, edit.highest_before)


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
