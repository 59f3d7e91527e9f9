"""Lines of a journal: written with a checksum, and read back however an editor or a transfer changed their ends.

A line is the JSON list [checksum, content], the checksum being the CRC-32 of the content's own bytes in hexadecimal.
"""

from __future__ import annotations

import codecs
import json
import zlib
from dataclasses import dataclass
from typing import Any

Content = dict[str, Any]
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
    is_ended
        Whether the last of them ends with a newline.
    rest
        The bytes that follow them.
    number
        The number of the line that the rest begins with, from 1 on.
    """

    contents: list[Content]
    end: int
    is_ended: bool
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
    return Lines(contents, start, raw[start - 1 : start] == b"\n" or start == 0, raw[start:], number)


def _is_beginning(line: bytes, inner: bytes) -> bool:
    """Return whether bytes are the beginning of a line whose content begins in a certain way."""
    known = b'["' + b"0" * 8 + b'",' + inner
    shown = bytes(
        ord("0") if 2 <= at < 10 and letter in _HEXADECIMAL else letter for at, letter in enumerate(line[: len(known)])
    )
    return known.startswith(shown)
