"""FormerLog: journals as earlier versions wrote them, a text file that is read and converted once, and never changed.

A line is the JSON list [checksum, content], the checksum being the CRC-32 of the content's own bytes in hexadecimal.
"""

from __future__ import annotations

import codecs
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

from napari_sam.errors import LabelsError, one_line
from napari_sam.journal.codec import from_json
from napari_sam.journal.storage.database import Database
from napari_sam.journal.storage.files import newer
from napari_sam.journal.storage.history import History
from napari_sam.journal.storage.schema import Content

LINES = "entries.jsonl"
LOG_VERSION = 1
MAX_HEADER = 2**20
# A mark that was cut off is no loss.
MARK = b'{"written"'
_START = 12
_HEADER = b'{"journal":'
_HEXADECIMAL = b"0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Lines:
    """What the bytes of a journal hold.

    Parameters
    ----------
    contents
        Of the lines that verify, from the first one on.
    end
        How many bytes these lines take.
    rest
        The bytes that follow them.
    number
        The number of the line that the rest begins with, from 1 on.
    """

    contents: list[Content]
    end: int
    rest: bytes
    number: int

    @property
    def is_cut_off(self) -> bool:
        """Whether the rest is a line that was being written when the program was killed, and nothing else."""
        # A power cut may leave zeros where the bytes of a line have not come to the disk.
        rest = self.rest.rstrip(b"\0")
        beginning = b"{" if self.contents else _HEADER
        return b"\n" not in rest and _is_beginning(rest, beginning)

    @property
    def is_cut_mark(self) -> bool:
        """Whether the rest is a mark, which may be lost."""
        return self.rest[_START:].startswith(MARK)

    @property
    def is_utf_16(self) -> bool:
        """Whether a program has saved the journal as UTF-16."""
        return not self.contents and self.rest.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"[\0", b"\0["))


def parse_line(line: bytes) -> Content | None:
    """Return the content of a line without its end, or None where it is not whole."""
    inner = line[_START:-1]
    if line[:2] != b'["' or line[10:_START] != b'",' or line[-1:] != b"]" or line[2:10] != b"%08x" % zlib.crc32(inner):
        return None
    try:
        content = json.loads(inner)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def parse_lines(raw: bytes) -> Lines:
    """Read the lines of a journal up to the first that does not verify.

    Newlines may have become CRLF, empty lines and a byte order mark may have been added.
    """
    contents: list[Content] = []
    start = at = len(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else 0
    number = 1
    while at < len(raw):
        stop = raw.find(b"\n", at)
        line = raw[at : stop if stop >= 0 else len(raw)].removesuffix(b"\r")
        if line:
            content = parse_line(line)  # All of the last line but its end may have come to the disk.
            if content is None:
                break
            contents.append(content)
        at = stop + 1 if stop >= 0 else len(raw)
        number += 1
        start = at
    return Lines(contents, start, raw[start:], number)


def _is_beginning(line: bytes, inner: bytes) -> bool:
    """Return whether bytes are the beginning of a line whose content begins in a certain way."""
    known = b'["' + b"0" * 8 + b'",' + inner
    shown = bytes(
        ord("0") if 2 <= at < 10 and letter in _HEXADECIMAL else letter for at, letter in enumerate(line[: len(known)])
    )
    return known.startswith(shown)


@dataclass(frozen=True, slots=True)
class FormerLog:
    """The log of a journal as earlier versions wrote it.

    Parameters
    ----------
    header, contents
        Content of the first line, and of the others.
    size, crc
        Number of bytes of the file, and their CRC-32.
    cut
        A last line that was being written when a program was killed, and is left out.
    """

    header: Content
    contents: list[Content]
    size: int
    crc: int
    cut: bytes


def read_log(path: Path) -> FormerLog | None:
    """Read a log; None where the program was killed before its first line was whole, so that there is nothing in it.

    Raises
    ------
    LabelsError
        It is damaged, of another version, or cannot be read.
    """
    raw = _raw(path)
    found = parse_lines(raw)
    if found.rest:
        _check_rest(path, found)
    if not found.contents:
        return None
    header = found.contents[0]
    if header.get("journal") != LOG_VERSION:
        raise newer(str(path), header.get("journal"))
    cut = b"" if found.is_cut_mark else found.rest
    return FormerLog(header, found.contents[1:], len(raw), zlib.crc32(raw), cut)


def read_log_header(path: Path) -> Content | None:
    """Return what a log says of its image, or None where that cannot be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            found = parse_lines(file.readline(MAX_HEADER)).contents
    except OSError:
        return None
    return found[0] if found else None


def history_of(log: FormerLog, path: Path) -> History:
    """Return the history that a log holds, in a database in memory.

    Raises
    ------
    LabelsError
        A line is no entry, or is out of order.
    """
    about = {key: value for key, value in log.header.items() if key != "journal"}
    database = Database(None, about=about)
    with database.transaction() as connection:
        connection.execute("UPDATE about SET former = ?", (json.dumps({"size": log.size, "crc": log.crc}),))
    history = History(database)
    for at, line in enumerate(log.contents, start=2):
        try:
            if "written" in line:
                history.mark(int(line["written"]))
                continue
            entry = from_json(line)
        except (ValueError, TypeError) as error:
            raise LabelsError(
                f"Line {at} of {path} is not understood: put the file back from a copy, or use a newer program."
            ) from error
        try:
            history.intend(entry)
        except LabelsError as error:
            raise LabelsError(str(error).replace(database.name, str(path))) from error
        history.take(entry, is_written=False)
    return history


def is_continued(history: History, folder: Path) -> bool:
    """Return whether an earlier version has written to the log since it was converted."""
    found = history.database.row("SELECT former FROM about")
    if found is None or found[0] is None:
        return False
    try:
        return bool((folder / LINES).stat().st_size != json.loads(found[0])["size"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def _raw(path: Path) -> bytes:
    try:
        if not path.is_file():  # A pipe would be waited for.
            raise LabelsError(f"{path} is not a file that a journal could be in: name another folder.")
        return path.read_bytes()
    except OSError as error:
        raise LabelsError(f"The journal {path} cannot be read ({one_line(error)}): check the path.") from error


def _check_rest(path: Path, found: Lines) -> None:
    """Accept an unfinished last line as cut off, and refuse anything else that is not a line of a log."""
    if found.is_cut_off:
        return
    if found.is_utf_16:
        raise LabelsError(
            f"{path} was saved as UTF-16 by another program, which no journal can be: save it as UTF-8, or put the "
            "file back from a copy."
        )
    if not found.contents:
        raise LabelsError(
            f"{path} is not a journal of this program, or its first line is damaged: put the file back from a copy, or "
            "name another folder."
        )
    follows = any(parse_line(line.rstrip(b"\r")) is not None for line in found.rest.split(b"\n")[1:])
    others = " and others follow it" if follows else ""
    raise LabelsError(
        f"Line {found.number} of {path} is damaged{others}: put the file back from a copy; cut before that line it "
        "holds what was done until then."
    )
