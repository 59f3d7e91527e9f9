"""Objects: what the user does with those that were accepted already, of one viewer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import NapariSamError
from napari_sam.journal.entries import Entry, LabelClass
from napari_sam.journal.journal import Journal
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.plugin.annotation.picking import PickedObject
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.objects.class_view import ClassView
from napari_sam.plugin.objects.journals import MAX_SYNC_PIXELS, JournalAction, Journals, OpenJournal, ResumableWork
from napari_sam.plugin.view import world
from napari_sam.plugin.widgets.step_texts import StepLabel, described, step_label_of
from napari_sam.segmenter import CANDIDATE_NAMES

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.plugin.controller import Controller

# More objects at once than this are changed by a job.
MAX_SYNC_OBJECTS = 4


class Objects:
    """Reopens, deletes and classifies objects, and takes steps back and forth.

    Parameters
    ----------
    controller
        Whose viewer, image, output and prompts these are.
    journals
        Where the objects are.

    Attributes
    ----------
    changed
        Emitted with the labels of the objects that may have changed, None for all.
    class_name
        The class of what is accepted from now on, or None.
    class_view
        Shows the classes in the viewer.
    """

    changed = Signal(object)

    def __init__(self, controller: Controller, journals: Journals) -> None:
        self._controller, self._journals = controller, journals
        self.class_name: str | None = None
        self._shown: OpenJournal | None = None
        self.class_view = ClassView(controller, self)

    @property
    def kept(self) -> OpenJournal | None:
        """The output with its journal; where no output is chosen, that of the layer that was used last."""
        target = self._controller.target
        if target is not None:
            return self._journals.kept(target)
        rest = [each for each in self._journals.all_kept() if each.image is self._controller.image]
        return rest[-1] if rest else None

    @property
    def rows(self) -> Sequence[LabelledObject]:
        """The objects of the output, by label, which are read when they are asked for."""
        return [] if self.kept is None else self.kept.rows.view

    @property
    def classes(self) -> list[LabelClass]:
        """The classes of the output."""
        return [] if self.kept is None else self.kept.classes

    @property
    def offer(self) -> ResumableWork | None:
        """Work on this image that was left, or None."""
        return self._journals.offer(self._controller.image)

    def object(self, label: int) -> LabelledObject | None:
        """Return one object, or None."""
        return None if self.kept is None else self.kept.rows.get(label)

    def follow(self) -> None:
        """Tell everybody if the output is another one by now."""
        if self.kept is not self._shown:
            self._shown = self.kept
            self.changed.emit(None)

    def on_changed(self, layer: Labels, labels: Sequence[int] | None) -> None:
        """Tell of objects of a layer that may have changed."""
        if self.kept is None or self.kept is not self._shown:
            self.follow()
        elif layer is self.kept.layer:
            self.changed.emit(labels)
        self._controller.changed.emit()

    # -- work that was left --------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Go on with work that was left: its objects come back, in a new layer or from their file."""
        offer, controller = self.offer, self._controller
        image = controller.image
        if offer is None or image is None:
            return
        if offer.labels is not None:
            controller.use_label_file(offer.labels)
            return
        layer = own_layers.make_labels(image)
        if layer is None:
            controller.notify(f"There is no memory for the labels of {image.name!r}: close other images.")
            return

        def then() -> None:
            kept = self._journals.kept(layer)
            if kept is None or image is not controller.image:
                self._journals.forget(layer)
                controller.set_status("")
                return
            controller.drawing.insert(layer)
            controller.set_target(layer)
            count = len(kept.rows)
            controller.set_status(f"{count} object{' is' if count == 1 else 's are'} back, with all undo steps.")

        controller.set_status("Putting the objects back ...")
        self._journals.open(layer, image, then, is_new=True, folder=offer.journal)

    def start_anew(self) -> None:
        """Leave work that was left alone: its journal gets another name, and the next object begins a new one."""
        image = self._controller.image
        if image is not None:
            self._journals.set_aside(image, self._on_set_aside, self._controller.tell_error)

    def _on_set_aside(self, place: Path) -> None:
        self._controller.set_status(f"The earlier objects are kept in {place}.")

    # -- back and forth ------------------------------------------------------------------------------------------------

    def undo(self, failed: Callable[[], None] = lambda: None) -> bool:
        """Take the last action back; say whether there is a journal that may have one. `failed` is told of an error."""
        kept = self.kept
        if kept is None or not self.can_undo:
            return False
        entry = kept.next_undo  # The last one of its action: the first has no group.
        several = entry is not None and entry.group is not None
        self._turn(kept, entry, several, Journal.undo_together, "taken back", failed)
        return True

    def redo(self, failed: Callable[[], None] = lambda: None) -> bool:
        """Do again what was taken back last; say whether there is a journal that may have something."""
        kept = self.kept
        if kept is None or not self.can_redo:
            return False
        self._turn(kept, kept.next_redo, kept.redoes_several, Journal.redo_together, "done again", failed)
        return True

    @property
    def can_undo(self) -> bool:
        """Whether there is a journal that may have something to take back."""
        return self.kept is not None and (self.kept.next_undo is not None or self.kept.is_busy)

    @property
    def can_redo(self) -> bool:
        """Whether there is a journal that may have something to do again."""
        return self.kept is not None and (self.kept.next_redo is not None or self.kept.is_busy)

    @property
    def next_undo(self) -> StepLabel:
        """What the button for a step back is to say."""
        entry = self.kept.next_undo if self.kept else None
        return step_label_of(entry, entry is not None and entry.group is not None, "There is nothing to undo.")

    @property
    def next_redo(self) -> StepLabel:
        """What the button for a step forth is to say."""
        entry = self.kept.next_redo if self.kept else None
        several = self.kept is not None and self.kept.redoes_several
        return step_label_of(entry, several, "Nothing was undone, or something else was done since.")

    def _turn(
        self,
        kept: OpenJournal,
        entry: Entry | None,
        several: bool,
        step: Callable[[Journal], list[Entry]],
        what: str,
        failed: Callable[[], None],
    ) -> None:
        note, follow = self._class_follower(kept)

        def act(journal: Journal) -> list[Entry]:
            note(journal)
            return step(journal)

        def done(entries: Sequence[Entry]) -> None:
            follow()
            labels = [each.label for each in entries if each.label is not None]
            if not entries:
                failed()  # There was nothing, after what had to be waited for.
            else:
                self._controller.set_status(f"{described(entries[0], len(entries))}: {what}.")
            self._controller.in_hand.after_change(kept.layer, labels)

        def not_done(error: Exception) -> None:
            failed()
            self._controller.tell_error(error)

        area = 0 if entry is None else sum(math.prod(patch.box.pixel_shape) for patch in entry.patches)
        self._journals.act(kept, MAX_SYNC_PIXELS + 1 if several else area, act, done, not_done)

    def _act(
        self,
        kept: OpenJournal,
        area: int,
        act: JournalAction,
        done: Callable[[Sequence[Entry]], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Do something with a journal that one undo takes back, on however many objects."""
        ended = self._controller.undoing.acts_on(kept)

        def together(journal: Journal) -> Sequence[Entry]:
            with journal.together():
                return act(journal)

        def was_done(entries: Sequence[Entry]) -> None:
            ended(bool(entries))
            done(entries)

        def was_not_done(error: Exception) -> None:
            ended(False)
            (failed or self._controller.tell_error)(error)

        self._journals.act(kept, area, together, was_done, was_not_done)

    # -- one or several objects ----------------------------------------------------------------------------------------

    def delete(self, labels: Sequence[int]) -> None:
        """Take objects out of the output."""
        kept = self.kept
        known = [] if kept is None else [label for label in labels if label in kept.rows]
        if kept is None or not known:
            return

        def done(_: Sequence[Entry]) -> None:
            self._controller.set_status(f"{_count(known)} deleted.")
            self._controller.in_hand.after_change(kept.layer, known)

        act = lambda journal: [journal.delete(label) for label in known]  # noqa: E731
        self._act(kept, self._area(kept, known), act, done)

    def classify(self, labels: Sequence[int], name: str | None) -> None:
        """Give objects a class; with no objects, choose that of those that are accepted from now on."""
        kept = self.kept
        known = [] if kept is None else [label for label in labels if label in kept.rows]
        if kept is None or not known:
            self.class_name = name
            self._controller.changed.emit()
            return
        told = f"{_count(known)} of class {name}." if name else f"{_count(known)} without a class."
        done = lambda _: self._controller.set_status(told)  # noqa: E731
        act = lambda journal: [journal.classify(label, name) for label in known]  # noqa: E731
        self._act(
            kept, 0 if len(known) <= MAX_SYNC_OBJECTS else MAX_SYNC_PIXELS + 1, act, done, self._on_not_classified
        )

    def _on_not_classified(self, error: Exception) -> None:
        self.changed.emit([])  # What was chosen is not so.
        self._controller.tell_error(error)

    def define_class(self, name: str, color: Sequence[float] | None = None, renamed: str | None = None) -> None:
        """Make a class, or give one another colour or name."""
        kept = self.kept
        if kept is None:
            return

        note, follow = self._class_follower(kept)

        def act(journal: Journal) -> list[Entry]:
            note(journal)
            journal.define_class(name, color, renamed=renamed)
            return [entry for entry in (journal.next_undo,) if entry is not None]

        def done(_: Sequence[Entry]) -> None:
            follow()
            if renamed is not None:
                if self.class_name == name:  # Chosen for the next accept, but not used yet.
                    self.class_name = renamed
                    self.changed.emit([])
                self._controller.set_status(f"Class {name} is called {renamed} now.")

        self._act(kept, 0, act, done)

    def go_to(self, label: int) -> None:
        """Show an object: its plane, and its middle in the middle."""
        found = self.object(label)
        if found is not None and self._controller.image is not None:
            self._look_at(found.plane, found.box)

    def reopen(self, label: int, plane: Plane | None = None) -> None:
        """Take an object up again: its prompts come back, and accept puts the new mask in its place.

        Parameters
        ----------
        label
            Which one.
        plane
            Which part of it; by default that of the plane in view, else the one that was accepted last.
        """
        controller, kept, found = self._controller, self.kept, self.object(label)
        image = controller.image
        if kept is None or found is None or image is None:
            controller.notify(f"The journal knows no object {label}: choose one of the table.")
            return
        if controller.must_wait:
            controller.notify("An object is being written: wait a moment, then try again.")
            return
        part = found.part(plane or self._plane() or found.plane) or found.parts[-1]
        controller.clear()
        if self._plane() != part.plane:
            self._look_at(part.plane, part.box)
        try:
            mask = part.accepted.mask
        except NapariSamError as error:
            controller.tell_error(error)
            return
        prompts = part.prompts
        hint = mask if prompts is None else prompts.mask
        found_there = PickedObject(kept.layer, label, part.plane, mask, hint, part.made)
        controller.in_hand.take_up(found_there, prompts, _size_of(part))

    def _class_follower(self, kept: OpenJournal) -> tuple[Callable[[Journal], None], Callable[[], None]]:
        """Return what looks at a journal before a change, and what renames the class of the next accept after it.

        The journal tells, in its turn: what the GUI thread knows of classes is old while changes wait.
        """
        before: list[LabelClass] = []

        def note(journal: Journal) -> None:
            before[:] = journal.classes

        def follow() -> None:
            number = next((kind.number for kind in before if kind.name == self.class_name), None)
            name = next((kind.name for kind in kept.classes if kind.number == number), self.class_name)
            if name != self.class_name:
                self.class_name = name
                self.changed.emit([])

        return note, follow

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _plane(self) -> Plane | None:
        """Return the plane in view, or None where there is none."""
        image = self._controller.image
        try:
            return None if image is None else adapters.plane_of(self._controller.viewer, image)
        except NapariSamError:
            return None

    def _look_at(self, plane: Plane, box: Box) -> None:
        viewer, image = self._controller.viewer, self._controller.image
        assert image is not None
        offset = viewer.dims.ndim - image.ndim
        shown = [axis + offset for axis in plane.axes]
        if list(viewer.dims.displayed) != shown and viewer.dims.ndisplay == 2:
            viewer.dims.order = (*(axis for axis in range(viewer.dims.ndim) if axis not in shown), *shown)
        position = np.array(plane.index, float)
        position[list(plane.axes)] = np.asarray(box.center) - 0.5
        place = world.to_world(viewer, image, position)
        hidden = [axis for axis in range(image.ndim) if axis not in plane.axes]
        if hidden:
            viewer.dims.set_point([axis + offset for axis in hidden], [float(place[axis]) for axis in hidden])
        camera = viewer.scene.camera
        camera.center = (*camera.center[:-2], *(float(place[axis]) for axis in plane.axes))

    def _area(self, kept: OpenJournal, labels: Sequence[int]) -> int:
        """Return how many pixels are looked at, and more than can be done at once for many objects."""
        boxes = sum(math.prod(part.box.pixel_shape) for label in labels for part in kept.rows[label].parts)
        return boxes if len(labels) <= MAX_SYNC_OBJECTS else boxes + MAX_SYNC_PIXELS + 1


def _size_of(part: Part) -> int | None:
    """Return which candidate an object was, where the user chose it."""
    name = None if part.made is None else part.made.candidate
    return next((index for index, known in enumerate(CANDIDATE_NAMES[1:]) if known == name), None)


def _count(labels: Sequence[int]) -> str:
    return f"Label {labels[0]} is" if len(labels) == 1 else f"{len(labels)} objects are"
