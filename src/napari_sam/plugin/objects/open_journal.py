"""OpenJournal: a Labels layer with its journal, and the state of the journal that the GUI thread knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from napari_sam.errors import LabelsError, NapariSamError
from napari_sam.journal.entries import Entry, LabelClass
from napari_sam.journal.journal import Journal
from napari_sam.journal.objects import LabelledObject

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_sam.plugin.layers.labels import LayerLabels

JournalAction = Callable[[Journal], Sequence[Entry]]


@dataclass(frozen=True, slots=True, eq=False)
class ActionResult:
    """The result of an action on a journal, with the state of the journal after it.

    Parameters
    ----------
    entries
        The entries that the action made.
    error
        Why the action failed, or None.
    rows
        The objects that may have changed; None for those that were deleted.
    is_all
        Whether `rows` holds all objects.
    classes, next_undo, next_redo, redoes_several
        As in `Journal`.
    """

    entries: Sequence[Entry]
    error: Exception | None
    rows: dict[int, LabelledObject | None]
    is_all: bool
    classes: list[LabelClass]
    next_undo: Entry | None
    next_redo: Entry | None
    redoes_several: bool

    @classmethod
    def of(cls, journal: Journal, entries: Sequence[Entry], error: Exception | None = None) -> ActionResult:
        """Read the state of a journal, in the thread that has just written to it."""
        is_all = not entries or any(entry.what == "class" for entry in entries)
        rows: dict[int, LabelledObject | None] = {}
        if is_all:
            rows.update((row.label, row) for row in journal.objects)
        else:
            touched = {entry.label for entry in entries} | {label for e in entries for label, _, _ in e.areas}
            rows.update((label, _row(journal, label)) for label in touched if label is not None)
        steps = journal.next_undo, journal.next_redo, journal.redoes_several
        return cls(entries, error, rows, is_all, journal.classes, *steps)

    @classmethod
    def run(cls, journal: Journal, act: JournalAction) -> ActionResult:
        """Run an action on a journal, in the thread that has it."""
        try:
            entries = act(journal)
        except NapariSamError as error:
            return cls.of(journal, (), error)
        return cls.of(journal, entries)


def _row(journal: Journal, label: int) -> LabelledObject | None:
    try:
        return journal.object(label)
    except LabelsError:
        return None


@dataclass(slots=True, eq=False)
class OpenJournal:
    """A Labels layer with its journal.

    Parameters
    ----------
    image
        The image that it was opened for.
    target, journal
        The layer's labels, and their journal. The GUI thread never reads the journal, which jobs may have locked.
    folder
        The folder of the journal, or None for one in memory.
    rows
        The objects by label.
    classes, next_undo, next_redo, redoes_several
        As in `Journal`.
    unflushed
        Whether entries may not be on the disk yet.
    pending_actions
        Number of changes that wait or run, as the GUI thread knows.
    """

    image: Image
    target: LayerLabels
    journal: Journal
    folder: Path | None
    rows: dict[int, LabelledObject] = field(default_factory=dict)
    classes: list[LabelClass] = field(default_factory=list)
    next_undo: Entry | None = None
    next_redo: Entry | None = None
    redoes_several: bool = False
    unflushed: bool = False
    pending_actions: int = 0
    _waiting: int = 0
    _is_leaving: bool = False
    _lock: Any = field(default_factory=Lock)

    @classmethod
    def of(cls, image: Image, target: LayerLabels, journal: Journal, folder: Path | None) -> OpenJournal:
        """Return a layer with a journal that was just opened, in the thread that opened it; None: in memory."""
        open_journal = cls(image, target, journal, folder)
        open_journal.update(ActionResult.of(journal, ()))
        return open_journal

    @property
    def is_busy(self) -> bool:
        """Whether a job that changes something waits or runs."""
        return self.pending_actions > 0

    @property
    def layer(self) -> Labels:
        """The layer."""
        return self.target.layer

    def update(self, result: ActionResult) -> None:
        """Take over the state of the journal after an action."""
        if result.is_all:
            self.rows = {}
        for label, row in result.rows.items():
            if row is None:
                self.rows.pop(label, None)
            else:
                self.rows[label] = row
        self.classes, self.next_undo, self.next_redo = result.classes, result.next_undo, result.next_redo
        self.redoes_several = result.redoes_several

    def enter(self) -> None:
        """Count a job that will use the journal."""
        with self._lock:
            self._waiting += 1

    def leave(self) -> None:
        """Count a job out, and close the journal after the last one if that was asked for."""
        with self._lock:
            self._waiting -= 1
            closes = self._is_leaving and self._waiting == 0
        if closes:
            self.journal.close()

    def close(self) -> None:
        """Close the journal once no job needs it."""
        with self._lock:
            self._is_leaving = True
            closes = self._waiting == 0
        if closes:
            self.journal.close()
