"""ProposalCommit: write proposals into the labels, all by one step of undo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.errors import LabelsError
from napari_sam.everything.options import FilterOptions
from napari_sam.journal.packing.objects import NewObject
from napari_sam.labels.edit import groups_of
from napari_sam.plugin.proposals.selection import box_of

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.core.masks import Mask, Overlap, Provenance
    from napari_sam.everything.found import FoundObjects
    from napari_sam.journal.entries import Entry
    from napari_sam.journal.journal import Journal
    from napari_sam.plugin.layers.labels import LayerLabels
    from napari_sam.plugin.objects.open_journal import OpenJournal

# A proposal of which other objects cover a larger share is one of them, found again.
MAX_COVERED = FilterOptions().max_overlap


@dataclass(frozen=True, slots=True, eq=False)
class ProposalCommit:
    """Proposals that the user accepted.

    Parameters
    ----------
    found, numbers
        The proposals, and the numbers of those to write, best first.
    overlap, class_name, made
        How they are written over other labels, under which class, and what found them.
    done
        Called with the layer and how many objects were written.
    failed
        Called with the error if nothing can be written.
    """

    found: FoundObjects
    numbers: NDArray[np.intp]
    overlap: Overlap
    class_name: str | None
    made: Provenance | None
    done: Callable[[Labels, int], None]
    failed: Callable[[Exception], None]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return len(self.numbers) == 0

    @property
    def box(self) -> Box:
        """The box in which pixels may change."""
        return box_of(self.found.boxes[self.numbers])

    def write(self, journal: Journal, labels: LayerLabels) -> Sequence[Entry]:
        """Write the proposals into the labels of a journal; safe in any thread."""
        found, entries = self.found, []
        objects = found.objects(self.numbers)
        with journal.together():
            for group in groups_of([new.mask for new in objects]):
                near = self._new_ones([objects[at] for at in group], labels)
                if not near:
                    continue
                entry = journal.accept_all(
                    found.plane, near, self.overlap, made=self.made, class_name=self.class_name
                ).entry
                if entry is not None:
                    entries.append(entry)
        if not entries:
            raise LabelsError(
                "Other objects cover all of these proposals: choose 'overwrite' as the overlap, or another output."
            )
        return entries

    def _new_ones(self, near: list[NewObject], labels: LayerLabels) -> list[NewObject]:
        """Leave out what was accepted before: of an object that was found again, only a thin rim would be written."""
        if self.overlap != "keep":
            return near
        box = box_of(np.array([new.mask.box.as_tuple() for new in near], np.int64))
        taken = labels.read(self.found.plane, box) > 0
        return [new for new in near if taken[_within(new.mask, box)][new.mask.pixels].mean() <= MAX_COVERED]

    def report(self, open_journal: OpenJournal, entries: Sequence[Entry]) -> None:
        """Tell the caller how many objects were written."""
        self.done(open_journal.layer, sum(len(entry.labels) for entry in entries))


def _within(mask: Mask, box: Box) -> tuple[slice, slice]:
    """Return where a mask lies in an array of a box."""
    return mask.box.moved(-box.top, -box.left).slices
