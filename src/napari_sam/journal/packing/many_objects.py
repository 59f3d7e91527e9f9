"""Write many new objects as one action, block by block, into labels with or without a journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_sam.labels.edit import groups_of

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.core.masks import Overlap, Provenance
    from napari_sam.journal.journal import Journal
    from napari_sam.journal.packing.objects import NewObject
    from napari_sam.labels.array import LabelArray


def write_together(
    target: LabelArray,
    journal: Journal | None,
    plane: Plane,
    objects: Sequence[NewObject],
    overlap: Overlap = "keep",
    *,
    made: Provenance | None = None,
    class_name: str | None = None,
) -> list[int | None]:
    """Write many new objects into labels block by block, as one action; see `LabeledImage.accept_all`.

    Parameters
    ----------
    target, journal
        The labels, and their journal or None.
    plane, objects, overlap, made, class_name
        As in `LabeledImage.accept_all`.
    """
    labels: list[int | None] = [None] * len(objects)
    with target.together() if journal is None else journal.together():
        for group in groups_of([each.mask for each in objects]):
            near = [objects[at] for at in group]
            if journal is None:
                written = target.write_all(plane, [each.mask for each in near], overlap)
            else:
                written = journal.accept_all(plane, near, overlap, made=made, class_name=class_name).labels
            for at, label in zip(group, written, strict=True):
                labels[at] = label
    return labels
