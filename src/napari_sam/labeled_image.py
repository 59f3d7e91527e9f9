"""LabeledImage: the planes of an image, and the labels into which its objects are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.arguments import path_argument, shown
from napari_sam.core.candidates import Candidates
from napari_sam.core.cleaning import Cleaning
from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask, Overlap, Provenance
from napari_sam.core.prompt_checks import check_mask
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError, OutputError, PromptError
from napari_sam.journal.entries import Entry
from napari_sam.journal.packing.objects import NewObject, written_in_groups
from napari_sam.journal.write_ahead import is_of_many_objects
from napari_sam.labeled_parts import LabeledParts
from napari_sam.labels.edit import LabelEdit
from napari_sam.labels.opening import open_labels as open_labels
from napari_sam.labels.regions import label_number


class LabeledImage(LabeledParts):
    """Write masks of objects into labels of an image, and change them later.

    This part of `Segmenter` needs no model.

    Parameters
    ----------
    volume
        The image.
    axes
        (row axis, column axis) of the planes; those of the volume by default.

    Attributes
    ----------
    volume
        The image.
    journal
        The journal, or None.
    """

    def accept(
        self,
        mask: Mask | Candidates,
        *,
        label: int | None = None,
        plane: Plane | int | Sequence[int] | None = None,
        overlap: Overlap = "keep",
        cleaning: Cleaning | None = None,
        class_name: str | None = None,
    ) -> int:
        """Write a mask into the labels, as an object.

        Parameters
        ----------
        mask
            A mask; of candidates the best one is taken.
        label
            The label to write, from 1 on. By default the next free one. With a journal, a mask under the label of an
            object replaces the pixels of the object in that plane; without one, the mask is added to them. In another
            plane it becomes a part of the object.
        plane
            The plane to write to; see `plane`. By default that of the candidates, or of the last call of `segment`.
        overlap
            "keep" (the default) leaves pixels of other labels alone, "overwrite" replaces them, "empty" refuses a mask
            that meets any.
        cleaning
            Cleaning of the mask before it is written; none by default.
        class_name
            Class of the object, which is created if there is none of that name. Needs a journal.

        Returns
        -------
        int
            The label that was written.

        Raises
        ------
        LabelsError
            The mask is empty, all its pixels belong to other labels, the label does not fit the type of the labels, or
            there is no journal for a class. Nothing has changed.
        ImageError, PromptError
            There is no such plane, or the cleaning is not a `Cleaning`.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        if not isinstance(mask, (Mask, Candidates)):
            raise LabelsError("Only a mask that segment() gave can be accepted: pass candidates, or one of them.")
        where = mask.plane if plane is None and isinstance(mask, Candidates) else self._plane_or_last(plane)
        chosen = mask.best if isinstance(mask, Candidates) else mask
        check_mask(chosen, LabelsError)
        label = None if label is None else label_number(label)
        _check_overlap(overlap)
        if not (cleaning is None or isinstance(cleaning, Cleaning)):
            raise PromptError(f"The cleaning must be a Cleaning and is {shown(cleaning)}: make one.")
        _check_class(class_name)
        clean = chosen if cleaning is None else cleaning(chosen, where.shape_in(self.shape))
        if self.journal is None and class_name is None:
            return self._store().write(where, clean, label, overlap).label
        prompts, made = self._origin_of(chosen, mask)
        entry = self._journal().accept(where, clean, label, overlap, prompts=prompts, made=made, class_name=class_name)
        assert entry.label is not None
        return entry.label

    def accept_all(
        self,
        objects: Sequence[NewObject | Mask],
        *,
        plane: Plane | int | Sequence[int] | None = None,
        overlap: Overlap = "keep",
        made: Provenance | None = None,
        class_name: str | None = None,
    ) -> list[int | None]:
        """Write many masks into the labels as new objects, far quicker than one by one; one `undo` takes all back.

        Parameters
        ----------
        objects
            The masks, those with prompts as `NewObject`, in order of falling priority: a pixel of several belongs to
            the first of them. Masks that lie far apart are written in blocks of 2048 x 2048 pixels, row by row, and of
            masks in two blocks that overlap the earlier block's gets the pixels.
        plane
            The plane to write to; see `plane`. By default that of the last call of `segment`.
        overlap
            "keep" (the default) leaves pixels of other labels alone, "overwrite" replaces them, "empty" leaves out
            masks that meet other labels or masks before them.
        made
            What led to the masks, kept in the journal.
        class_name
            Class of all objects, which is created if there is none of that name. Needs a journal.

        Returns
        -------
        list of int or None
            The label of each object; None where all its pixels belong to other labels.

        Raises
        ------
        LabelsError
            A mask reaches outside the labels, or there is no journal for a class. The blocks before it are written.
        ImageError
            There is no such plane.
        OutputError
            The journal cannot be written.
        """
        _check_overlap(overlap)
        _check_class(class_name)
        where = self._plane_or_last(plane)
        given = [NewObject(each) if isinstance(each, Mask) else each for each in objects]
        for each in given:
            if not isinstance(each, NewObject):
                raise LabelsError(f"An object to accept is a Mask or a NewObject and not {shown(each)}: make one.")
            check_mask(each.mask, LabelsError)
        journal = self.journal if class_name is None else self._journal()
        if journal is None:
            store = self._store()
            with store.together():
                return written_in_groups(
                    given, lambda near: store.write_all(where, [each.mask for each in near], overlap)
                )
        with journal.together():
            return written_in_groups(
                given,
                lambda near: journal.accept_all(where, near, overlap, made=made, class_name=class_name).labels,
            )

    def undo(self) -> LabelEdit | Entry | None:
        """Undo the last `accept`, `accept_all` or `propagate`, or with a journal the last operation of any session.

        Pixels that were changed again since are left alone.

        Returns
        -------
        Entry, LabelEdit or None
            The operation that was undone, from a journal; the write, without one; None when nothing is left. Of those
            of an `accept_all`, the first one.

        Raises
        ------
        LabelsError, OutputError
            The labels or the journal cannot be written; nothing has changed.
        """
        if self.journal is None:
            return self._store().undo()
        last = self.journal.next_undo
        has_many = last is not None and is_of_many_objects(last, self.journal.entries)
        return self.journal.undo_together()[-1] if has_many else self.journal.undo()

    def redo(self) -> Entry | None:
        """Redo the operation that was undone last, and return it as `undo` does; None when there is none.

        Raises
        ------
        LabelsError
            There is no journal, or the labels cannot be written; nothing has changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        journal = self._journal()
        return journal.redo_together()[0] if journal.redoes_many_objects else journal.redo()

    def reopen(self, label: int) -> Prompts:
        """Return the prompts of an object, to segment it again; then `accept` the new mask under the same label.

        Parameters
        ----------
        label
            Label of the object.

        Returns
        -------
        Prompts
            Those it was segmented by; its mask as a prompt, where they are not known.

        Raises
        ------
        LabelsError
            There is no journal, or no such object in it.
        """
        found = self._journal().object(label_number(label))
        self._last_plane = found.plane
        return found.prompts or Prompts.of(mask=found.mask, shape=found.plane.shape_in(self.shape))

    def delete(self, label: int) -> None:
        """Delete an object, in all planes.

        Parameters
        ----------
        label
            Label of the object.

        Raises
        ------
        LabelsError
            There is no journal, no such object in it, or the labels cannot be written; nothing has changed.
        OutputError
            The journal cannot be written; nothing has changed.
        """
        self._journal().delete(label_number(label))

    def classify(self, label: int, name: str | None) -> None:
        """Give an object a class.

        Parameters
        ----------
        label
            Label of the object.
        name
            Name of the class, which is created if there is none of that name; None to remove the object's class.

        Raises
        ------
        LabelsError
            There is no journal, no such object in it, or the name is empty.
        OutputError
            The journal cannot be written.
        """
        _check_class(name)
        self._journal().classify(label_number(label), name)

    def _origin_of(self, mask: Mask, given: Mask | Candidates) -> tuple[Prompts | None, Provenance | None]:
        """Return the prompts that a mask answers and how it was made, where that is known."""
        return None, None


def checked_journal(journal: Any) -> bool | Path:
    """Return whether a journal is kept, or its folder.

    Raises
    ------
    OutputError
        It is neither True, False, None nor a path.
    """
    if journal is None or isinstance(journal, (bool, np.bool_)):
        return bool(journal)
    if not isinstance(journal, (str, Path)):
        raise OutputError(f"The journal must be True, False or a folder and is {shown(journal)}: correct it.")
    return path_argument(journal, "The journal", OutputError)


def _check_overlap(overlap: Any) -> None:
    if not isinstance(overlap, str):
        raise LabelsError(f"The overlap must be keep, overwrite or empty and is {shown(overlap)}: correct it.")


def _check_class(name: str | None) -> None:
    if not (name is None or isinstance(name, str)):
        raise LabelsError(f"The name of a class must be text and is {shown(name)}: write it in quotes.")
