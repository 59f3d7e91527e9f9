"""Schema: the tables of a journal, and connections on which nothing from a file is executed."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from napari_sam.journal.storage.files import APPLICATION_ID, VERSION, building, damaged, newer

Content = dict[str, Any]
Row = tuple[Any, ...]

SCHEMA = (
    # One row: what is said of the image, and of the log of an earlier version that the journal was made of.
    "CREATE TABLE about (content TEXT NOT NULL, former TEXT)",
    # One row: the last entry that took effect, how many entries and objects count, and which may not be in the labels.
    "CREATE TABLE state (number INTEGER NOT NULL, done INTEGER NOT NULL, objects INTEGER NOT NULL, pending TEXT NOT "
    "NULL)",
    # State 1: done, 2: undone; NULL: dropped, or a step back or forth itself.
    "CREATE TABLE entries (n INTEGER PRIMARY KEY, state INTEGER, content TEXT NOT NULL, crc INTEGER NOT NULL, back "
    "TEXT NOT NULL)",
    "CREATE INDEX entries_by_state ON entries (state, n) WHERE state IS NOT NULL",
    "CREATE TABLE objects (label INTEGER PRIMARY KEY, class INTEGER, area INTEGER NOT NULL, iou REAL, place TEXT NOT "
    "NULL, changed TEXT NOT NULL, content TEXT NOT NULL, crc INTEGER NOT NULL)",
    # Narrow, since a position in the table is found by counting.
    "CREATE INDEX objects_by_label ON objects (label)",
    "CREATE INDEX objects_by_class ON objects (class, label) WHERE class IS NOT NULL",
    "CREATE TABLE classes (number INTEGER PRIMARY KEY, name TEXT NOT NULL, red REAL NOT NULL, green REAL NOT NULL, "
    "blue REAL NOT NULL)",
)
# Of one text or blob; an entry of 10 000 x 10 000 pixels of noise has about 20 MB.
MAX_BYTES = 2**28
# How long a writer waits for readers, which are done in milliseconds. A reader that waits reads a copy instead.
WRITER_SECONDS, READER_SECONDS = 10.0, 0.2


def create(path: Path, about: Content) -> None:
    """Make the database of a new journal, whole or not at all.

    Parameters
    ----------
    path
        The file; the folder exists.
    about
        Description of the image.

    Raises
    ------
    OutputError
        The disk is full or refuses.
    """
    with building(path) as unfinished, contextlib.closing(connect(str(unfinished))) as connection:
        make_quick(connection)
        make_schema(connection, about)


def check_schema(connection: sqlite3.Connection, name: str) -> None:
    """Refuse anything but the tables of this version: no trigger, view or column more.

    Raises
    ------
    LabelsError
        The tables are others.
    """
    found = {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if found != set(SCHEMA) or count != len(SCHEMA):
        raise damaged(name, "its tables are not those of a journal")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        raise newer(name, version)


def make_quick(connection: sqlite3.Connection) -> None:
    """Let a database that is removed when it is not finished be written without waiting for the disk."""
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA journal_mode=OFF")


def parse_about(row: Row | None, path: Path | None) -> Content:
    """Return the content of the table `about`.

    Raises
    ------
    LabelsError
        It is not a JSON object.
    """
    try:
        content = json.loads(row[0]) if row else None
    except (ValueError, TypeError, RecursionError):
        content = None
    shape = content.get("shape", []) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(shape, list) or not all(type(n) is int for n in shape):
        raise damaged(str(path), "it does not say which image it is of")
    return content


def make_schema(connection: sqlite3.Connection, about: Content) -> None:
    """Make the tables of a new journal."""
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    for statement in SCHEMA:
        connection.execute(statement)
    content = json.dumps({"journal": VERSION, **about}, separators=(",", ":"), allow_nan=False)
    connection.execute("INSERT INTO about VALUES (?, NULL)", (content,))
    connection.execute("INSERT INTO state VALUES (0, 0, 0, '[]')")


def address_of(path: Path, options: str) -> str:
    """Return a path as SQLite takes it with options; in bytes, since names on a disk need not be valid UTF-8."""
    return f"file:{quote(os.fsencode(path.absolute()))}?{options}"


def connect(address: str, seconds: float = WRITER_SECONDS) -> sqlite3.Connection:
    """Return a connection on which nothing from the file is executed, and which any thread may use in its turn."""
    connection = sqlite3.connect(
        address,
        uri=address.startswith("file:"),
        timeout=seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def code_of(error: sqlite3.Error) -> int:
    """Return the primary result code of SQLite, or 0 where the error has none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
