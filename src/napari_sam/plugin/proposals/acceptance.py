"""ProposalCommit: write proposals into the labels, all by one step of undo."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import LabelsError
from napari_sam.everything.linking import PlaneLinker
from napari_sam.everything.options import FilterOptions
from napari_sam.journal.packing.objects import NewObject, written_in_groups
from napari_sam.plugin.proposals.selection import box_of
from napari_sam.tasks.everything import LinkedWriter

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.core.geometry import Box, Plane
    from napari_sam.core.masks import Mask, Overlap, Provenance
    from napari_sam.everything.found import FoundObjects
    from napari_sam.journal.entries import Entry
    from napari_sam.journal.journal import Journal
    from napari_sam.plugin.layers.labels import LayerLabels
    from napari_sam.plugin.objects.open_journal import OpenJournal
    from napari_sam.plugin.proposals.found_planes import FoundPlanes

# A proposal of which other objects cover a larger share is one of them, found again.
MAX_COVERED = FilterOptions().max_overlap


@dataclass(frozen=True, slots=True, eq=False)
class ProposalCommit:
    """Proposals that the user accepted.

    Parameters
    ----------
    found, numbers
        The proposals, and the numbers of those to write, best first.
    runs
        The planes, those together and in order of which the objects go on from one to the next.
    overlap, class_name, made
        How they are written over other labels, under which class, and what found them.
    done
        Called with the layer, how many objects were written, and how many proposals they are made of.
    failed
        Called with the error if nothing can be written.
    """

    found: FoundPlanes
    numbers: NDArray[np.intp]
    runs: Sequence[Sequence[Plane]]
    overlap: Overlap
    class_name: str | None
    made: Provenance | None
    done: Callable[[Labels, int, int], None]
    failed: Callable[[Exception], None]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return len(self.numbers) == 0

    @property
    def area(self) -> int:
        """Number of pixels that are looked at."""
        return len(self.found.parts) * math.prod(box_of(self.found.boxes[self.numbers]).pixel_shape)

    def write(self, journal: Journal, labels: LayerLabels) -> Sequence[Entry]:
        """Write the proposals into the labels of a journal; safe in any thread."""
        entries: list[Entry] = []
        goes_on = self.overlap == "keep" and not labels.is_empty
        with journal.together():
            for run in self.runs:
                links = len(run) > 1
                known = self._known(run, labels) if links and goes_on else {}
                writer = _Writer(self, journal, labels, entries, links=links, known=known)
                for part, chosen in self._chosen(run):
                    writer.write_chosen(part, chosen)
        if not entries:
            raise LabelsError(
                "Other objects cover all of these proposals: choose 'overwrite' as the overlap, or another output."
            )
        return entries

    def report(self, open_journal: OpenJournal, entries: Sequence[Entry]) -> None:
        """Tell the caller how many objects were written."""
        written = [label for entry in entries for label in entry.labels]
        self.done(open_journal.layer, len(set(written)), len(written))

    def _chosen(self, run: Sequence[Plane]) -> Iterator[tuple[FoundObjects, NDArray[np.intp]]]:
        """Yield the proposals of each plane, and the numbers of those to write."""
        for plane in run:
            part = self.found.on(plane)
            assert part is not None
            yield part, self.found.among(plane, self.numbers)

    def _known(self, run: Sequence[Plane], labels: LayerLabels) -> dict[int, int]:
        """Return the labels of objects of which a part was accepted before, by the numbers of a `PlaneLinker`."""
        linker, known = PlaneLinker(), dict[int, int]()
        for part, chosen in self._chosen(run):
            under = functools.partial(_labels_under, labels, part.plane)
            found = written_in_groups(part.objects(chosen), under)
            for number, label in zip(linker.link(part, chosen), found, strict=True):
                if label is not None:
                    known.setdefault(int(number), label)
        return known


class _Writer(LinkedWriter):
    """Writes with a journal, and leaves out what was accepted before: only a thin rim of it would be written."""

    def __init__(
        self,
        commit: ProposalCommit,
        journal: Journal,
        labels: LayerLabels,
        entries: list[Entry],
        *,
        links: bool,
        known: Mapping[int, int],
    ) -> None:
        super().__init__(links=links, known=known)
        self._commit, self._journal, self._target, self._entries = commit, journal, labels, entries

    def _write_new(self, plane: Plane, objects: list[NewObject], class_name: str | None = None) -> Sequence[int | None]:
        return written_in_groups(objects, lambda near: self._write_near(plane, near, class_name))

    def _write_near(self, plane: Plane, near: Sequence[NewObject], class_name: str | None) -> Sequence[int | None]:
        """Write new objects; one that was accepted before has its label already."""
        labels = self._accepted(plane, near)
        new = [at for at, label in enumerate(labels) if label is None]
        if new:
            commit = self._commit
            accepted = self._journal.accept_all(
                plane,
                [near[at] for at in new],
                commit.overlap,
                made=commit.made,
                class_name=class_name or commit.class_name,
            )
            self._entries += [] if accepted.entry is None else [accepted.entry]
            for at, label in zip(new, accepted.labels, strict=True):
                labels[at] = label
        return labels

    def _write_part(self, plane: Plane, part: NewObject, label: int) -> int | None:
        commit = self._commit
        if self._accepted(plane, [part])[0] is not None:
            return None
        try:
            entry = self._journal.accept(
                plane, part.mask, label, commit.overlap, prompts=part.prompts, made=commit.made
            )
        except LabelsError:  # All its pixels belong to others.
            return None
        self._entries.append(entry)
        return label

    def _accepted(self, plane: Plane, near: Sequence[NewObject]) -> list[int | None]:
        """Return the labels of those that were accepted before, and None for the others."""
        if self._commit.overlap != "keep":
            return [None] * len(near)
        return _labels_under(self._target, plane, near)


def _labels_under(labels: LayerLabels, plane: Plane, near: Sequence[NewObject]) -> list[int | None]:
    """Return the label of the object that covers most of each object, or None where others cover little of it."""
    box = box_of(np.array([new.mask.box.as_tuple() for new in near], np.int64))
    there = labels.read(plane, box)
    return [_covering_label(there[_within(new.mask, box)][new.mask.pixels]) for new in near]


def _covering_label(pixels: NDArray[np.integer]) -> int | None:
    taken = pixels[pixels > 0]
    if len(taken) <= MAX_COVERED * len(pixels):
        return None
    values, counts = np.unique(taken, return_counts=True)
    return int(values[np.argmax(counts)])


def _within(mask: Mask, box: Box) -> tuple[slice, slice]:
    """Return where a mask lies in an array of a box."""
    return mask.box.moved(-box.top, -box.left).slices
