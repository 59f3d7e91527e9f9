"""Files of a database: what a journal may be opened from, how a new one comes to its place, and whole copies.

A journal that is open for writing, or was when its program was killed, is in two files: the database and its log.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_sam.errors import LabelsError, OutputError, one_line

NAME = "journal.sqlite"
# Made under this name and renamed when it is whole.
UNFINISHED = "journal.sqlite.new"
APPLICATION_ID = 0x6E53414D
VERSION = 2
LOG_HEADER = 32
FILE_HEADER = 100
SNAPSHOT_TRIES = 100


def check_file(path: Path) -> None:
    """Refuse what is not a file with the header of a journal, before SQLite opens it.

    Raises
    ------
    LabelsError
        It is not, or is of a newer version.
    """
    try:
        if not path.is_file():  # A pipe would be waited for.
            raise LabelsError(f"{path} is not a file that a journal could be in: name another folder.")
        with path.open("rb") as file:
            header = file.read(FILE_HEADER)
    except OSError as error:
        raise LabelsError(f"The journal {path} cannot be read ({one_line(error)}): check the path.") from error
    if len(header) < FILE_HEADER or not header.startswith(b"SQLite format 3\0"):
        raise LabelsError(
            f"{path} is not a journal of this program, or its beginning is damaged: put the file back from a copy, or "
            "name another folder."
        )
    application, version = (int.from_bytes(header[at : at + 4], "big") for at in (68, 60))
    if application != APPLICATION_ID:
        raise LabelsError(f"{path} is a database of another program: name another folder.")
    if version > VERSION:
        raise newer(str(path), version)


def damaged(name: str, reason: str) -> LabelsError:
    """Return what to raise for a journal whose content cannot be trusted."""
    return LabelsError(f"The journal {name} is damaged ({reason}): put the file back from a copy.")


def newer(name: str, version: Any) -> LabelsError:
    """Return what to raise for a journal of another version."""
    return LabelsError(
        f"The journal {name} is of version {version!r}, and this program reads versions 1 to {VERSION}: use a newer "
        "program."
    )


@contextmanager
def building(path: Path) -> Iterator[Path]:
    """Give a temporary path for a database, which is moved to its own when it is whole and on the disk.

    Raises
    ------
    OutputError
        The disk is full or refuses.
    """
    unfinished = path.with_name(UNFINISHED)
    try:
        remove_unfinished(path.parent)
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
        if os.name == "posix":
            sync_folder(path.parent)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            remove_unfinished(path.parent)
        raise not_written(path.parent, error) from error


def not_written(folder: Path | str, error: BaseException) -> OutputError:
    """Return what to raise where the disk refuses."""
    return OutputError(
        f"The journal {folder} cannot be written ({one_line(error)}): make space on the disk or check its "
        "permissions, then try again."
    )


def remove_unfinished(folder: Path) -> None:
    """Remove a database that was being made when its program was killed."""
    for path in folder.glob(f"{UNFINISHED}*"):
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder: a power cut may lose that of a file whose content it has."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def snapshot(path: Path, folder: Path) -> Path:
    """Copy a journal that is being written, or was when its program was killed, and return the copy.

    The file changes only where its log holds the same pages, and the log only grows until its header changes. So
    the file and then the log are a whole journal, if that header stayed.
    """
    copy = folder / NAME
    try:
        for _ in range(SNAPSHOT_TRIES):
            header = _log_header(path)
            shutil.copyfile(path, copy)
            for side, side_copy in zip(_side_files(path), _side_files(copy), strict=True):
                side_copy.unlink(missing_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(side, side_copy)
            if _log_header(path) == header:
                return copy
    except OSError as error:
        raise LabelsError(f"The journal {path} cannot be read ({one_line(error)}): check the path.") from error
    raise LabelsError(f"The journal {path} is being written all the time: close the program that writes to it.")


def log_of(path: Path) -> Path:
    """Return the write-ahead log of a database."""
    return path.with_name(f"{path.name}-wal")


def _side_files(path: Path) -> tuple[Path, Path]:
    # The second one is there while the log is switched on or off, and where there can be no log.
    return log_of(path), path.with_name(f"{path.name}-journal")


def is_written(path: Path) -> bool:
    """Return whether a journal is open for writing, or its program was killed: all of it is in two files then."""
    with path.open("rb") as file:
        header = file.read(FILE_HEADER)
    return any(side.exists() for side in _side_files(path)) or header[18:20] == b"\2\2"


def _log_header(path: Path) -> bytes:
    try:
        with log_of(path).open("rb") as file:
            return file.read(LOG_HEADER)
    except FileNotFoundError:
        return b""


def has_locks(path: Path) -> bool:
    """Return whether the file system has the locks that SQLite uses; some network shares refuse them."""
    if os.name != "posix":
        return True
    import fcntl

    with path.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        except OSError:
            return False
    return True
