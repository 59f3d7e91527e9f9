"""Action: the entries of one propagation, which one undo takes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.journal.journal import Journal


class Action:
    """The entries of one propagation, which one undo takes back.

    Parameters
    ----------
    journal
        The journal, or None.
    """

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._first: int | None = None

    @contextmanager
    def entries(self) -> Iterator[None]:
        """Let the entries of a block belong to the action; between two blocks others can write to the journal."""
        if self._journal is None:
            yield
            return
        before = _last_number(self._journal)
        with self._journal.together(self._first):
            yield
        if self._first is None and _last_number(self._journal) != before:
            last = self._journal.next_undo
            assert last is not None
            self._first = last.group or last.number


def _last_number(journal: Journal) -> int:
    last = journal.next_undo
    return 0 if last is None else last.number
