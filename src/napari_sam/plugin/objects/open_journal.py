"""OpenJournal: a Labels layer with its journal, and the state of the journal that the GUI thread knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from napari_sam.errors import NapariSamError
from napari_sam.journal.entries import Entry, LabelClass
from napari_sam.journal.journal import Journal
from napari_sam.journal.objects import LabelledObject
from napari_sam.journal.storage.object_table import ObjectView

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
    labels
        Labels of the objects that may have changed or were deleted; None for all objects.
    classes, next_undo, next_redo, redoes_several
        As in `Journal`.
    """

    entries: Sequence[Entry]
    error: Exception | None
    labels: list[int] | None
    classes: list[LabelClass]
    next_undo: Entry | None
    next_redo: Entry | None
    redoes_several: bool

    @classmethod
    def of(cls, journal: Journal, entries: Sequence[Entry], error: Exception | None = None) -> ActionResult:
        """Read the state of a journal, in the thread that has just written to it."""
        labels = None
        if entries and all(entry.what not in ("class", "accept_all") for entry in entries):
            own = {label for entry in entries for label in entry.labels}
            labels = sorted(own | {label for entry in entries for label, _, _ in entry.areas})
        steps = journal.next_undo, journal.next_redo, journal.redoes_several
        return cls(entries, error, labels, journal.classes, *steps)

    @classmethod
    def run(cls, journal: Journal, act: JournalAction) -> ActionResult:
        """Run an action on a journal, in the thread that has it."""
        try:
            entries = act(journal)
        except NapariSamError as error:
            return cls.of(journal, (), error)
        return cls.of(journal, entries)


class Rows(Mapping[int, LabelledObject]):
    """The objects of a journal by label; each is read from the database when it is looked up.

    Reading waits for no job: a job that writes labels locks the database for moments only.

    Parameters
    ----------
    view
        The objects.
    """

    def __init__(self, view: ObjectView) -> None:
        self.view = view

    def __getitem__(self, label: int) -> LabelledObject:
        found = self.view.get(label)
        if found is None:
            raise KeyError(label)
        return found

    def __len__(self) -> int:
        return len(self.view)

    def __iter__(self) -> Iterator[int]:
        return iter(self.view.labels().tolist())

    @property
    def highest(self) -> int:
        """The highest label, or 0."""
        last = self.view[-1:]
        return last[0].label if last else 0

    def values(self) -> ObjectView:  # type: ignore[override]
        """Return the objects, by label."""
        return self.view


@dataclass(slots=True, eq=False)
class OpenJournal:
    """A Labels layer with its journal.

    Parameters
    ----------
    image
        The image that it was opened for.
    target, journal
        The layer's labels, and their journal. The GUI thread reads objects of the journal, and calls nothing that waits
        for a job.
    folder
        The folder of the journal, or None for one in memory.
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

    @property
    def rows(self) -> Rows:
        """The objects by label."""
        return Rows(self.journal.objects)

    def update(self, result: ActionResult) -> None:
        """Take over the state of the journal after an action."""
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
