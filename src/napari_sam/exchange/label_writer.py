"""LabelWriter: write masks into labels and, if there is one, into their journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from napari_sam.core.geometry import Box, Plane
    from napari_sam.core.masks import Mask, Overlap
    from napari_sam.core.prompts import Prompts
    from napari_sam.journal.entries import Provenance
    from napari_sam.journal.journal import Journal
    from napari_sam.journal.packing.objects import NewObject
    from napari_sam.labels.array import LabelArray

MAX_LABEL = 2**32 - 1


@dataclass(frozen=True, slots=True)
class WrittenObject:
    """An object in the label image.

    Parameters
    ----------
    label
        Its value.
    area
        Number of its pixels in the plane, without those of other labels.
    box
        Bounding box of these pixels.
    """

    label: int
    area: int
    box: Box


@dataclass(frozen=True, slots=True)
class LabelWriter:
    """Writes masks into the labels of an open `LabelOutput`, and into the journal where there is one.

    Parameters
    ----------
    target
        Labels of the whole image, or of one plane of it.
    journal
        Journal of these labels, or None.
    is_plane
        Whether the labels are those of a single plane.
    """

    target: LabelArray
    journal: Journal | None = None
    is_plane: bool = False

    def write(
        self,
        plane: Plane,
        mask: Mask,
        label: int | None = None,
        overlap: Overlap = "keep",
        *,
        prompts: Prompts | None = None,
        made: Provenance | None = None,
        class_name: str | None = None,
    ) -> WrittenObject:
        """Write a mask as an object.

        Parameters
        ----------
        plane
            Plane of the image; ignored where the labels are of one plane only.
        mask
            The pixels.
        label
            Its value; the next free one when left out. Labels of 8 or 16 bits become 32 bits wide where it needs that.
        overlap
            See `LabelOptions`.
        prompts, made, class_name
            Recorded in the journal; lost without one.

        Raises
        ------
        LabelsError
            No pixel of the mask can be written, or the label does not fit the labels' type.
        OutputError
            The journal cannot be written.
        """
        import numpy as np

        from napari_sam.core.geometry import Plane
        from napari_sam.images.lazy.levels import dtype_of

        if self.is_plane:
            plane = Plane.of(self.target.array.shape)
        if label is not None and np.iinfo(dtype_of(self.target.array)).max < label <= MAX_LABEL:
            self.target.widen()
        if self.journal is None:
            edit = self.target.write(plane, mask, label, overlap)
            return WrittenObject(edit.label, edit.area, edit.written_box)
        entry = self.journal.accept(plane, mask, label, overlap, prompts=prompts, made=made, class_name=class_name)
        assert entry.label is not None
        part = self.journal.object(entry.label).part(plane)
        assert part is not None
        return WrittenObject(entry.label, part.area, part.box)

    def together(self) -> AbstractContextManager[None]:
        """Let one undo take back all that is written in a block."""
        return self.target.together() if self.journal is None else self.journal.together()

    def write_all(
        self,
        plane: Plane,
        objects: Sequence[NewObject],
        *,
        made: Provenance | None = None,
        class_name: str | None = None,
    ) -> list[int | None]:
        """Write many new objects, in order of falling priority; pixels of other labels stay.

        Parameters
        ----------
        plane
            Plane of the image; ignored where the labels are of one plane only.
        objects
            The masks, with their prompts.
        made, class_name
            Recorded in the journal; lost without one.

        Returns
        -------
        list of int or None
            The label of each object; None where all its pixels belong to other labels.

        Raises
        ------
        LabelsError, OutputError
            The labels or the journal cannot be written.
        """
        from napari_sam.core.geometry import Plane
        from napari_sam.journal.packing.objects import written_in_groups

        where, target, journal = plane, self.target, self.journal
        if self.is_plane:
            where = Plane.of(target.array.shape)
        with self.together():
            if journal is None:
                return written_in_groups(objects, lambda near: target.write_all(where, [one.mask for one in near]))
            return written_in_groups(
                objects, lambda near: journal.accept_all(where, near, made=made, class_name=class_name).labels
            )
