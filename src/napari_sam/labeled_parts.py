"""LabeledParts: objects of an image in several planes, which get parts, lose them, are merged and split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy.typing as npt

from napari_sam.arguments import each, shown
from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask, Overlap, Provenance
from napari_sam.core.prompt_checks import check_mask, checked_mask
from napari_sam.errors import LabelsError
from napari_sam.journal.operations.regions import Piece
from napari_sam.journal.packing.objects import NewObject
from napari_sam.labeled_planes import LabeledPlanes
from napari_sam.labels.edit import check_overlap
from napari_sam.labels.object_edits import groups_of
from napari_sam.labels.regions import label_number

PLANES = "a list of planes, each as in segment"


class LabeledParts(LabeledPlanes):
    """The part of `LabeledImage` that changes in which planes an object is, and what belongs to it."""

    def accept_parts(
        self,
        parts: Mapping[int, NewObject | Mask],
        *,
        plane: Plane | int | Sequence[int] | None = None,
        overlap: Overlap = "keep",
        made: Provenance | None = None,
    ) -> list[int | None]:
        """Write masks of many objects in one plane, each under the label of its object; far quicker than one by one.

        A mask takes the place of the pixels that its object has in the plane. Needs a journal.

        Parameters
        ----------
        parts
            The mask of each label, those with prompts as `NewObject`, in order of falling priority: a pixel of several
            belongs to the first of them. A label without an object makes one. Masks that lie far apart are written in
            blocks, as in `accept_all`.
        plane
            The plane to write to; see `plane`. By default that of the last call of `segment`.
        overlap
            As in `accept_all`.
        made
            What led to the masks, kept in the journal.

        Returns
        -------
        list of int or None
            The label of each mask; None where nothing of it could be written, and the object stays as it was.

        Raises
        ------
        LabelsError
            There is no journal, a mask is empty or reaches outside the labels, or these cannot be written. The blocks
            before it are written.
        ImageError
            There is no such plane.
        OutputError
            The journal cannot be written.
        """
        check_overlap(overlap)
        where, journal = self._plane_or_last(plane), self._journal()
        given: dict[int, NewObject] = {}
        for label, part in parts.items():
            new = NewObject(part) if isinstance(part, Mask) else part
            if not isinstance(new, NewObject):
                raise LabelsError(f"A part to accept is a Mask or a NewObject and not {shown(part)}: make one.")
            check_mask(new.mask, LabelsError)
            given[label_number(label)] = new
        labels = [*given]
        written: dict[int, int | None] = {}
        with journal.together():
            for group in groups_of([new.mask for new in given.values()]):
                near = {labels[at]: given[labels[at]] for at in group}
                written |= dict(zip(near, journal.accept_parts(where, near, overlap, made=made).labels, strict=True))
        return [written[label] for label in labels]

    def remove_planes(self, label: int, planes: Iterable[Plane | int | Sequence[int]]) -> None:
        """Take an object out of some of its planes; where none is left, the object is gone.

        Parameters
        ----------
        label
            Label of the object.
        planes
            Planes in which it has pixels; see `plane`.

        Raises
        ------
        LabelsError
            There is no journal, no such object in it, no plane, or one in which the object is not; nothing has changed.
        ImageError
            There is no such plane.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        journal = self._journal()
        journal.remove_parts(label_number(label), each(planes, "The planes", PLANES, self.plane))

    def merge(self, labels: Sequence[int]) -> int:
        """Make one object of several, in all planes; one `undo` takes it back.

        Parameters
        ----------
        labels
            Labels of the objects. The first one keeps its label and its class, and gets all pixels of the others. In
            planes where several of them are, the prompts are replaced by the mask.

        Returns
        -------
        int
            The label of the object.

        Raises
        ------
        LabelsError
            There is no journal, no such object in it, fewer than two objects, or the labels cannot be written; nothing
            has changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        journal = self._journal()
        entry = journal.merge(each(labels, "The labels", "a list of labels", label_number))
        return entry.labels[0]

    def split(
        self,
        label: int,
        *,
        planes: Iterable[Plane | int | Sequence[int]] | None = None,
        mask: Mask | npt.ArrayLike | None = None,
        plane: Plane | int | Sequence[int] | None = None,
    ) -> list[int]:
        """Make a part of an object one of its own, or each of its connected regions; one `undo` takes it back.

        The object keeps its label, and the new ones get its class.

        Parameters
        ----------
        label
            Label of the object.
        planes
            What the object has in these planes is split off; see `plane`.
        mask
            What it has under this mask is split off: a `Mask`, or a boolean array of the plane's shape.
        plane
            The plane of the mask. By default the only one of the object.

        Returns
        -------
        list of int
            The new labels: one for the planes or the mask. Without either, one for each connected region but the
            largest; pixels touch at their sides and corners, in a plane and in the next one.

        Raises
        ------
        LabelsError
            There is no journal, no such object in it, nothing of the object in the planes or the mask, nothing would be
            left of it, or it is in one piece; nothing has changed.
        ImageError, PromptError
            There is no such plane, or the mask has another shape.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        journal, value = self._journal(), label_number(label)
        piece: Piece
        if mask is not None:
            if planes is not None:
                raise LabelsError("An object is split by planes or by a mask, and both are given: leave one out.")
            where = self._plane_of_mask(value, plane)
            piece = {where: checked_mask(mask, where.shape_in(self.shape))}
        elif plane is not None:
            raise LabelsError("A plane is given without a mask: give the mask, or planes=[...] to split these off.")
        elif planes is not None:
            piece = dict.fromkeys(each(planes, "The planes", PLANES, self.plane))
        else:
            return journal.split_regions(value).labels[1:]
        return journal.split(value, [piece]).labels[1:]

    def set_parents(self, parents: Mapping[int, int | None]) -> None:
        """Say which object each of some objects comes from by division, as tracks are exported; undone by `undo`.

        Parameters
        ----------
        parents
            The label of the parent of each label; None for none.

        Raises
        ------
        LabelsError
            There is no journal, no such object in it, or an object would be its own ancestor; nothing has changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        journal = self._journal()
        journal.set_parents(
            {label_number(child): None if parent is None else label_number(parent) for child, parent in parents.items()}
        )

    def _plane_of_mask(self, label: int, plane: Plane | int | Sequence[int] | None) -> Plane:
        if plane is not None:
            return self.plane(plane)
        parts = self._journal().object(label).parts
        if len(parts) > 1:
            raise LabelsError(f"Object {label} is in {len(parts)} planes: name the plane of the mask.")
        return parts[0].plane
