"""PartsJournal: the operations on parts of objects, which are their pixels in one plane each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Overlap, Provenance
from napari_sam.errors import LabelsError
from napari_sam.journal.entries import AcceptedObjects, Entry, MovedParts
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.journal.operations.undoable import UndoableJournal
from napari_sam.journal.packing.objects import NewObject, PackedObjects
from napari_sam.journal.patches import lost_areas, patches_of
from napari_sam.labels.edit import plan_removal
from napari_sam.labels.object_edits import plan_parts


class PartsJournal(UndoableJournal):
    """The journal with the operations on parts of objects only; see `Journal`."""

    def accept_parts(
        self,
        plane: Plane,
        parts: Mapping[int, NewObject],
        overlap: Overlap = "keep",
        *,
        made: Provenance | None = None,
    ) -> AcceptedObjects:
        """Write the masks of many objects in one plane by one entry, each under the label of its object.

        A mask takes the place of the pixels that its object has in the plane. This takes a fraction of the time of
        `accept`, however many planes the objects have. The labels of the smallest box around all masks are in memory,
        so give masks that lie near each other, and call it in a block of `together` for more of them.

        Parameters
        ----------
        plane
            The plane of the masks.
        parts
            The mask and the prompts of each label, in order of falling priority: a pixel of several masks belongs to
            the first of them. A label that has no object yet makes one.
        overlap
            As in `LabelArray.write`; "empty" leaves out masks that meet other objects or masks before them.
        made
            What led to the masks, kept for `object` and for replaying.

        Returns
        -------
        AcceptedObjects
            The entry, and the label of each mask; None for those of which nothing could be written, whose objects stay
            as they were.

        Raises
        ------
        LabelsError
            There are no masks, one is empty or reaches outside the labels, or these cannot be written; nothing has
            changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        with self._lock, self._open_target().exclusive():
            target = self._open_target()
            if not parts:
                raise LabelsError("There is no mask to accept: give at least one.")
            known = {label: part for label in parts if (part := self._table.part(label, plane)) is not None}
            masks = {label: new.mask for label, new in parts.items()}
            highest = target.next_label - 1
            edit, areas = plan_parts(target, plane, masks, {at: part.box for at, part in known.items()}, overlap)
            labels = [label if label in areas else None for label in parts]
            if edit is None:
                return AcceptedObjects(None, labels)
            entry = Entry(
                **self._next("accept_parts"),
                plane=plane,
                overlap=overlap,
                made=made,
                patches=patches_of([edit]),
                areas=tuple(lost for lost in lost_areas(edit) if lost[0] not in areas),
                objects=PackedObjects.of([*parts.values()], labels, [areas.get(label, 0) for label in parts]),
            )
            self._commit(entry, [edit])
            self._released[entry.number] = max(areas), highest
            return AcceptedObjects(entry, labels)

    def remove_parts(self, label: int, planes: Iterable[Plane]) -> Entry:
        """Take an object out of some of its planes; where none is left, it is gone.

        Parameters
        ----------
        label
            The object.
        planes
            Planes in which it has pixels.

        Raises
        ------
        LabelsError
            There is none of that label, no plane is named, it is not in one of them, or the labels cannot be written;
            nothing has changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        with self._lock, self._open_target().exclusive():
            found, target = self.object(label), self._open_target()
            parts = parts_in(found, planes)
            # Edits are planned and packed one after the other, since an object may have thousands of planes.
            patches = patches_of(plan_removal(target, part.plane, part.box, found.label) for part in parts)
            moved = MovedParts(found.label, 0, tuple(part.plane for part in parts))
            entry = Entry(**self._next("remove_parts"), label=found.label, patches=patches, moved=(moved,))
            self._commit(entry)
            return entry


def parts_in(found: LabelledObject, planes: Iterable[Plane]) -> list[Part]:
    """Return the parts of an object in some planes, each once.

    Raises
    ------
    LabelsError
        No plane is named, or the object has no pixels in one of them.
    """
    known, named = {part.plane: part for part in found.parts}, list(dict.fromkeys(planes))
    if not named:
        raise LabelsError(f"No plane of object {found.label} is named: name at least one in which it has pixels.")
    for plane in named:
        if plane not in known:
            raise LabelsError(
                f"Object {found.label} has no pixels in the plane at {plane.index}: name planes in which it has some."
            )
    return [known[plane] for plane in named]
