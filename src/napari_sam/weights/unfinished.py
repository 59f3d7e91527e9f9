"""The partial file of a download, and the note beside it by which it is recognized."""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

_KEY, _VALUE = "napari-sam", "an unfinished download, which the next one goes on with"


class Unfinished:
    """The received part of a file: .NAME-DIGITS.part, with a note .NAME-DIGITS.part.json that is created first.

    The digits are random and both files are created exclusively. Only files with such a note are resumed or removed,
    and so no file of the user. They are changed only under the lock of the download.

    Parameters
    ----------
    target
        Path of the complete file.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._digits = ""
        self.look()

    def look(self) -> None:
        """Find the part that an earlier attempt, or another process, has received."""
        ours = self._ours()
        self._digits = ours[-1] if ours else secrets.token_hex(8)

    @property
    def part(self) -> Path:
        """Path of the received bytes."""
        return self._target.with_name(f".{self._target.name}-{self._digits}.part")

    @property
    def size(self) -> int:
        """Number of received bytes."""
        try:
            return self.part.stat().st_size if _note_in(self._note) is not None else 0
        except OSError:
            return 0

    def about(self) -> dict[str, Any]:
        """Return the origin of the bytes: `url`, `version` (str or None) and `total` (int or None)."""
        note = _note_in(self._note) or {}
        total, version = note.get("total"), note.get("version")
        is_header = isinstance(version, str) and version.isascii() and version.isprintable()
        return {
            "url": note.get("url"),
            "version": version if is_header else None,
            "total": total if type(total) is int and total >= 0 else None,
        }

    def begin(self, url: str, version: str | None, total: int | None) -> None:
        """Start over, and discard earlier attempts.

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
        """Rename the complete file to its target.

        Raises
        ------
        OSError
            It cannot be renamed.
        """
        self.part.replace(self._target)
        self.forget()

    def forget(self) -> None:
        """Remove the received parts of this and of earlier attempts."""
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
    """Return the note of a download; None if the file is missing or something else."""
    try:
        note = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return note if isinstance(note, dict) and note.get(_KEY) == _VALUE else None
