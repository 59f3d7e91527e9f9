"""WriteAhead: an operation is on the disk, then in the labels, then in effect; or it has not happened at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

from napari_sam.errors import LabelsError, NapariSamError
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.journal.entries import Entry
from napari_sam.journal.patches import Patch, put_patch
from napari_sam.journal.storage.history import History
from napari_sam.labels.edit import LabelEdit
from napari_sam.labels.regions import can_widen, end_of
from napari_sam.labels.sink import LabelSink


class WriteAhead:
    """Commits entries to a history and to labels, in the order that survives a kill.

    Parameters
    ----------
    history
        The history.
    """

    def __init__(self, history: History) -> None:
        self._history = history

    def commit(self, entry: Entry, target: LabelSink | None, edits: Sequence[LabelEdit] | None = None) -> None:
        """Commit an entry, or raise and leave everything as it was.

        Parameters
        ----------
        entry
            The next entry.
        target
            The labels; None for an entry that changes no pixels.
        edits
            The edits that the patches of the entry were packed from; see `write_patches`.

        Raises
        ------
        LabelsError, OutputError
            The labels or the disk refuse.
        """
        changes = self._history.changes(entry)
        if not changes:
            self._commit(entry, changes, lambda: None, target)
            return
        labels = checked_target(target)
        with labels.exclusive():
            self._commit(entry, changes, lambda: write_patches(labels, changes, edits), labels)

    def finish(self, target: LabelSink) -> None:
        """Write into the labels what a killed program had not written; doing it twice changes nothing more."""
        unfinished = self._history.unfinished()
        if unfinished:
            with target.exclusive():
                for entry in unfinished:
                    write_patches(target, self._history.changes(entry))
                    self._history.mark(entry.number)

    def restore(self, target: LabelSink) -> None:
        """Write all entries that count into labels, whatever those hold there; see `Journal.restore`."""
        with target.exclusive():
            for entry in self._history.entries:
                for patch in entry.patches:
                    put_patch(target, patch, always=True)

    def next_label(self, target: LabelSink) -> int:
        """Return a label that is free, also of objects that others cover; see `Journal.next_label`."""
        table = self._history.table
        value, end = target.next_label, end_of(dtype_of(target.array))
        above = table.highest_below(end) + 1
        if value < above < end:
            return above
        while table.has(value):
            value += 1
        return value

    def free_labels(self, target: LabelSink, count: int) -> Sequence[int]:
        """Return free labels, as `next_label` gives them to one object after the other."""
        first, array, table = self.next_label(target), target.array, self._history.table
        fit = first + count <= end_of(dtype_of(array)) or can_widen(array)
        if fit and not table.has_any(first, count):
            return range(first, first + count)
        free = (label for label in target.free_labels(count + table.count) if not table.has(label))
        return list(islice(free, count))

    def _commit(
        self, entry: Entry, changes: Sequence[Patch], write: Callable[[], None], target: LabelSink | None
    ) -> None:
        self._history.intend(entry)
        try:
            write()
            try:
                self._history.take(entry)
            except BaseException:
                if target is not None:
                    write_patches(target, [patch.reversed() for patch in reversed(changes)])
                raise
        except BaseException:
            with suppress(NapariSamError):
                self._history.drop_intention()
            raise


def is_of_many_objects(last: Entry, entries: Sequence[Entry]) -> bool:
    """Return whether an entry belongs to an action that wrote many masks at once: new objects, or propagated ones.

    Parameters
    ----------
    last
        The last entry that counts.
    entries
        All entries that count, oldest first.
    """
    if last.group is None or _writes_many(last):
        return _writes_many(last)
    for entry in reversed(entries):
        if (entry.group or entry.number) != last.group:
            return False
        if _writes_many(entry):
            return True
    return False


def _writes_many(entry: Entry) -> bool:
    return entry.objects is not None or entry.is_propagated


def turn_together(turn: Callable[[], Entry | None], upcoming: Callable[[], Entry | None]) -> list[Entry]:
    """Undo or redo the entries of one action, and return them in the order in which that was done.

    Parameters
    ----------
    turn
        Undoes or redoes the next entry and returns it, or None.
    upcoming
        Returns the entry that `turn` would take next, or None.
    """
    turned: list[Entry] = []
    while (entry := turn()) is not None:
        turned.append(entry)
        after = upcoming()
        if after is None or (after.group or after.number) != (entry.group or entry.number):
            break
    return turned


def write_patches(target: LabelSink, patches: Sequence[Patch], edits: Sequence[LabelEdit] | None = None) -> None:
    """Write patches into labels, all or none.

    Parameters
    ----------
    target
        The labels.
    patches
        Edits to write.
    edits
        The edits that the patches were packed from, where the labels were read for them under the same exclusive
        access: they are written without reading the labels again.

    Raises
    ------
    LabelsError
        The labels refuse one; they are as they were.
    """
    writes: list[Callable[[], None]]
    if edits is None:
        writes = [partial(put_patch, target, patch) for patch in patches]
    else:
        writes = [partial(target.apply, edit) for edit in edits if not edit.changes_nothing]
    begun: list[Patch] = []
    try:
        for patch, write in zip(patches, writes, strict=True):
            begun.append(patch)
            write()
    except BaseException:
        for patch in reversed(begun):
            with suppress(LabelsError):
                put_patch(target, patch.reversed())
        raise


def checked_target(target: LabelSink | None) -> LabelSink:
    """Return the labels of a journal.

    Raises
    ------
    LabelsError
        There are none.
    """
    if target is None:
        raise LabelsError("The journal was opened without labels, so they cannot be changed: give it the labels.")
    return target
