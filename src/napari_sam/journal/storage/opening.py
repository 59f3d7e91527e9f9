"""Opening: the database in the folder of a journal, made where there is none, or converted from an earlier log.

One program at a time writes to a folder. A log of an earlier version stays in it as it is: the database is made beside
it under another name and renamed when it is whole, so a conversion that is killed has not happened.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from napari_sam.errors import LabelsError, OutputError
from napari_sam.files.locks import try_lock
from napari_sam.files.process_locks import process_lock
from napari_sam.journal.storage.database import Database
from napari_sam.journal.storage.files import NAME, not_written, remove_unfinished
from napari_sam.journal.storage.former_log import LINES, FormerLog, history_of, is_continued, read_log
from napari_sam.journal.storage.history import History
from napari_sam.journal.storage.schema import Content, create

LOCK = "lock"
# The file of a journal, and that of an earlier version.
FILES = (NAME, LINES)


@dataclass(frozen=True, slots=True)
class Opened:
    """The history of a journal that was opened.

    Parameters
    ----------
    history
        The history.
    trouble
        What the user should know of the opening, as one sentence, or None.
    lock
        Closed when other programs may write.
    converted_from
        The log of an earlier version that was converted just now, and stays as it is; or None.
    """

    history: History
    trouble: str | None
    lock: ExitStack
    converted_from: Path | None = None


def open_history(folder: Path | None, about: Content, *, read_only: bool, durable: bool) -> Opened:
    """Open the journal in a folder, or make one.

    Parameters
    ----------
    folder
        The folder, made where there is none unless it is only read; None for a journal in memory.
    about
        Description of the image, for a new journal.
    read_only
        Change nothing; others may write meanwhile.
    durable
        Wait for the disk at every operation.

    Raises
    ------
    LabelsError
        There is no journal to read, or it is damaged or of another version.
    OutputError
        Another program has it open, or its folder cannot be written to.
    """
    if folder is None:
        return Opened(History(Database(None, about=about)), None, ExitStack())
    if read_only:
        return _read(folder)
    with ExitStack() as lock:
        _hold(folder, lock)
        log = _prepare(folder, about)
        database = Database(folder / NAME, durable=durable)
        try:
            history = History(database)
        except BaseException:
            database.close()
            raise
        trouble = _cut_trouble(folder) if log and log.cut else _trouble_of(folder, history)
        return Opened(history, trouble, lock.pop_all(), folder / LINES if log else None)


def _read(folder: Path) -> Opened:
    if os.path.lexists(folder / NAME):
        history = History(Database(folder / NAME, read_only=True))
        return Opened(history, _trouble_of(folder, history), ExitStack())
    if not os.path.lexists(folder / LINES):
        raise LabelsError(f"There is no journal in {folder}: check the path.")
    log = read_log(folder / LINES)
    if log is None:
        raise LabelsError(f"The journal {folder} is empty: there is nothing to read in it.")
    return Opened(history_of(log, folder / LINES), _cut_trouble(folder) if log.cut else None, ExitStack())


def _prepare(folder: Path, about: Content) -> FormerLog | None:
    """Make the database of a folder where there is none, and return the log that it was made of, or None."""
    path = folder / NAME
    try:
        remove_unfinished(folder)
    except OSError as error:
        raise not_written(folder, error) from error
    if os.path.lexists(path):
        return None
    log = read_log(folder / LINES) if os.path.lexists(folder / LINES) else None
    if log is None:
        create(path, about)
        return None
    history_of(log, folder / LINES).database.save(path)
    return log


def _hold(folder: Path, lock: ExitStack) -> None:
    """Keep other programs from writing to a folder, where its file system has locks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(folder, error) from error
    is_free = lock.enter_context(process_lock(folder / LOCK))
    lock_file = folder / LOCK
    if is_free and (lock_file.is_symlink() or not lock_file.is_file()):
        with contextlib.suppress(OSError):
            held = try_lock(folder)
            is_free = held is not None
            if held is not None:
                lock.callback(held.release)
    if not is_free:
        raise OutputError(
            f"The journal {folder} is in use by another program or window: close it there, or turn the journal off "
            "here."
        )
    try:
        with tempfile.TemporaryFile(dir=folder):  # A folder may be read-only that has no lock file of ours.
            pass
        if (folder / NAME).is_file():
            (folder / NAME).open("rb+").close()
    except OSError as error:
        raise not_written(folder, error) from error


def _trouble_of(folder: Path, history: History) -> str | None:
    if is_continued(history, folder):
        return (
            f"An earlier version has written to {folder / LINES} since it was converted, and this is not in the "
            f"journal: to take it over instead of {NAME}, move that file away."
        )
    return None


def _cut_trouble(folder: Path) -> str:
    return (
        f"The last line of the journal {folder / LINES} was cut off when a program was stopped, and what was being "
        "written then is left out: look whether the last object is there."
    )
