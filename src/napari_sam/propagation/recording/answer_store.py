"""AnswerStore: what followers have found, by all that it depends on, so that no plane is followed twice."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.errors import OutputError, one_line
from napari_sam.journal.packing.arrays import pack_bits, unpack_bits
from napari_sam.journal.storage.schema import connect
from napari_sam.propagation.follower import Followed

APPLICATION_ID = 0x6E53464F
FILE_HEADER = 100
TABLE = (
    'CREATE TABLE IF NOT EXISTS answers (key BLOB, at INTEGER, "top" INTEGER, "left" INTEGER, bottom INTEGER, '
    '"right" INTEGER, bits TEXT, confidence REAL, PRIMARY KEY (key, at)) WITHOUT ROWID'
)
SELECT = 'SELECT "top", "left", bottom, "right", bits, confidence FROM answers WHERE key = ? AND at = ?'

Answer = tuple[bytes, int, Followed]


class AnswerStore:
    """The answers of followers, which a killed process leaves as they are.

    Parameters
    ----------
    path
        Its file, made where there is none. None for a temporary one, which is in memory as long as it is small.

    Raises
    ------
    OutputError
        The file is of another program, in use, or cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        if path is not None:
            check_answers(path)
        try:
            self._connection = self._opened()
        except sqlite3.DatabaseError as error:
            if path is None or isinstance(error, sqlite3.OperationalError):
                raise self._not_written(error) from error
            # Damaged: what it knew is found again.
            path.unlink(missing_ok=True)
            self._connection = self._opened()

    def get(self, key: bytes, at: int) -> Followed | None:
        """Return what was found of an object at a position along the axis; None if that is not known."""
        try:
            row = self._connection.execute(SELECT, (key, at)).fetchone()
            if row is None:
                return None
            *edges, bits, confidence = row
            box = Box(*map(int, edges))
            mask = Mask(box, unpack_bits(bits, box.pixel_shape), float(confidence))
            return Followed(mask, float(confidence))
        except (sqlite3.DatabaseError, ValueError, TypeError, AttributeError):
            return None  # Damaged: it is found again.

    def put(self, answers: Iterable[Answer]) -> None:
        """Store answers, all of them or none.

        Raises
        ------
        OutputError
            The disk is full, or refuses.
        """
        rows = [
            (key, at, *map(int, found.mask.box.as_tuple()), pack_bits(found.mask.pixels), found.confidence)
            for key, at, found in answers
        ]
        try:
            with self._connection:
                self._connection.execute("BEGIN")
                self._connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._not_written(error) from error

    def clear(self) -> None:
        """Forget all answers."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("DELETE FROM answers")

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _opened(self) -> sqlite3.Connection:
        # To SQLite no name is a temporary database, which goes to the disk where it gets large.
        connection = connect("" if self._path is None else str(self._path))
        try:
            # What is lost with the machine is found again; a killed process loses nothing. Whose file it is stands in
            # the file before anything is in its log.
            for pragma in ("synchronous=OFF", f"application_id={APPLICATION_ID}", "locking_mode=EXCLUSIVE"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute(TABLE)
            connection.execute("PRAGMA journal_mode=WAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _not_written(self, error: Exception) -> OutputError:
        where = "a temporary file" if self._path is None else str(self._path)
        return OutputError(
            f"What was followed cannot be kept in {where} ({one_line(error)}): end other runs on it, make room, or "
            "choose another place for the output."
        )


def check_answers(path: Path) -> None:
    """Refuse a file that is no store of answers.

    Raises
    ------
    OutputError
        It is of another program, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(FILE_HEADER)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({one_line(error)}): move it away.") from error
    is_ours = header.startswith(b"SQLite format 3\0") and int.from_bytes(header[68:72], "big") == APPLICATION_ID
    if header and not is_ours:
        raise OutputError(f"{path} is of another program, and it is not replaced: move it away.")
