"""UndoableJournal: open a journal, commit entries to it and to the labels, undo and redo them, also together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, Self

from napari_sam.arguments import path_argument, shown
from napari_sam.errors import LabelsError, OutputError
from napari_sam.journal.entries import Entry, What, now
from napari_sam.journal.image_identity import check_image
from napari_sam.journal.reader import JournalReader
from napari_sam.journal.storage.opening import open_history
from napari_sam.journal.storage.schema import Content
from napari_sam.journal.write_ahead import WriteAhead, turn_together
from napari_sam.labels.edit import LabelEdit
from napari_sam.labels.sink import LabelSink


class UndoableJournal(JournalReader):
    """The journal without the operations on objects; see `Journal`."""

    def __init__(
        self,
        folder: Path | str | None,
        target: LabelSink | None = None,
        *,
        about: Content | None = None,
        read_only: bool = False,
        durable: bool = True,
    ) -> None:
        place = None if folder is None else path_argument(folder, "The journal", OutputError)
        if not (target is None or hasattr(target, "array")):
            raise LabelsError(f"A journal writes into a LabelArray and was given {shown(target)}: make one.")
        self._lock = RLock()
        self._read_only = read_only
        # By the number of an entry: its highest label, and the highest one in use before it.
        self._released: dict[int, tuple[int, int]] = {}
        self._group: int | None = None
        opened = open_history(place, about or {}, read_only=read_only, durable=durable)
        super().__init__(place, opened.history, target)
        self.trouble, self.converted_from, self._held = opened.trouble, opened.converted_from, opened.lock
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
    def next_label(self) -> int:
        """A label that is free, also of objects that others cover; above all that are in use where there is one."""
        return self._write_ahead.next_label(self._open_target())

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
            if last.number in self._released:
                target.release(*self._released[last.number])
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
            The number of the first entry of an action that these operations belong to; when left out, that of the
            block around this one, or the first of this block.
        """
        with self._lock:
            before, self._group = self._group, group or self._group or self._history.number + 1
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

    def _commit(self, entry: Entry, edits: Sequence[LabelEdit] | None = None) -> None:
        if self._read_only:
            raise OutputError(f"The journal {self._folder} was opened to be read only: open it for writing.")
        self._write_ahead.commit(entry, self.target, edits)

    def _next(self, what: What) -> dict[str, Any]:
        number = self._history.number + 1
        group = None if what in ("undo", "redo") or self._group == number else self._group
        return {"number": number, "what": what, "time": now(), "group": group}
