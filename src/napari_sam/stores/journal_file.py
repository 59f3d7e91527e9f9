"""JournalFile: lines that are appended and survive whatever moment the program is killed at.

A line is the JSON list [checksum, content], the checksum being the CRC-32 of the content's own bytes in hexadecimal. A
line that was being written when the program was killed fails it and is dropped; all before it are whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

from napari_sam.errors import LabelsError, OutputError
from napari_sam.stores.boxes import one_line
from napari_sam.stores.claims import claim

LINES = "entries.jsonl"
LOCK = "lock"
VERSION = 1
_START = 12
# A mark that was cut off is no loss.
MARK = b'{"written"'
Content = dict[str, Any]


class JournalFile:
    """The lines of a journal, in a folder that one program at a time writes to.

    Parameters
    ----------
    folder
        Made where there is none, unless it is only read.
    header
        What the first line of a new journal says of the image and the labels.
    read_only
        Change nothing, not even a line that was cut off; others may write meanwhile.
    durable
        Wait after every line until the disk has it, which survives a power cut; otherwise that is left to `flush`,
        and a line survives the end of the program only.

    Attributes
    ----------
    header
        Content of the first line.
    lines
        Content of the others.
    trouble
        What was dropped on opening, as one sentence, or None.

    Raises
    ------
    LabelsError
        There is no journal, another version wrote it, or a line in its middle is damaged.
    OutputError
        Another program writes to it, or it cannot be written.
    """

    def __init__(
        self, folder: Path, header: Content | None = None, *, read_only: bool = False, durable: bool = True
    ) -> None:
        self.folder, self.path = folder, folder / LINES
        self.durable = durable
        self.trouble: str | None = None
        self._closing = contextlib.ExitStack()
        self._handle: Any = None
        self._unended = False
        try:
            if not read_only:
                self._claim()
            self.header, self.lines, self._end = self._read(header is not None and not read_only)
            if not read_only:
                self._open(header or {})
        except BaseException:
            self.close()
            raise
        self._before_last = self._end

    def append(self, content: Content) -> None:
        """Add a line, which is on the disk when this returns.

        Raises
        ------
        OutputError
            The disk is full or refuses, or the journal is only read; it is as it was then.
        """
        self._write(content)
        if self.durable:
            try:
                self.flush()
            except OutputError:
                self.drop_last()
                raise

    def mark(self, content: Content) -> None:
        """Add a line that may be lost in a power cut; where it cannot be written it is left out."""
        before = self._before_last
        with contextlib.suppress(OutputError):
            self._write(content)
        self._before_last = before

    def drop_last(self) -> None:
        """Take back the last line that was appended, and its mark."""
        self._handle.truncate(self._before_last)
        self._end = self._before_last

    def flush(self) -> None:
        """Wait until the disk has all lines.

        Raises
        ------
        OutputError
            It refuses.
        """
        try:
            os.fsync(self._handle.fileno())
        except OSError as error:
            raise self._not_written(error) from error

    def close(self) -> None:
        """Let other programs write to the journal; without lines it is removed."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        self._closing.close()

    def _claim(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_written(error) from error
        if not self._closing.enter_context(claim(self.folder / LOCK)):
            raise OutputError(
                f"The journal {self.folder} is in use by another program or window: close it there, or turn the "
                "journal off here."
            )

    def _read(self, may_be_new: bool) -> tuple[Content, list[Content], int]:
        """Return the header, the other lines and the length of what is whole."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            raw = b""
            if not may_be_new:
                raise LabelsError(f"There is no journal in {self.folder}: check the path.") from None
        except OSError as error:
            raise LabelsError(f"The journal {self.path} cannot be read ({one_line(error)}): check the path.") from error
        lines, end = _whole_lines(raw)
        self._unended = end > 0 and raw[end - 1 : end] != b"\n"
        if end < len(raw):
            self._check_tail(raw[end:], len(lines) + 1)
            if not raw[end + _START :].startswith(MARK):
                self.trouble = (
                    f"The last line of the journal {self.folder} was cut off when a program was stopped, and what was "
                    "being written then is left out: look whether the last object is there."
                )
        if not lines:
            if not may_be_new:
                raise LabelsError(f"The journal {self.folder} is empty: there is nothing to read in it.")
            return {}, [], end
        header = lines[0]
        if header.get("journal") != VERSION:
            raise LabelsError(
                f"The journal {self.folder} is of version {header.get('journal')!r}, and this program reads version "
                f"{VERSION}: use a newer program."
            )
        return header, lines[1:], end

    def _check_tail(self, tail: bytes, number: int) -> None:
        if any(parse_line(line) is not None for line in tail.split(b"\n")[1:]):
            raise LabelsError(
                f"Line {number} of {self.path} is damaged and others follow it: put the file back from a "
                "copy; cut before that line it holds what was done until then."
            )

    def _open(self, header: Content) -> None:
        try:
            is_new = not self.path.exists()
            self._handle = self.path.open("ab", buffering=0)
            self._handle.truncate(self._end)
            if self._unended:
                self._end += self._handle.write(b"\n")
            if not self.header:
                self.header = {"journal": VERSION, **header}
                self._write(self.header)
                self.flush()
            if is_new and os.name == "posix":
                _sync_folder(self.folder)
        except OSError as error:
            raise self._not_written(error) from error

    def _write(self, content: Content) -> None:
        if self._handle is None:
            raise OutputError(f"The journal {self.folder} was opened to be read only: open it for writing.")
        left = memoryview(format_line(content))
        start = self._end
        try:
            while left:
                written = self._handle.write(left)
                self._end += written
                left = left[written:]
        except OSError as error:
            self._end = start
            with contextlib.suppress(OSError):
                self._handle.truncate(start)
            raise self._not_written(error) from error
        self._before_last = start

    def _not_written(self, error: OSError) -> OutputError:
        return OutputError(
            f"The journal {self.folder} cannot be written ({one_line(error)}): make space on the disk or check its "
            "permissions, then try again."
        )


def format_line(content: Content) -> bytes:
    """Return content as a line with its checksum."""
    inner = json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")
    return b'["%08x",%b]\n' % (zlib.crc32(inner), inner)


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


def _whole_lines(raw: bytes) -> tuple[list[Content], int]:
    lines: list[Content] = []
    start = 0
    while (stop := raw.find(b"\n", start)) >= 0:
        content = parse_line(raw[start:stop])
        if content is None:
            return lines, start
        lines.append(content)
        start = stop + 1
    content = parse_line(raw[start:])  # All but its end may have come to the disk.
    return (lines, start) if content is None else ([*lines, content], len(raw))


def _sync_folder(folder: Path) -> None:
    # Without it a power cut may lose the name of a file whose content is on the disk.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
