"""LabelLayers: masks are committed to Labels layers through the journals of these."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError, NapariSamError
from napari_sam.journal.discovery import record
from napari_sam.journal.entries import Entry, Provenance
from napari_sam.plugin.drafts import PickedObject
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.layers.labels import LayerLabels
from napari_sam.plugin.objects.journals import Journals, OpenJournal, Outcome, opened, outcome, source_of
from napari_sam.plugin.workers.runner import Work

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_sam.journal.journal import Journal
    from napari_sam.labels.pyramid import LabelPyramid
    from napari_sam.plugin.workers.runner import Report, Runner


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a mask that was accepted.

    Parameters
    ----------
    label
        Of the object.
    area
        How many pixels the object has in the plane.
    number
        Of the entry in the journal.
    """

    label: int
    area: int
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Commit:
    """A mask that the user accepted.

    Parameters
    ----------
    plane, mask, overlap
        What to write, where, and what happens to other labels there.
    done
        Called with the layer and what was written.
    failed
        Called with the reason when it cannot be.
    replaces
        The object whose place the mask takes, under its label; None for a new one.
    prompts, made, class_name
        What the journal is to know of it.
    firsts
        The first entry in each journal of the action that this is part of: several objects accepted together.
    """

    plane: Plane
    mask: Mask
    overlap: Overlap
    done: Callable[[Labels, Written], None]
    failed: Callable[[Exception], None]
    replaces: PickedObject | None = None
    prompts: Prompts | None = None
    made: Provenance | None = None
    class_name: str | None = None
    firsts: Mapping[Journal, int] = field(default_factory=dict)

    @property
    def box(self) -> Box:
        """Where pixels may change."""
        return self.mask.box if self.replaces is None else self.mask.box.union(self.replaces.mask.box)

    def write(self, journal: Journal) -> Entry:
        """Write it with a journal, in any thread."""
        old = self.replaces
        with journal.together(self.firsts.get(journal)):
            return journal.accept(
                self.plane,
                self.mask,
                None if old is None else old.label,
                self.overlap,
                prompts=self.prompts,
                made=self.made,
                class_name=self.class_name if old is None else None,
                replaces=None if old is None else old.mask.box,
            )


class LabelLayers:
    """Commits masks to Labels layers under labels that are free.

    Every layer has a journal, which writes the masks and undoes that.

    Parameters
    ----------
    viewer
        The viewer's model.
    runner
        Runs what writes on disk.
    insert
        Adds a new layer in its place.
    notify
        Shows one sentence to the user.
    journals
        The journals of the layers.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        runner: Runner,
        insert: Callable[[Labels], None],
        notify: Callable[[str], None],
        journals: Journals,
    ) -> None:
        self._viewer, self._runner, self._insert, self._notify = viewer, runner, insert, notify
        self._journals = journals
        self._highest: dict[Labels, int] = {}
        self._watched: set[Labels] = set()

    def watch(self, layer: Labels, highest: int | None = None) -> None:
        """Follow a layer's labels from now on; `highest` is its highest one, where that is known."""
        if layer not in self._watched:
            self._watched.add(layer)
            layer.events.paint.connect(self._on_paint)
            layer.events.data.connect(self._on_replaced)
        if highest is None:
            return
        kept = self._journals.kept(layer)
        if kept is None:
            self._highest.setdefault(layer, highest)
        elif not kept.target.is_searched and not kept.is_busy:
            kept.target.note_highest(highest)

    def forget(self, layer: Labels) -> None:
        """Stop following a layer, and close its journal."""
        self._highest.pop(layer, None)
        self._journals.forget(layer)
        if layer in self._watched:
            self._watched.remove(layer)
            layer.events.paint.disconnect(self._on_paint)
            layer.events.data.disconnect(self._on_replaced)

    def close(self) -> None:
        """Stop following all layers, and close their journals."""
        self._journals.close()
        for layer in list(self._watched):
            self.forget(layer)

    def is_searched(self, layer: Labels) -> bool:
        """Say whether the highest label of a layer is known, so that a write need not look for it."""
        kept = self._journals.kept(layer)
        return layer in self._highest or (kept is not None and kept.target.is_searched) or _is_on_disk(layer)

    def commit(self, image: Image, target: Labels | None, acceptance: Commit) -> None:
        """Write a mask under the next free label of a Labels layer, made anew where there is none.

        What is quick is written at once, and the rest by a job, and before any other.

        Parameters
        ----------
        image
            What the mask is of.
        target
            The layer to write into, or None.
        acceptance
            What to write, and who is told of the end.
        """
        try:
            if acceptance.mask.area == 0:  # Before a layer is made for it.
                raise LabelsError("The mask is empty, so there is nothing to accept: move or add a prompt.")
            if target is not None:
                labels_layer.check_target(target, image)
                highest = self._highest.get(target)
                self._journals.open(target, image, lambda: self._write(target, acceptance), highest=highest)
            else:
                self._write_anew(image, acceptance)
        except NapariSamError as error:
            acceptance.failed(error)

    def prepare(self, layer: Labels, image: Image) -> None:
        """Open the journal of a layer that was chosen, if there is one already."""
        if self._journals.kept(layer) is None and self._journals.is_left(layer, image):
            self._journals.open(layer, image, lambda: None, highest=self._highest.get(layer))

    def _write_anew(self, image: Image, acceptance: Commit) -> None:
        """Write into a new layer, in memory or, where it is too large, on disk."""
        layer = own_layers.make_labels(image)
        if layer is None:
            self._create(image, acceptance)
            return

        def then() -> None:
            self._insert(layer)
            self.watch(layer, 0)
            self._write(layer, acceptance)

        self._journals.open(layer, image, then, is_new=True)

    def _write(self, layer: Labels, acceptance: Commit) -> None:
        """Write with the journal of a layer."""
        kept = self._journals.kept(layer)
        if kept is None:
            acceptance.failed(LabelsError(f"{layer.name!r} is gone: choose other labels."))
            return
        kept.target.note_used(self._highest.pop(layer, 0))  # Painted while the journal was opened.

        def done(entries: Sequence[Entry]) -> None:
            acceptance.done(layer, _written(kept, entries[-1]))

        def write(journal: Journal) -> list[Entry]:
            return [acceptance.write(journal)]

        self._journals.act(kept, math.prod(acceptance.box.pixel_shape), write, done, acceptance.failed)

    def _create(self, image: Image, acceptance: Commit) -> None:
        """Make a pyramid on disk with its journal in a job, write the first mask into it, and show it."""
        make = own_layers.pyramid_maker(own_layers.label_path(image), image)
        volume, source = adapters.shown([image]).volume, source_of(image)

        def job(_: Report) -> tuple[LabelPyramid, OpenJournal, Outcome]:
            pyramid = make()
            target = LayerLabels(None, pyramid)
            journal = record(volume, source, target, is_new=False, durable=False)
            kept = opened(image, target, journal, journal.folder)
            what = outcome(journal, lambda journal: [acceptance.write(journal)])
            kept.take(what)
            return pyramid, kept, what

        def done(made: tuple[LabelPyramid, OpenJournal, Outcome]) -> None:
            pyramid, kept, what = made
            layer = kept.target.layer = own_layers.labels_of_pyramid(pyramid, image)
            self._journals.adopt(layer, kept)  # Before it is the output, which looks for a journal.
            self._insert(layer)
            self.watch(layer)
            self._notify(f"The image is large, so its labels are kept on disk, in {pyramid.path}.")
            if what.error is None:
                acceptance.done(layer, _written(kept, what.entries[-1]))
            else:
                acceptance.failed(what.error)

        self._runner.submit_write(Work(job, done, acceptance.failed))

    def _on_paint(self, event: Any) -> None:
        layer, label = event.source, int(event.source.selected_label)
        if layer in self._highest:
            self._highest[layer] = max(self._highest[layer], label)
        kept = self._journals.kept(layer)
        if kept is not None:
            kept.target.note_used(label)

    def _on_replaced(self, event: Any) -> None:
        self._highest.pop(event.source, None)
        kept = self._journals.kept(event.source)
        if kept is not None:
            kept.target.follow()


def _is_on_disk(layer: Labels) -> bool:
    return labels_layer.pyramid_of(layer) is not None


def _written(kept: OpenJournal, entry: Entry) -> Written:
    """Return what became of a mask, by the objects that there are now."""
    assert entry.label is not None
    row = kept.rows.get(entry.label)
    part = None if row is None or entry.plane is None else row.part(entry.plane)
    return Written(entry.label, 0 if part is None else part.area, entry.number)
