"""Database: the SQLite file of a journal, its schema, and transactions that survive a kill at any moment.

Transactions go to a write-ahead log (WAL) beside the file, which costs one wait for the disk each; a rollback journal
costs four. The connection locks the file exclusively, so the log needs no memory shared between processes, which
network file systems do not have. A closed journal is one file without a log.

The file is untrusted input: nothing in it is executed. A file whose schema differs in any way from the one below,
such as by a trigger or a view, is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_sam.errors import LabelsError, OutputError, one_line
from napari_sam.journal.storage.files import (
    building,
    check_file,
    damaged,
    has_locks,
    is_written,
    log_of,
    not_written,
    snapshot,
)
from napari_sam.journal.storage.schema import (
    READER_SECONDS,
    WRITER_SECONDS,
    Content,
    Row,
    address_of,
    check_schema,
    code_of,
    connect,
    make_quick,
    make_schema,
    parse_about,
)

# Pages in the log, 16 MB, at which its content is moved into the file: about every 500 operations.
CHECKPOINT_PAGES = 4000


class Database:
    """The database of a journal: in a file, or in memory.

    Parameters
    ----------
    path
        The file, which exists; None for a database in memory.
    read_only
        Change nothing on the disk. While another connection writes, or after one was killed, a copy is read.
    durable
        Wait for the disk in transactions that ask for it.
    about
        Description of the image, for a database in memory.

    Attributes
    ----------
    lock
        Held by one thread at a time, during a query or a transaction.

    Raises
    ------
    LabelsError
        The file is damaged, no journal, or of a newer version.
    OutputError
        It cannot be opened for writing.
    """

    def __init__(
        self, path: Path | None, *, read_only: bool = False, durable: bool = True, about: Content | None = None
    ) -> None:
        self.path, self.read_only, self.durable = path, read_only, durable
        self.lock = threading.RLock()
        self._process = os.getpid()
        self._has_log = False
        self._is_synced: bool | None = None
        # What is left to do where nobody closes it: close the connection, remove the copy.
        self._leaving: list[weakref.finalize[Any, Any]] = []
        self._connection: sqlite3.Connection | None = None
        self._about = about or {}
        self._reader: Database | None = None
        try:
            self._connect()
        except BaseException:
            self._disconnect()
            raise
        _open_here.add(self)

    @property
    def is_open(self) -> bool:
        """Whether this process has a connection."""
        return self._readable() is not None

    @property
    def is_copy(self) -> bool:
        """Whether changes are made to a copy that nobody else sees."""
        return self.path is None or (self.read_only and not self._is_direct)

    def rows(self, statement: str, *values: Any) -> list[Row]:
        """Return all rows of a query.

        Raises
        ------
        LabelsError
            The database is damaged, or its disk cannot be read.
        """
        with self.lock:
            connection = self._readable()
            if connection is None:
                return self._read_anew().rows(statement, *values)
            try:
                return connection.execute(statement, values).fetchall()
            except OverflowError as error:
                raise damaged(self.name, "a number is too large") from error
            except sqlite3.Error as error:
                if not (self.read_only and code_of(error) == sqlite3.SQLITE_BUSY and self._is_direct):
                    raise self.not_read(error) from error
            # Another program has begun to write since the file was opened.
            self._disconnect()
            self._connect()
            return self.rows(statement, *values)

    def row(self, statement: str, *values: Any) -> Row | None:
        """Return the first row of a query, or None; errors as in `rows`."""
        return self.row_at(statement, 0, *values)

    def row_at(self, statement: str, position: int, *values: Any) -> Row | None:
        """Return the row of a query at a position, or None; errors as in `rows`."""
        found = self.rows(f"{statement} LIMIT 1 OFFSET {int(position)}", *values)
        return found[0] if found else None

    @contextmanager
    def transaction(self, *, synced: bool = False) -> Iterator[sqlite3.Connection]:
        """Change several rows or none.

        Parameters
        ----------
        synced
            Wait until the disk has the transaction, where the journal is durable; otherwise a power cut may undo it,
            but no end of the program does.

        Raises
        ------
        OutputError
            The disk is full or refuses; the database is as it was.
        """
        with self.lock:
            connection = self._writable()
            try:
                # In a rollback journal every transaction has to wait, or a power cut may damage the file.
                is_synced = (synced and self.durable) or not self._has_log
                if is_synced != self._is_synced:
                    connection.execute("PRAGMA synchronous=FULL" if is_synced else "PRAGMA synchronous=NORMAL")
                    self._is_synced = is_synced
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    connection.rollback()
                if isinstance(error, sqlite3.Error):
                    raise self._not_written(error) from error
                if isinstance(error, OverflowError):
                    raise LabelsError("A journal holds labels below 2**63: choose a smaller one.") from error
                raise

    def flush(self) -> None:
        """Wait until the disk has everything.

        Raises
        ------
        OutputError
            It refuses.
        """
        if self.path is None or not self._has_log:
            return
        try:
            handle = os.open(log_of(self.path), os.O_RDWR)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._not_written(error) from error

    def copy_into(self, connection: sqlite3.Connection) -> None:
        """Copy all of the database into an empty one."""
        with self.lock:
            if self._connection is not None:
                self._connection.backup(connection)

    def save(self, path: Path) -> None:
        """Copy a database in memory into a new file, whole or not at all.

        Raises
        ------
        OutputError
            The disk is full or refuses.
        """
        with building(path) as unfinished, contextlib.closing(connect(str(unfinished))) as connection:
            make_quick(connection)
            self.copy_into(connection)

    def close(self) -> None:
        """Move the log into the file and release it; later reads come from the disk."""
        with self.lock:
            if self._connection is not None and self._process == os.getpid() and self._has_log:
                # Where the disk is full the log stays, and is read when the journal is opened next.
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA synchronous=NORMAL")
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    self._switch_log("DELETE")
            if self.path is not None:
                self._disconnect()
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def not_read(self, error: BaseException) -> LabelsError:
        """Return what to raise for an error of reading."""
        if isinstance(error, sqlite3.Error) and code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR):
            return LabelsError(f"The journal {self.name} cannot be read ({one_line(error)}): try again.")
        return damaged(self.name, one_line(error))

    @property
    def name(self) -> str:
        """How messages name it."""
        return "in memory" if self.path is None else str(self.path)

    def _not_written(self, error: BaseException) -> LabelsError | OutputError:
        if isinstance(error, sqlite3.Error) and code_of(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return damaged(self.name, one_line(error))
        return not_written("in memory" if self.path is None else self.path.parent, error)

    def _readable(self) -> sqlite3.Connection | None:
        return self._connection if self._process == os.getpid() else None

    def _read_anew(self) -> Database:
        """Return a connection of its own for a journal that is closed, or was opened by the parent process."""
        if self._reader is None or self._reader._process != os.getpid():
            if self.path is None:
                raise LabelsError("The journal in memory was made before this process was forked: make one here.")
            self._reader = Database(self.path, read_only=True)
        return self._reader

    def _writable(self) -> sqlite3.Connection:
        if self._process != os.getpid():
            raise OutputError(
                f"The journal {self.name} was opened before this process was forked, and the parent process still "
                "writes to it: write there, or open another journal in this process."
            )
        if self._connection is None or (self.read_only and not self.is_copy):
            raise OutputError(f"The journal {self.name} was opened to be read only: open it for writing.")
        if not self._has_log and self.path is not None and not self.read_only:
            try:
                self._switch_log("WAL")
            except sqlite3.Error as error:
                raise self._not_written(error) from error
        return self._connection

    def _switch_log(self, mode: str) -> None:
        """Switch between the log and none; the one page that this changes cannot be half written."""
        assert self._connection is not None
        self._connection.execute("PRAGMA synchronous=OFF")
        self._is_synced = None
        found = self._connection.execute(f"PRAGMA journal_mode={mode}").fetchone()
        self._has_log = found[0] == "wal"

    def _connect_to(self, address: str, seconds: float = WRITER_SECONDS) -> sqlite3.Connection:
        self._connection = connect(address, seconds)
        self._leaving.append(weakref.finalize(self, _close, self._connection, os.getpid()))
        return self._connection

    def _connect(self) -> None:
        path, self._is_direct = self.path, True
        if path is None:
            make_schema(self._connect_to(":memory:"), self._about)
            return
        if self.read_only and (writer := _writer_of(path)) is not None:
            # Opening the file here would end the locks that this process has on it, whoever holds them.
            self._is_direct = False
            writer.copy_into(self._connect_to(":memory:"))
            return
        check_file(path)
        if self.read_only and is_written(path):
            self._is_direct = False
            folder = Path(tempfile.mkdtemp(prefix="napari-sam-"))
            self._leaving.append(weakref.finalize(self, _remove_folder, folder, os.getpid()))
            path = snapshot(path, folder)
        mode = "ro" if self.read_only and self._is_direct else "rw"
        address = address_of(path, f"mode={mode}" if has_locks(path) else f"mode={mode}&nolock=1")
        try:
            connection = self._connect_to(address, READER_SECONDS if mode == "ro" else WRITER_SECONDS)
            connection.execute("PRAGMA query_only=ON" if mode == "ro" else "PRAGMA locking_mode=EXCLUSIVE")
            check_schema(connection, self.name)
            self._has_log = connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        except sqlite3.Error as error:
            if code_of(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL):
                raise self._not_written(error) from error
            raise self.not_read(error) from error

    def _disconnect(self) -> None:
        if self._process == os.getpid():
            self._connection, self._has_log = None, False
            while self._leaving:
                self._leaving.pop()()


def _close(connection: sqlite3.Connection, process: int) -> None:
    if os.getpid() == process:
        with contextlib.suppress(sqlite3.Error):
            connection.close()


def _remove_folder(folder: Path, process: int) -> None:
    if os.getpid() == process:  # A forked child leaves it to its parent.
        shutil.rmtree(folder, ignore_errors=True)


def read_about(path: Path) -> Content | None:
    """Return what a journal says of its image, also while it is written; None where that cannot be read."""
    try:
        writer = _writer_of(path)
        if writer is not None:
            return parse_about(writer.row("SELECT content FROM about"), path)
        check_file(path)
        # The row is never changed after the file was made, so no lock is needed and the log need not be read.
        with contextlib.closing(connect(address_of(path, "mode=ro&immutable=1"))) as connection:
            return parse_about(connection.execute("SELECT content FROM about LIMIT 1").fetchone(), path)
    except (LabelsError, sqlite3.Error):
        return None


def _writer_of(path: Path) -> Database | None:
    """Return the database of this process that has a file open for writing, or None."""
    for database in list(_open_here):
        known = None if database.read_only or not database.is_open else database.path
        if known is not None and os.path.realpath(known) == os.path.realpath(path):
            return database
    return None


_open_here: weakref.WeakSet[Database] = weakref.WeakSet()


def _abandon_connections() -> None:
    """Keep a forked child from ever closing connections of its parent, which would move the log of the parent away."""
    for database in list(_open_here):
        database.lock = threading.RLock()
        if database._connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(database._connection))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_connections)
