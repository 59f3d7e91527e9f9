"""History: the entries of a journal in order, which of them count, and what each does to the labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from napari_sam.errors import LabelsError
from napari_sam.journal.codec import from_json
from napari_sam.journal.entries import Entry
from napari_sam.journal.log import Content
from napari_sam.journal.objects import ObjectTable, Step
from napari_sam.journal.patches import Patch


class History:
    """What was done, what was undone and may be done again, and the objects that are there.

    Parameters
    ----------
    path
        The file, to be named where it is damaged.

    Attributes
    ----------
    table
        The objects and classes.
    number
        Of the last entry.
    """

    def __init__(self, path: Path) -> None:
        self.table = ObjectTable()
        self.number = 0
        self._path = path
        self._done: list[Step] = []
        self._undone: list[Entry] = []

    @property
    def entries(self) -> list[Entry]:
        """What was done and not undone, oldest first."""
        return [step.entry for step in self._done]

    @property
    def next_undo(self) -> Entry | None:
        """What the next undo takes back, or None."""
        return self._done[-1].entry if self._done else None

    @property
    def next_redo(self) -> Entry | None:
        """What the next redo does again, or None."""
        return self._undone[-1] if self._undone else None

    @property
    def redoes_several(self) -> bool:
        """Whether the next redo is one of several of the same action."""
        return len({entry.group or entry.number for entry in self._undone[-2:]}) < len(self._undone[-2:])

    def take_all(self, lines: list[Content]) -> list[tuple[Entry, Sequence[Patch]]]:
        """Take the lines of a journal, and return what may not be in the labels: mostly nothing, or the last entry.

        Raises
        ------
        LabelsError
            A line is no entry, or is out of order.
        """
        pending: dict[int, tuple[Entry, Sequence[Patch]]] = {}
        for entry in self._parsed(lines):
            if isinstance(entry, int):
                pending.pop(entry, None)
            else:
                pending[entry.number] = entry, self.changes(entry)
                self.take(entry)
        return list(pending.values())

    def take(self, entry: Entry) -> None:
        """Let the next entry happen to the objects.

        Raises
        ------
        LabelsError
            It is not the next one, or undoes or does again what it cannot.
        """
        if entry.number != self.number + 1:
            raise LabelsError(f"Entry {self.number + 1} of {self._path} is missing: put the file back from a copy.")
        turned = self.next_undo if entry.what == "undo" else self.next_redo if entry.what == "redo" else None
        if entry.what in ("undo", "redo") and (turned is None or turned.number != entry.of):
            raise LabelsError(f"Entry {entry.number} of {self._path} is out of order: put the file back from a copy.")
        if entry.what == "undo":
            step = self._done.pop()
            self.table.revert(step)
            self._undone.append(step.entry)
        elif entry.what == "redo":
            self._done.append(self.table.apply(self._undone.pop()))
        else:
            self._done.append(self.table.apply(entry))
            self._undone.clear()
        self.number = entry.number

    def changes(self, entry: Entry) -> Sequence[Patch]:
        """Return what the next entry will do to the labels."""
        if entry.what == "undo":
            undone = self.next_undo.patches if self.next_undo else ()
            return [patch.reversed() for patch in reversed(undone)]
        if entry.what == "redo":
            return self.next_redo.patches if self.next_redo else ()
        return entry.patches

    def _parsed(self, lines: list[Content]) -> Iterator[Entry | int]:
        for at, line in enumerate(lines, start=2):
            try:
                yield int(line["written"]) if "written" in line else from_json(line)
            except (ValueError, TypeError) as error:
                raise LabelsError(
                    f"Line {at} of {self._path} is not understood: put the file back from a copy, or use a newer "
                    "program."
                ) from error
        lines.clear()
