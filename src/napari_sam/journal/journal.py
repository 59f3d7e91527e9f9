"""Journal: every change of the objects of an image, on disk before it is in the labels, with undo and redo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap, Provenance
from napari_sam.core.prompts import Prompts
from napari_sam.files.paths import exists
from napari_sam.journal.entries import AcceptedObjects, Entry, LabelClass, PackedMask, class_named, defined_class
from napari_sam.journal.operations.ancestry import checked_parents
from napari_sam.journal.operations.merging import MergingJournal
from napari_sam.journal.packing.objects import NewObject, PackedObjects
from napari_sam.journal.patches import area_changes, lost_areas, patches_of
from napari_sam.journal.storage.opening import FILES
from napari_sam.labels.edit import plan_edit, plan_removal
from napari_sam.labels.object_edits import plan_objects


class Journal(MergingJournal):
    """The objects of an image: accepted, corrected, deleted, classified, divided, and all of it undone and redone.

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
            entry = Entry(
                **self._next("correct" if part else "accept"),
                label=value,
                plane=plane,
                overlap=overlap,
                prompts=prompts,
                made=made,
                accepted=PackedMask.of(mask),
                patches=patches_of([edit]),
                areas=area_changes(edit, part.area if part else 0),
                label_class=None if class_name is None else class_named(self.classes, class_name),
            )
            self._commit(entry, [edit])
            self._released[entry.number] = value, highest
            return entry

    def accept_all(
        self,
        plane: Plane,
        objects: Sequence[NewObject],
        overlap: Overlap = "keep",
        *,
        made: Provenance | None = None,
        class_name: str | None = None,
    ) -> AcceptedObjects:
        """Write many masks as new objects by one entry: one read and one write of the labels around all of them.

        This takes a fraction of the time of `accept`. The labels of the smallest box around all masks are in memory, so
        give masks that lie near each other, and call it in a block of `together` for more of them.

        Parameters
        ----------
        plane
            The plane of the masks.
        objects
            The masks in order of falling priority: a pixel of several belongs to the first of them.
        overlap
            As in `LabelArray.write`; "empty" leaves out masks that meet other objects or masks before them.
        made
            What led to the masks, kept for `object` and for replaying.
        class_name
            The class of all of them, made where there is none; none when left out.

        Returns
        -------
        AcceptedObjects
            The entry, and the label of each object; None for those of which nothing could be written.

        Raises
        ------
        LabelsError
            There are no masks, one reaches outside the labels, or these cannot be written; nothing has changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        with self._lock, self._open_target().exclusive():
            target, masks = self._open_target(), [new.mask for new in objects]
            free = self._write_ahead.free_labels(target, len(masks))
            highest = target.next_label - 1
            edit, labels, areas = plan_objects(target, plane, masks, free, overlap)
            if edit.changes_nothing:
                return AcceptedObjects(None, labels)
            entry = Entry(
                **self._next("accept_all"),
                plane=plane,
                overlap=overlap,
                made=made,
                patches=patches_of([edit]),
                areas=lost_areas(edit),
                label_class=None if class_name is None else class_named(self.classes, class_name),
                objects=PackedObjects.of(objects, labels, areas),
            )
            self._commit(entry, [edit])
            self._released[entry.number] = max(entry.labels), highest
            return AcceptedObjects(entry, labels)

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
            entry = Entry(**self._next("delete"), label=label, patches=patches_of(edits))
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

    def set_parents(self, parents: Mapping[int, int | None]) -> Entry:
        """Say which object each of some objects comes from by division; None takes that back.

        Raises
        ------
        LabelsError
            None is named, one is not there, or an object would be its own ancestor.
        OutputError
            The journal cannot be written.
        """
        with self._lock:
            checked = checked_parents(parents, lambda label: self.object(label).parent)
            entry = Entry(**self._next("set_parents"), parents=checked)
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


def open_journal(path: Path | str) -> Journal:
    """Open a journal to read: its folder, the file in it, or the labels that it lies beside.

    Raises
    ------
    LabelsError
        There is none, or it is damaged.
    """
    path = Path(path)
    folder = path.parent if path.name in FILES else path
    beside = folder.with_name(f"{folder.name}.journal")
    return Journal(beside if folder.suffix != ".journal" and exists(beside) else folder, read_only=True)
