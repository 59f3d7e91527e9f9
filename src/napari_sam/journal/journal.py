"""Journal: everything that happens to the objects of an image, on disk before it is in the labels, with a way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any, Self

import numpy as np

from napari_sam.arguments import path_argument, shown
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError, OutputError
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.journal.classes import class_named, defined_class
from napari_sam.journal.codec import to_json
from napari_sam.journal.entries import Entry, LabelClass, PackedMask, Provenance, What, now
from napari_sam.journal.history import History
from napari_sam.journal.image_identity import is_of_another
from napari_sam.journal.log import Content, JournalFile
from napari_sam.journal.objects import LabelledObject
from napari_sam.journal.patches import Patch, growth, pasted, put_patch
from napari_sam.labels.array import plan_edit
from napari_sam.labels.free_labels import end_of
from napari_sam.labels.targets import Target, exclusive, read


class Journal:
    """The objects of an image: accepted, corrected, deleted, classified, and all of it undone and redone.

    An operation is on the disk before it is in the labels. One that a crash interrupted is finished, or was never
    begun, when the journal is opened with the labels again.

    Parameters
    ----------
    folder
        Where it is, made where there is none.
    target
        The labels; None to look at the journal only.
    about
        What the first line of a new journal says of the image, such as its source and shape.
    read_only
        Change nothing; others may write meanwhile.
    durable
        Wait for the disk at every operation, which survives a power cut; otherwise that is left to `flush`, and what
        was accepted survives a crash of the program, but not of the machine.

    Attributes
    ----------
    target
        The labels that are written into; replace it where they are shown elsewhere.
    trouble
        What the user should know of its opening, such as what was dropped, as one sentence; or None.

    Raises
    ------
    LabelsError
        The journal is damaged, of another version, of another image, or not of these labels.
    OutputError
        Another program has it open, or its folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path | str,
        target: Target | None = None,
        *,
        about: Content | None = None,
        read_only: bool = False,
        durable: bool = True,
    ) -> None:
        folder = path_argument(folder, "The journal", OutputError)
        if not (target is None or hasattr(target, "array")):
            raise LabelsError(f"A journal writes into a LabelTarget and was given {shown(target)}: make one.")
        self.target = target
        self._lock = RLock()
        self._highest_before: dict[int, int] = {}
        self._group: int | None = None
        new = None if read_only else dict(about or {})
        self._file = JournalFile(folder, new, read_only=read_only, durable=durable)
        self.trouble = self._file.trouble
        self._history = History(self._file.path)
        self._table = self._history.table
        try:
            self._check_shape()
            if is_of_another(self.about, about or {}):
                raise LabelsError(
                    f"The journal {self.folder} is of another image{_named(self.about)}, or that image's pixels have "
                    "changed since: open it with the image that it is of, or name another folder for this one."
                )
            unfinished = self._history.take_all(self._file.lines)
            if target is not None and not read_only:
                with exclusive(target):
                    for entry, changes in unfinished:
                        self._write(changes)
                        self._mark(entry)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._file.folder

    @property
    def about(self) -> Content:
        """What the first line says of the image."""
        return dict(self._file.header)

    @property
    def entries(self) -> list[Entry]:
        """What was done and not undone, oldest first."""
        return self._history.entries

    @property
    def objects(self) -> list[LabelledObject]:
        """The objects that are there, by label."""
        with self._lock:
            return self._table.rows()

    @property
    def classes(self) -> list[LabelClass]:
        """The classes, by number."""
        return [self._table.classes[number] for number in sorted(self._table.classes)]

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
        target, objects = self._open_target(), self._table.objects
        value, end = target.next_label, end_of(dtype_of(target.array))
        above = max((label for label in objects if label != end), default=0) + 1
        if value < above < end:
            return above
        while value in objects:
            value += 1
        return value

    def object(self, label: int) -> LabelledObject:
        """Return one object.

        Raises
        ------
        LabelsError
            There is none of that label.
        """
        with self._lock:
            if label not in self._table.objects:
                raise LabelsError(f"The journal knows no object {label!r}: choose one that was accepted with it.")
            return self._table.row(label)

    def object_at(self, plane: Plane, row: int, col: int) -> LabelledObject | None:
        """Return the object of the journal that a pixel of the labels belongs to, or None."""
        spot = Box(row, col, row + 1, col + 1)
        array = self._open_target().array
        if not Box.of_shape(plane.shape_in(array.shape)).contains(spot):
            return None
        label = int(read(array, plane, spot)[0, 0])
        return self._table.row(label) if label in self._table.objects else None

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
            As in `LabelStore.write`.
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
            As in `LabelStore.write`; nothing has changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        with self._lock, exclusive(self._open_target()):
            target = self._open_target()
            value = self._label(target, plane, mask, label, overlap)
            highest = target.next_label - 1
            plan_edit(target.array, plane, mask, value, overlap)
            known = self._table.objects.get(value)
            part = known.part(plane) if known else None
            own = [kept.rounded_out() for kept in (part.box if part else None, replaces) if kept is not None]
            box, before, after = pasted(target, plane, mask, value, overlap, own)
            patch = Patch.of(plane, box, before, after)
            entry = Entry(
                **self._next("correct" if part else "accept"),
                label=value,
                plane=plane,
                overlap=overlap,
                prompts=prompts,
                made=made,
                accepted=PackedMask.of(mask),
                patches=() if patch is None else (patch,),
                areas=growth(value, part.area if part else 0, before, after),
                label_class=None if class_name is None else class_named(self.classes, class_name),
            )
            self._commit(entry, lambda: target.put(plane, box, after) if patch else None)
            self._highest_before[entry.number] = highest
            return entry

    def delete(self, label: int) -> Entry:
        """Take an object out of the labels.

        Raises
        ------
        LabelsError, OutputError
            There is none of that label, or the labels or the journal cannot be written; nothing has changed.
        """
        with self._lock, exclusive(self._open_target()):
            found, target = self.object(label), self._open_target()
            patches = []
            for part in found.parts:
                before = read(target.array, part.plane, part.box)
                patches.append(Patch.of(part.plane, part.box, before, np.where(before == label, 0, before)))
            entry = Entry(**self._next("delete"), label=label, patches=tuple(p for p in patches if p is not None))
            self._commit(entry)
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
        """Make a class, or give one another colour or name.

        Parameters
        ----------
        name
            What it is called so far.
        color
            (red, green, blue) from 0 to 1; left out, that of the class, or one that no other has.
        renamed
            What it is to be called.

        Raises
        ------
        LabelsError, OutputError
            The name is empty or taken, the colour is none, or the journal cannot be written.
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

        Raises
        ------
        LabelsError, OutputError
            As in `undo`; what was taken back before stays so.
        """
        with self._lock:
            return self._turn_together(self.undo, lambda: self.next_undo)

    def redo_together(self) -> list[Entry]:
        """Do the action again that was undone last, and return its entries in order.

        Raises
        ------
        LabelsError, OutputError
            As in `redo`; what was done again before stays so.
        """
        with self._lock:
            return self._turn_together(self.redo, lambda: self.next_redo)

    def _turn_together(self, turn: Callable[[], Entry | None], upcoming: Callable[[], Entry | None]) -> list[Entry]:
        turned: list[Entry] = []
        while (entry := turn()) is not None:
            turned.append(entry)
            after = upcoming()
            if after is None or (after.group or after.number) != (entry.group or entry.number):
                break
        return turned

    def restore(self, target: Target | None = None) -> None:
        """Write all objects into labels that hold none of them: new ones, by default those of the journal.

        Every operation that was not undone is done again to the pixel; what else the labels hold stays.

        Raises
        ------
        LabelsError
            They cannot be written, or have another shape.
        """
        with self._lock:
            into = target or self._open_target()
            with exclusive(into):
                for entry in self._history.entries:
                    for patch in entry.patches:
                        put_patch(into, patch, always=True)

    def flush(self) -> None:
        """Wait until the disk has everything.

        Raises
        ------
        OutputError
            It refuses.
        """
        self._file.flush()

    def close(self) -> None:
        """Let other programs open the journal for writing."""
        self._file.close()

    def _check_shape(self) -> None:
        said = self.about.get("shape")
        if self.target is not None and said is not None and said != list(self.target.array.shape):
            raise LabelsError(
                f"The journal {self.folder} is of labels of shape {tuple(said)} and these have "
                f"{tuple(self.target.array.shape)}: give it the labels that it is of, or name another folder."
            )

    def _open_target(self) -> Target:
        if self.target is None:
            raise LabelsError("The journal was opened without labels, so they cannot be changed: give it the labels.")
        return self.target

    def _next(self, what: What) -> dict[str, Any]:
        number = self._history.number + 1
        group = None if what in ("undo", "redo") or self._group == number else self._group
        return {"number": number, "what": what, "time": now(), "group": group}

    def _label(self, target: Target, plane: Plane, mask: Mask, label: int | None, overlap: Overlap) -> int:
        if label is not None:
            return label
        value = self.next_label
        if value > np.iinfo(dtype_of(target.array)).max:
            plan_edit(target.array, plane, mask, 1, overlap)  # Is this a mask that can be written at all?
            target.widen()
        return value

    def _commit(self, entry: Entry, write: Callable[[], None] | None = None) -> None:
        """Put an entry on the disk, then into the labels, then into the table; or nowhere."""
        changes = self._history.changes(entry)
        if changes:
            with exclusive(self._open_target()):
                self._commit_with(entry, changes, write)
        else:
            self._commit_with(entry, changes, write)

    def _commit_with(self, entry: Entry, changes: Sequence[Patch], write: Callable[[], None] | None) -> None:
        self._file.append(to_json(entry))
        try:
            if write is None:
                self._write(changes)
            else:
                write()
        except BaseException:
            self._file.drop_last()
            raise
        self._mark(entry)
        self._history.take(entry)

    def _write(self, changes: Sequence[Patch]) -> None:
        written: list[Patch] = []
        try:
            for patch in changes:
                written.append(patch)
                put_patch(self._open_target(), patch)
        except BaseException:
            for patch in reversed(written):
                with suppress(LabelsError):
                    put_patch(self._open_target(), patch.reversed())
            raise

    def _mark(self, entry: Entry) -> None:
        self._file.mark({"written": entry.number})


def _named(about: Content) -> str:
    return f" ({about['image']})" if about.get("image") else ""


def open_journal(path: Path | str) -> Journal:
    """Open a journal to read: its folder, the file in it, or the labels that it lies beside.

    Raises
    ------
    LabelsError
        There is none, or it is damaged.
    """
    path = Path(path)
    folder = path.parent if path.is_file() and path.suffix == ".jsonl" else path
    beside = folder.with_name(f"{folder.name}.journal")
    return Journal(beside if folder.suffix != ".journal" and beside.is_dir() else folder, read_only=True)
