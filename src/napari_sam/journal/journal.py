"""Journal: every change of the objects of an image, on disk before it is in the labels, with undo and redo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, Self

import numpy as np

from napari_sam.arguments import path_argument, shown
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError, OutputError
from napari_sam.files.paths import exists
from napari_sam.journal.entries import Entry, LabelClass, PackedMask, Provenance, What, class_named, defined_class, now
from napari_sam.journal.image_identity import check_image
from napari_sam.journal.objects import LabelledObject
from napari_sam.journal.patches import Patch, area_changes
from napari_sam.journal.storage.files import NAME
from napari_sam.journal.storage.former_log import LINES
from napari_sam.journal.storage.history import EntryView
from napari_sam.journal.storage.object_table import ObjectView
from napari_sam.journal.storage.opening import open_history
from napari_sam.journal.storage.schema import Content
from napari_sam.journal.write_ahead import WriteAhead, checked_target, turn_together
from napari_sam.labels.edit import LabelEdit, plan_edit, plan_removal
from napari_sam.labels.sink import LabelSink


class Journal:
    """The objects of an image: accepted, corrected, deleted, classified, and all of it undone and redone.

    An operation is on the disk before it is in the labels. Opening the journal with the labels again completes an
    operation that a crash interrupted, or leaves no trace of it. No operation takes longer with more objects, and any
    thread may call any method.

    Parameters
    ----------
    folder
        Folder of the journal, made where there is none; None keeps the journal in memory only.
    target
        The labels; None to look at the journal only.
    about
        What a new journal says of the image, such as its source and shape.
    read_only
        Change nothing; others may write meanwhile.
    durable
        Wait for the disk at every operation, which survives a power cut; otherwise only `flush` waits, and an
        operation survives a crash of the program, but not of the machine.

    Attributes
    ----------
    target
        The labels that are written into; replace it where they are shown elsewhere.
    trouble
        What the user should know of its opening, as one sentence, or None.
    converted_from
        The file of an earlier version that was converted on opening, and stays as it is; or None.

    Raises
    ------
    LabelsError
        The journal is damaged, of another version, of another image, or not of these labels.
    OutputError
        Another program has it open, or its folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path | str | None,
        target: LabelSink | None = None,
        *,
        about: Content | None = None,
        read_only: bool = False,
        durable: bool = True,
    ) -> None:
        self._folder = None if folder is None else path_argument(folder, "The journal", OutputError)
        if not (target is None or hasattr(target, "array")):
            raise LabelsError(f"A journal writes into a LabelArray and was given {shown(target)}: make one.")
        self.target = target
        self._lock = RLock()
        self._read_only = read_only
        self._highest_before: dict[int, int] = {}
        self._group: int | None = None
        opened = open_history(self._folder, about or {}, read_only=read_only, durable=durable)
        self._history, self.trouble, self._held = opened.history, opened.trouble, opened.lock
        self.converted_from = opened.converted_from
        self._table = self._history.table
        self._write_ahead = WriteAhead(self._history)
        try:
            shape = None if target is None else tuple(target.array.shape)
            check_image(self._history.database.name, self.about, about or {}, shape)
            if target is not None and not read_only:
                self._write_ahead.finish(target)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """The folder; raises LabelsError for a journal in memory."""
        if self._folder is None:
            raise LabelsError("The journal is in memory, so it has no folder: name one when it is made.")
        return self._folder

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
    def next_label(self) -> int:
        """A label that is free, also of objects that others cover; above all that are in use where there is one."""
        return self._write_ahead.next_label(self._open_target())

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

    def accept(
        self,
        plane: Plane,
        mask: Mask,
        label: int | None = None,
        overlap: Overlap = "keep",
        *,
        prompts: Prompts | None = None,
        made: Provenance | None = None,
        class_name: str | None = None,
        replaces: Box | None = None,
    ) -> Entry:
        """Write a mask as an object; under the label of one that has pixels in this plane, in the place of those.

        Parameters
        ----------
        plane, mask, overlap
            As in `LabelArray.write`.
        label
            The next free one when left out.
        prompts, made
            What led to the mask, kept for `object` and for replaying.
        class_name
            Its class, made where there is none; that of the object when left out.
        replaces
            Where the label's pixels are that the mask takes the place of, for a label that is not of the journal yet.

        Raises
        ------
        LabelsError
            As in `LabelArray.write`; nothing has changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        with self._lock, self._open_target().exclusive():
            target = self._open_target()
            value = self.next_label if label is None else label
            highest = target.next_label - 1
            known = self._table.get(value)
            part = known.part(plane) if known else None
            own = [kept.rounded_out() for kept in (part.box if part else None, replaces) if kept is not None]
            edit = plan_edit(target, plane, mask, value, overlap, replaces=own, widens=label is None)
            patch = Patch.of(edit)
            entry = Entry(
                **self._next("correct" if part else "accept"),
                label=value,
                plane=plane,
                overlap=overlap,
                prompts=prompts,
                made=made,
                accepted=PackedMask.of(mask),
                patches=() if patch is None else (patch,),
                areas=area_changes(edit, part.area if part else 0),
                label_class=None if class_name is None else class_named(self.classes, class_name),
            )
            self._commit(entry, [edit])
            self._highest_before[entry.number] = highest
            return entry

    def delete(self, label: int) -> Entry:
        """Take an object out of the labels.

        Raises
        ------
        LabelsError, OutputError
            There is none of that label, or the labels or the journal cannot be written; nothing has changed.
        """
        with self._lock, self._open_target().exclusive():
            found, target = self.object(label), self._open_target()
            edits = [plan_removal(target, part.plane, part.box, label) for part in found.parts]
            patches = tuple(patch for edit in edits if (patch := Patch.of(edit)) is not None)
            entry = Entry(**self._next("delete"), label=label, patches=patches)
            self._commit(entry, edits)
            return entry

    def classify(self, label: int, name: str | None) -> Entry:
        """Give an object a class, made where there is none of that name; None takes the class away.

        Raises
        ------
        LabelsError, OutputError
            There is no object of that label, the name is empty, or the journal cannot be written.
        """
        with self._lock:
            found = self.object(label)
            kind = None if name is None else class_named(self.classes, name)
            entry = Entry(**self._next("classify"), label=found.label, label_class=kind)
            self._commit(entry)
            return entry

    def define_class(
        self, name: str, color: Sequence[float] | None = None, *, renamed: str | None = None
    ) -> LabelClass:
        """Create a class, or change the color or name of one.

        Parameters
        ----------
        name
            Its present name.
        color
            (red, green, blue) from 0 to 1; left out, that of the class, or one that no other has.
        renamed
            Its new name.

        Raises
        ------
        LabelsError, OutputError
            The name is empty or taken, the color is not valid, or the journal cannot be written.
        """
        with self._lock:
            defined = defined_class(self.classes, name, color, renamed)
            self._commit(Entry(**self._next("class"), label_class=defined))
            return defined

    def undo(self) -> Entry | None:
        """Take back the last operation and return it; None when there is none left.

        Raises
        ------
        LabelsError, OutputError
            The labels or the journal cannot be written; nothing has changed.
        """
        with self._lock:
            last = self.next_undo
            if last is None:
                return None
            target = self._open_target()
            self._commit(Entry(**self._next("undo"), of=last.number))
            if last.label is not None and last.number in self._highest_before:
                target.release(last.label, self._highest_before[last.number])
            return last

    def redo(self) -> Entry | None:
        """Do again what was undone last and return it; None when nothing was, or something else was done since.

        Raises
        ------
        LabelsError, OutputError
            The labels or the journal cannot be written; nothing has changed.
        """
        with self._lock:
            last = self.next_redo
            if last is None:
                return None
            self._open_target()
            self._commit(Entry(**self._next("redo"), of=last.number))
            return last

    @contextmanager
    def together(self, group: int | None = None) -> Iterator[None]:
        """Let all operations of the block be undone in one step by `undo_together`, as one action on several objects.

        Parameters
        ----------
        group
            The number of the first entry of an action that these operations belong to; the first of the block when
            left out.
        """
        with self._lock:
            before, self._group = self._group, group or self._history.number + 1
            try:
                yield
            finally:
                self._group = before

    def undo_together(self) -> list[Entry]:
        """Take back the last action, however many objects it was on, and return its entries, the last one first.

        Errors are those of `undo`; what was taken back before stays so.
        """
        with self._lock:
            return turn_together(self.undo, lambda: self.next_undo)

    def redo_together(self) -> list[Entry]:
        """Do the action again that was undone last, and return its entries in order.

        Errors are those of `redo`; what was done again before stays so.
        """
        with self._lock:
            return turn_together(self.redo, lambda: self.next_redo)

    def restore(self, target: LabelSink | None = None) -> None:
        """Write all objects into labels that hold none of them: new ones, by default those of the journal.

        Every operation that was not undone is done again to the pixel; what else the labels hold stays.

        Raises
        ------
        LabelsError
            They cannot be written, or have another shape.
        """
        with self._lock:
            self._write_ahead.restore(target or self._open_target())

    def flush(self) -> None:
        """Wait until the disk has everything; raises OutputError where it refuses."""
        self._history.database.flush()

    def close(self) -> None:
        """Let other programs open the journal for writing; it can still be read here."""
        self._history.database.close()
        self._held.close()

    def _open_target(self) -> LabelSink:
        return checked_target(self.target)

    def _commit(self, entry: Entry, edits: Sequence[LabelEdit] | None = None) -> None:
        if self._read_only:
            raise OutputError(f"The journal {self._folder} was opened to be read only: open it for writing.")
        self._write_ahead.commit(entry, self.target, edits)

    def _next(self, what: What) -> dict[str, Any]:
        number = self._history.number + 1
        group = None if what in ("undo", "redo") or self._group == number else self._group
        return {"number": number, "what": what, "time": now(), "group": group}


def open_journal(path: Path | str) -> Journal:
    """Open a journal to read: its folder, the file in it, or the labels that it lies beside.

    Raises
    ------
    LabelsError
        There is none, or it is damaged.
    """
    path = Path(path)
    folder = path.parent if path.name in (NAME, LINES) else path
    beside = folder.with_name(f"{folder.name}.journal")
    return Journal(beside if folder.suffix != ".journal" and exists(beside) else folder, read_only=True)
