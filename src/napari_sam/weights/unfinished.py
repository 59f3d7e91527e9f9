"""The unfinished file of a download, and the note beside it that proves whose it is."""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

_KEY, _VALUE = "napari-sam", "an unfinished download, which the next one goes on with"


class Unfinished:
    """What came of a file so far: .NAME-DIGITS.part, with a note .NAME-DIGITS.part.json that is made before it.

    The digits are random and both files are made exclusively, so only files with such a note are gone on with or
    removed, and no file of the user. Whoever changes them holds the lock of the download.

    Parameters
    ----------
    target
        Where the file will be.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._digits = ""
        self.look()

    def look(self) -> None:
        """Look for what an earlier attempt, or another process, left."""
        ours = self._ours()
        self._digits = ours[-1] if ours else secrets.token_hex(8)

    @property
    def part(self) -> Path:
        """The bytes that came."""
        return self._target.with_name(f".{self._target.name}-{self._digits}.part")

    @property
    def size(self) -> int:
        """How many bytes came."""
        try:
            return self.part.stat().st_size if _note_in(self._note) is not None else 0
        except OSError:
            return 0

    def about(self) -> dict[str, Any]:
        """Return which file the bytes are of: `url`, `version` (str or None) and `total` (int or None)."""
        note = _note_in(self._note) or {}
        total, version = note.get("total"), note.get("version")
        is_header = isinstance(version, str) and version.isascii() and version.isprintable()
        return {
            "url": note.get("url"),
            "version": version if is_header else None,
            "total": total if type(total) is int and total >= 0 else None,
        }

    def begin(self, url: str, version: str | None, total: int | None) -> None:
        """Begin anew, without what an earlier attempt left.

        Raises
        ------
        OSError
            The folder cannot be written to.
        """
        self.forget()
        self._digits = secrets.token_hex(8)
        with self._note.open("x") as file:
            json.dump({_KEY: _VALUE, "url": url, "version": version, "total": total}, file)
        self.part.touch(exist_ok=False)

    def put_in_place(self) -> None:
        """Rename the finished file to its target.

        Raises
        ------
        OSError
            It cannot be renamed.
        """
        self.part.replace(self._target)
        self.forget()

    def forget(self) -> None:
        """Remove what came so far, of this and of earlier attempts."""
        for digits in self._ours():
            self._digits = digits
            self.part.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.part.with_name(f"{self.part.name}.json")

    def _ours(self) -> list[str]:
        """Return the digits of all attempts with a note, the latest at the end."""
        name = re.compile(rf"\.{re.escape(self._target.name)}-([0-9a-f]{{16}})\.part\.json")
        try:
            with os.scandir(self._target.parent) as entries:
                found = [(entry, match[1]) for entry in entries if (match := name.fullmatch(entry.name))]
            ours = [(entry.stat().st_mtime_ns, digits) for entry, digits in found if _note_in(Path(entry)) is not None]
        except OSError:
            return []
        return [digits for _, digits in sorted(ours)]


def _note_in(path: Path) -> dict[str, Any] | None:
    """Return a note of ours; None where there is none, or the file is of somebody else."""
    try:
        note = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return note if isinstance(note, dict) and note.get(_KEY) == _VALUE else None
