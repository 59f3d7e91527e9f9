"""LabelLayers: commit masks to Labels layers, through their journals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from napari_sam.core.geometry import Plane
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
from napari_sam.plugin.objects.journals import Journals, source_of
from napari_sam.plugin.objects.open_journal import ActionResult, OpenJournal
from napari_sam.plugin.workers.runner import Work

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_sam.journal.journal import Journal
    from napari_sam.labels.pyramid import LabelPyramid
    from napari_sam.plugin.workers.runner import Report, Runner


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a commit.

    Parameters
    ----------
    label
        Label of the object.
    area
        Number of pixels of the object in the plane.
    number
        Number of the entry in the journal.
    planes
        Number of planes in which the object is.
    """

    label: int
    area: int
    number: int
    planes: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Commit:
    """A mask that the user accepted.

    Parameters
    ----------
    plane, mask, overlap
        The pixels to write, and how they are written over other labels.
    done
        Called with the layer and the result.
    failed
        Called with the error if the mask cannot be written.
    replaces
        The object that the mask replaces, under its label; None for a new object.
    prompts, made, class_name
        Prompts, provenance and class that the journal records.
    firsts
        First entry in each journal of the action that this is part of, for several objects accepted together.
    continues
        The object of other planes that the mask goes into, where it is there and has no pixels in this plane.
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
    continues: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return self.mask.area == 0

    @property
    def area(self) -> int:
        """Number of pixels that are looked at."""
        box = self.mask.box if self.replaces is None else self.mask.box.union(self.replaces.mask.box)
        return math.prod(box.pixel_shape)

    def write(self, journal: Journal, labels: LayerLabels) -> Sequence[Entry]:
        """Write the mask into the labels of a journal; safe in any thread."""
        old, continued = self.replaces, self._continued(journal)
        with journal.together(self.firsts.get(journal)):
            entry = journal.accept(
                self.plane,
                self.mask,
                continued if old is None else old.label,
                self.overlap,
                prompts=self.prompts,
                made=self.made,
                class_name=self.class_name if old is None and continued is None else None,
                replaces=None if old is None else old.mask.box,
            )
        return [entry]

    def _continued(self, journal: Journal) -> int | None:
        """Return the label of the object that the mask goes into, or None for another object."""
        found = None if self.continues is None else journal.objects.get(self.continues)
        return found.label if found is not None and found.part(self.plane) is None else None

    def report(self, open_journal: OpenJournal, entries: Sequence[Entry]) -> None:
        """Tell the caller what was written."""
        self.done(open_journal.layer, _written(open_journal, entries[-1]))


class LabelWrite(Protocol):
    """What `LabelLayers.commit` writes: one mask, or many."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        ...

    @property
    def area(self) -> int:
        """Number of pixels that are looked at."""
        ...

    @property
    def failed(self) -> Callable[[Exception], None]:
        """Called with the error if nothing can be written."""
        ...

    def write(self, journal: Journal, labels: LayerLabels) -> Sequence[Entry]:
        """Write into the labels of a journal, in any thread."""
        ...

    def report(self, open_journal: OpenJournal, entries: Sequence[Entry]) -> None:
        """Tell the caller what was written, in the GUI thread."""
        ...


class LabelLayers:
    """Commits masks to Labels layers under free labels; the journal of a layer writes and undoes them.

    Parameters
    ----------
    viewer
        The viewer's model.
    runner
        Runs commits that are too large to run at once.
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
        open_journal = self._journals.get(layer)
        if open_journal is None:
            self._highest.setdefault(layer, highest)
        elif not open_journal.target.is_searched and not open_journal.is_busy:
            open_journal.target.note_highest(highest)

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
        open_journal = self._journals.get(layer)
        return (
            layer in self._highest
            or (open_journal is not None and open_journal.target.is_searched)
            or _is_on_disk(layer)
        )

    def commit(self, image: Image, target: Labels | None, commit: LabelWrite) -> None:
        """Write a mask under the next free label of a Labels layer; without one, of a new layer.

        Small edits run synchronously; larger ones are queued ahead of other background work.

        Parameters
        ----------
        image
            The image of the mask.
        target
            The layer to write into, or None.
        commit
            The mask, or masks, and the callbacks.
        """
        try:
            if commit.is_empty:  # Before a layer is made for it.
                raise LabelsError("The mask is empty, so there is nothing to accept: move or add a prompt.")
            if target is not None:
                labels_layer.check_target(target, image)
                highest = self._highest.get(target)
                self._journals.open(target, image, lambda: self._write(target, commit), highest=highest)
            else:
                self._write_into_new_layer(image, commit)
        except NapariSamError as error:
            commit.failed(error)

    def prepare(self, layer: Labels, image: Image) -> None:
        """Open the journal of a layer that was chosen, if there is one already."""
        if self._journals.get(layer) is None and self._journals.is_left(layer, image):
            self._journals.open(layer, image, lambda: None, highest=self._highest.get(layer))

    def _write_into_new_layer(self, image: Image, commit: LabelWrite) -> None:
        """Write into a new layer, in memory or, where it is too large, on disk."""
        layer = own_layers.make_labels(image)
        if layer is None:
            self._create(image, commit)
            return

        def then() -> None:
            self._insert(layer)
            self.watch(layer, 0)
            self._write(layer, commit)

        self._journals.open(layer, image, then, is_new=True)

    def _write(self, layer: Labels, commit: LabelWrite) -> None:
        """Write with the journal of a layer."""
        open_journal = self._journals.get(layer)
        if open_journal is None:
            commit.failed(LabelsError(f"{layer.name!r} was deleted: choose other labels."))
            return
        open_journal.target.note_used(self._highest.pop(layer, 0))  # Painted while the journal was opened.

        def done(entries: Sequence[Entry]) -> None:
            commit.report(open_journal, entries)

        def write(journal: Journal) -> Sequence[Entry]:
            return commit.write(journal, open_journal.target)

        self._journals.act(open_journal, commit.area, write, done, commit.failed)

    def _create(self, image: Image, commit: LabelWrite) -> None:
        """Make a pyramid on disk with its journal in a job, write the first mask into it, and show it."""
        make = own_layers.pyramid_maker(own_layers.label_path(image), image)
        volume, source = adapters.shown([image]).volume, source_of(image)

        def job(_: Report) -> tuple[LabelPyramid, OpenJournal, ActionResult]:
            pyramid = make()
            target = LayerLabels(None, pyramid)
            journal = record(volume, source, target, is_new=False, durable=False)
            open_journal = OpenJournal.of(image, target, journal, journal.folder)
            result = ActionResult.run(journal, lambda log: commit.write(log, target))
            open_journal.update(result)
            return pyramid, open_journal, result

        def done(made: tuple[LabelPyramid, OpenJournal, ActionResult]) -> None:
            pyramid, open_journal, result = made
            layer = open_journal.target.layer = own_layers.labels_of_pyramid(pyramid, image)
            self._journals.adopt(layer, open_journal)  # Before the layer becomes the output.
            self._insert(layer)
            self.watch(layer)
            self._notify(f"The image is large, so its labels are kept on disk, in {pyramid.path}.")
            if result.error is None:
                commit.report(open_journal, result.entries)
            else:
                commit.failed(result.error)

        self._runner.submit_write(Work(job, done, commit.failed))

    def _on_paint(self, event: Any) -> None:
        layer, label = event.source, int(event.source.selected_label)
        if layer in self._highest:
            self._highest[layer] = max(self._highest[layer], label)
        open_journal = self._journals.get(layer)
        if open_journal is not None:
            open_journal.target.note_used(label)

    def _on_replaced(self, event: Any) -> None:
        self._highest.pop(event.source, None)
        open_journal = self._journals.get(event.source)
        if open_journal is not None:
            open_journal.target.follow()


def _is_on_disk(layer: Labels) -> bool:
    return labels_layer.pyramid_of(layer) is not None


def _written(open_journal: OpenJournal, entry: Entry) -> Written:
    """Return the result of a commit, from the present objects of the journal."""
    assert entry.label is not None
    row = open_journal.rows.get(entry.label)
    part = None if row is None or entry.plane is None else row.part(entry.plane)
    return Written(entry.label, 0 if part is None else part.area, entry.number, 1 if row is None else len(row.parts))
