"""JournalFile: lines that are appended and survive whatever moment the program is killed at.

Only a last line that was being written when the program was killed is ever cut off, and a copy of it is kept. Any other
damage is reported, and the file stays as it is.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from napari_sam.errors import LabelsError, OutputError
from napari_sam.files.locks import try_lock
from napari_sam.files.process_locks import process_lock
from napari_sam.journal.lines import Content as Content
from napari_sam.journal.lines import Lines, parse_lines
from napari_sam.journal.lines import format_line as format_line
from napari_sam.journal.lines import parse_line as parse_line
from napari_sam.labels.regions import one_line

LINES = "entries.jsonl"
# Where a last line that was cut off is kept.
CUT = "entries.jsonl.cut"
LOCK = "lock"
VERSION = 1


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
        self._process = os.getpid()
        self._end, self._is_ended, self._cut = 0, True, b""
        try:
            if not read_only:
                self._claim()
            self.header, self.lines = self._read(header is not None and not read_only)
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
        self._check_process()
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
        is_free = self._closing.enter_context(process_lock(self.folder / LOCK))
        lock_file = self.folder / LOCK
        if is_free and (lock_file.is_symlink() or not lock_file.is_file()):  # As in a folder that is read-only.
            with contextlib.suppress(OSError):
                lock = try_lock(self.folder)
                is_free = lock is not None
                if lock is not None:
                    self._closing.callback(lock.release)
        if not is_free:
            raise OutputError(
                f"The journal {self.folder} is in use by another program or window: close it there, or turn the "
                "journal off here."
            )

    def _read(self, may_be_new: bool) -> tuple[Content, list[Content]]:
        """Return the header and the other lines; nothing is changed yet."""
        raw = self._raw(may_be_new)
        found = parse_lines(raw)
        self._end, self._is_ended = found.end, found.is_ended
        if found.rest:
            self._check_rest(found)
        if not found.contents:
            if not may_be_new:
                raise LabelsError(f"The journal {self.folder} is empty: there is nothing to read in it.")
            return {}, []
        header = found.contents[0]
        if header.get("journal") != VERSION:
            raise LabelsError(
                f"The journal {self.folder} is of version {header.get('journal')!r}, and this program reads version "
                f"{VERSION}: use a newer program."
            )
        return header, found.contents[1:]

    def _raw(self, may_be_new: bool) -> bytes:
        try:
            if os.path.lexists(self.path) and not self.path.is_file():  # A pipe would be waited for.
                raise LabelsError(f"{self.path} is not a file that a journal could be in: name another folder.")
            return self.path.read_bytes()
        except FileNotFoundError:
            if not may_be_new:
                raise LabelsError(f"There is no journal in {self.folder}: check the path.") from None
            return b""
        except OSError as error:
            raise LabelsError(f"The journal {self.path} cannot be read ({one_line(error)}): check the path.") from error

    def _check_rest(self, found: Lines) -> None:
        """Take an unfinished last line as cut off, and refuse anything else that is not a line of a journal."""
        if found.is_cut_off:
            self._cut = b"" if found.is_cut_mark else found.rest
            if self._cut and found.contents:
                self.trouble = self._trouble_of("is left out")
        elif found.is_utf_16:
            raise LabelsError(
                f"{self.path} was saved as UTF-16 by another program, which no journal can be: save it as UTF-8, or "
                "put the file back from a copy."
            )
        elif not found.contents:
            raise LabelsError(
                f"{self.path} is not a journal of this program, or its first line is damaged: put the file back from a "
                "copy, or name another folder."
            )
        else:
            follows = any(parse_line(line.rstrip(b"\r")) is not None for line in found.rest.split(b"\n")[1:])
            others = " and others follow it" if follows else ""
            raise LabelsError(
                f"Line {found.number} of {self.path} is damaged{others}: put the file back from a copy; cut before "
                "that line it holds what was done until then."
            )

    def _open(self, header: Content) -> None:
        try:
            is_new = not self.path.exists()
            if self._cut:
                self._keep_copy(self._cut)
                self.trouble = self.trouble and self._trouble_of(f"was moved to {CUT}")
            self._handle = self.path.open("ab", buffering=0)
            self._handle.truncate(self._end)
            if not self._is_ended:
                self._end += self._handle.write(b"\n")
            if not self.header:
                self.header = {"journal": VERSION, **header}
                self._write(self.header)
                self.flush()
            if is_new and os.name == "posix":
                _sync_folder(self.folder)
        except OSError as error:
            raise self._not_written(error) from error

    def _trouble_of(self, done: str) -> str:
        return (
            f"The last line of the journal {self.folder} was cut off when a program was stopped, and what was being "
            f"written then {done}: look whether the last object is there."
        )

    def _keep_copy(self, cut: bytes) -> None:
        with (self.folder / CUT).open("ab") as file:
            file.write(cut + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise OutputError(
                f"The journal {self.folder} was opened before this process was forked, and the parent process still "
                "writes to it: write there, or open another journal in this process."
            )

    def _write(self, content: Content) -> None:
        if self._handle is None:
            raise OutputError(f"The journal {self.folder} was opened to be read only: open it for writing.")
        self._check_process()
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


def _sync_folder(folder: Path) -> None:
    # Without it a power cut may lose the name of a file whose content is on the disk.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
