"""JournalReader: the entries, objects and classes of a journal."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import LabelsError
from napari_sam.journal.entries import Entry, LabelClass
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.journal.storage.history import EntryView, History
from napari_sam.journal.storage.object_table import ObjectView
from napari_sam.journal.storage.schema import Content
from napari_sam.journal.write_ahead import checked_target
from napari_sam.labels.sink import LabelSink


class JournalReader:
    """What a journal says, which any thread may read.

    Parameters
    ----------
    folder
        Folder of the journal; None where it is in memory.
    history
        The entries and objects.
    target
        The labels, or None.
    """

    def __init__(self, folder: Path | None, history: History, target: LabelSink | None) -> None:
        self.target = target
        self._folder, self._history, self._table = folder, history, history.table

    @property
    def folder(self) -> Path:
        """The folder; raises LabelsError for a journal in memory."""
        if self._folder is None:
            raise LabelsError("The journal is in memory, so it has no folder: name one when it is made.")
        return self._folder

    @property
    def is_on_disk(self) -> bool:
        """Whether it has a folder."""
        return self._folder is not None

    @property
    def about(self) -> Content:
        """What the journal says of the image."""
        return dict(self._history.about)

    @property
    def entries(self) -> EntryView:
        """What was done and not undone, oldest first: a sequence that reads entries when they are asked for."""
        return self._history.entries

    @property
    def objects(self) -> ObjectView:
        """The objects that are there, by label: a sequence that reads them when they are asked for."""
        return self._table.view()

    def has(self, label: int) -> bool:
        """Return whether there is an object of a label."""
        return self._table.has(label)

    def part(self, label: int, plane: Plane) -> Part | None:
        """Return the part of an object in a plane, or None; quicker than by `object` for one in many planes."""
        return self._table.part(label, plane)

    @property
    def classes(self) -> list[LabelClass]:
        """The classes, by number."""
        return self._table.classes

    @property
    def next_undo(self) -> Entry | None:
        """What `undo` would take back, or None."""
        return self._history.next_undo

    @property
    def next_redo(self) -> Entry | None:
        """What `redo` would do again, or None."""
        return self._history.next_redo

    @property
    def redoes_several(self) -> bool:
        """Whether `redo_together` would do more than one operation again."""
        return self._history.redoes_several

    @property
    def redoes_many_objects(self) -> bool:
        """Whether `redo` would redo one of the operations of an action that wrote many objects at once."""
        return self._history.redoes_many_objects

    def object(self, label: int) -> LabelledObject:
        """Return the object of a label; raises LabelsError where there is none."""
        if not isinstance(label, (int, np.integer)) or (found := self._table.get(label)) is None:
            raise LabelsError(f"The journal knows no object {label!r}: choose one that was accepted with it.")
        return found

    def object_at(self, plane: Plane, row: int, col: int) -> LabelledObject | None:
        """Return the object of the journal that a pixel of the labels belongs to, or None."""
        spot = Box(row, col, row + 1, col + 1)
        target = self._open_target()
        if not Box.of_shape(plane.shape_in(target.shape)).contains(spot):
            return None
        return self._table.get(int(target.read(plane, spot)[0, 0]))

    def _open_target(self) -> LabelSink:
        return checked_target(self.target)
