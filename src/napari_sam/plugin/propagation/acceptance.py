"""PlaneAcceptance: accept propagated planes as they are, or let the next propagation change them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_sam.core.masks import Provenance

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.core.geometry import Plane
    from napari_sam.journal.entries import Entry
    from napari_sam.journal.journal import Journal
    from napari_sam.plugin.layers.labels import LayerLabels
    from napari_sam.plugin.objects.open_journal import OpenJournal


@dataclass(frozen=True, slots=True, eq=False)
class PlaneAcceptance:
    """Objects whose masks in a plane are accepted, or count as propagated again.

    Parameters
    ----------
    planes
        The plane of each object, by label.
    is_accepted
        Whether they are accepted.
    area
        Number of pixels that are looked at.
    done
        Called with the layer.
    failed
        Called with the error if the labels cannot be written.
    """

    planes: dict[int, Plane]
    is_accepted: bool
    area: int
    done: Callable[[Labels], None]
    failed: Callable[[Exception], None]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.planes

    def write(self, journal: Journal, labels: LayerLabels) -> Sequence[Entry]:
        """Write the same masks again, as what they are from now on; safe in any thread."""
        entries = []
        with journal.together():
            for label, plane in self.planes.items():
                part = journal.object(label).part(plane)
                if part is None:  # It was taken away meanwhile.
                    continue
                made = replace(part.made or Provenance(), is_propagated=not self.is_accepted)
                mask, prompts = part.accepted.mask, part.prompts
                entries.append(journal.accept(plane, mask, label, part.overlap, prompts=prompts, made=made))
        return entries

    def report(self, open_journal: OpenJournal, entries: Sequence[Entry]) -> None:
        """Tell the caller what was written."""
        self.done(open_journal.layer)
