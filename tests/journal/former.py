"""Logs as earlier versions wrote them, made of journals of this version."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

from napari_sam.journal.storage.files import NAME
from napari_sam.journal.storage.former_log import LINES


def format_line(content: dict[str, Any]) -> bytes:
    """Return content as a line with its checksum."""
    inner = json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")
    return b'["%08x",%b]\n' % (zlib.crc32(inner), inner)


def former_log_of(folder: Path, **header: Any) -> bytes:
    """Return the log of a closed journal: a line for the image, then each entry with the mark that it is written."""
    with closing(sqlite3.connect(folder / NAME)) as connection:
        about = json.loads(connection.execute("SELECT content FROM about").fetchone()[0])
        entries = [json.loads(row[0]) for row in connection.execute("SELECT content FROM entries ORDER BY n")]
    lines = [{**about, "journal": 1, **header}]
    for entry in entries:
        lines += [entry, {"written": entry["n"]}]
    return b"".join(format_line(line) for line in lines)


def as_former(folder: Path, **header: Any) -> Path:
    """Put the log in the place of the database of a journal, and return its path."""
    (folder / LINES).write_bytes(former_log_of(folder, **header))
    (folder / NAME).unlink()
    return folder / LINES
