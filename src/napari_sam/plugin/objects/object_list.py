"""Objects: list, change and undo the objects that were accepted into the output."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sam.journal.entries import Entry, LabelClass
from napari_sam.journal.journal import Journal
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.plugin.drafts import PickedObject
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.objects.files import use_label_file
from napari_sam.plugin.objects.journals import MAX_SYNC_PIXELS, Journals, ResumableWork
from napari_sam.plugin.objects.open_journal import JournalAction, OpenJournal
from napari_sam.plugin.objects.step_labels import StepLabel, described, step_label_of
from napari_sam.plugin.view import world
from napari_sam.plugin.workers.runner import Work, apart
from napari_sam.segmenter import CANDIDATE_NAMES

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.core.geometry import Box, Plane
    from napari_sam.plugin.layers.preview import PreviewLayers
    from napari_sam.plugin.objects.action_times import ActionTimes
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Runner

# Changes of more objects than this run as a job.
MAX_SYNC_OBJECTS = 4


class Objects:
    """Deletes and classifies objects, and undoes and redoes actions on them.

    Parameters
    ----------
    session
        The image, its output, and the class of the next object.
    runner
        Runs the search for earlier work.
    journals
        The journals of the Labels layers.
    times
        Learns when actions are done and undone.
    previews
        The layers that stay above a resumed output.

    Attributes
    ----------
    changed
        Emitted with the labels of the objects that may have changed, None for all.
    modified
        Emitted with a layer and the labels whose pixels were changed or removed by something other than a commit.
    """

    changed = Signal(object)
    modified = Signal(object, object)

    def __init__(
        self, session: Session, runner: Runner, journals: Journals, times: ActionTimes, previews: PreviewLayers
    ) -> None:
        self.times = times
        self._session, self._runner, self._journals, self._previews = session, runner, journals, previews
        self._shown: OpenJournal | None = None

    @property
    def journal(self) -> OpenJournal | None:
        """The output with its journal; without an output, that of the layer that was used last."""
        target = self._session.target
        if target is not None:
            return self._journals.get(target)
        others = [journal for journal in self._journals.all() if journal.image is self._session.image]
        return others[-1] if others else None

    @property
    def rows(self) -> Sequence[LabelledObject]:
        """The objects of the output by label; each is read from the journal when it is indexed."""
        return [] if self.journal is None else self.journal.rows.view

    @property
    def classes(self) -> list[LabelClass]:
        """The classes of the output."""
        return [] if self.journal is None else self.journal.classes

    @property
    def offer(self) -> ResumableWork | None:
        """Earlier work on this image, or None."""
        return self._journals.offer(self._session.image)

    def get(self, label: int) -> LabelledObject | None:
        """Return one object, or None."""
        return None if self.journal is None else self.journal.rows.get(label)

    def follow(self) -> None:
        """Emit `changed` if the output is another one by now."""
        if self.journal is not self._shown:
            self._shown = self.journal
            self.changed.emit(None)

    def forget_gone(self) -> None:
        """Drop what is known of outputs whose layer was deleted."""
        self.times.keep_only(self._journals.all())

    def note_commit(self, layer: Labels, at: int) -> OpenJournal | None:
        """Note that a draft was written that was accepted at a time; return the journal of its layer, if any."""
        journal = self._journals.get(layer)
        if journal is not None:  # The layer may have been deleted since.
            self.times.note_commit(journal, at)
        return journal

    def on_changed(self, layer: Labels, labels: Sequence[int] | None) -> None:
        """Emit `changed` for objects of a layer that may have changed."""
        if self.journal is None or self.journal is not self._shown:
            self.follow()
        elif layer is self.journal.layer:
            self.changed.emit(labels)
        self._session.changed.emit()

    # -- earlier work --------------------------------------------------------------------------------------------------

    def look_for_work(self) -> None:
        """Look for earlier work on the image, unless that was done; waits for no model."""
        image = self._session.image
        look = None if image is None else self._journals.look_job(image)
        if look is not None:
            apart(self._runner)(Work(lambda _: look(), self._on_looked, self._on_looked))

    def _on_looked(self, _: Any) -> None:
        self._session.changed.emit()

    def resume(self) -> None:
        """Continue earlier work: its objects come back, in a new layer or from their file."""
        session, offer, image = self._session, self.offer, self._session.image
        if offer is None or image is None:
            return
        if offer.labels is not None:
            use_label_file(session, self._previews, offer.labels)
            return
        layer = own_layers.make_labels(image)
        if layer is None:
            session.notify(f"There is no memory for the labels of {image.name!r}: close other images.")
            return

        def then() -> None:
            journal = self._journals.get(layer)
            if journal is None or image is not session.image:
                self._journals.forget(layer)
                session.set_status("")
                return
            self._previews.insert(layer)
            session.set_target(layer)
            count = len(journal.rows)
            session.set_status(f"{count} object{' is' if count == 1 else 's are'} back, with all undo steps.")

        session.set_status("Putting the objects back ...")
        self._journals.open(layer, image, then, is_new=True, folder=offer.journal)

    def start_over(self) -> None:
        """Set earlier work aside: its journal gets another name, and the next object begins a new one."""
        image = self._session.image
        if image is not None:
            self._journals.set_aside(image, self._on_set_aside, self._session.notify_error)

    def _on_set_aside(self, folder: Path) -> None:
        self._session.set_status(f"The earlier objects are kept in {folder}.")

    # -- undo and redo -------------------------------------------------------------------------------------------------

    def undo(self) -> bool:
        """Undo the last action; say whether there is a journal that may have one."""
        journal = self.journal
        if journal is None or not self.can_undo:
            return False
        entry = journal.next_undo  # The last one of its action: the first has no group.
        several = entry is not None and entry.group is not None
        failed = self.times.begin_undo(journal)
        self._step(journal, entry, several, Journal.undo_together, "taken back", failed)
        return True

    def redo(self) -> bool:
        """Redo the action that was undone last; say whether there is a journal that may have one."""
        journal = self.journal
        if journal is None or not self.can_redo:
            return False
        failed = self.times.begin_redo(journal)
        self._step(journal, journal.next_redo, journal.redoes_several, Journal.redo_together, "done again", failed)
        return True

    @property
    def can_undo(self) -> bool:
        """Whether there is a journal that may have something to undo."""
        return self.journal is not None and (self.journal.next_undo is not None or self.journal.is_busy)

    @property
    def can_redo(self) -> bool:
        """Whether there is a journal that may have something to redo."""
        return self.journal is not None and (self.journal.next_redo is not None or self.journal.is_busy)

    @property
    def next_undo(self) -> StepLabel:
        """What the button for undo says."""
        entry = self.journal.next_undo if self.journal else None
        return step_label_of(entry, entry is not None and entry.group is not None, "There is nothing to undo.")

    @property
    def next_redo(self) -> StepLabel:
        """What the button for redo says."""
        entry = self.journal.next_redo if self.journal else None
        several = self.journal is not None and self.journal.redoes_several
        return step_label_of(entry, several, "Nothing was undone, or something else was done since.")

    def _step(
        self,
        journal: OpenJournal,
        entry: Entry | None,
        several: bool,
        step: Callable[[Journal], list[Entry]],
        past: str,
        failed: Callable[[], None],
    ) -> None:
        note, follow = self._class_follower(journal)

        def act(log: Journal) -> list[Entry]:
            note(log)
            return step(log)

        def done(entries: Sequence[Entry]) -> None:
            follow()
            labels = [label for changed in entries for label in changed.labels]
            if not entries:
                failed()  # There was nothing, after what had to be waited for.
            else:
                self._session.set_status(f"{described(entries[0], len(set(labels)) or len(entries))}: {past}.")
            self.modified.emit(journal.layer, labels)

        def not_done(error: Exception) -> None:
            failed()
            self._session.notify_error(error)

        area = 0 if entry is None else sum(math.prod(patch.box.pixel_shape) for patch in entry.patches)
        self._journals.act(journal, MAX_SYNC_PIXELS + 1 if several else area, act, done, not_done)

    def act(
        self,
        journal: OpenJournal,
        area: int,
        act: JournalAction,
        done: Callable[[Sequence[Entry]], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Run an action on any number of objects that one undo takes back."""
        end = self.times.begin(journal)

        def together(log: Journal) -> Sequence[Entry]:
            with log.together():
                return act(log)

        def was_done(entries: Sequence[Entry]) -> None:
            end(bool(entries))
            done(entries)

        def was_not_done(error: Exception) -> None:
            end(False)
            (failed or self._session.notify_error)(error)

        self._journals.act(journal, area, together, was_done, was_not_done)

    # -- objects and classes -------------------------------------------------------------------------------------------

    def delete(self, labels: Sequence[int]) -> None:
        """Delete objects from the output."""
        journal = self.journal
        known = [] if journal is None else [label for label in labels if label in journal.rows]
        if journal is None or not known:
            return

        def done(_: Sequence[Entry]) -> None:
            self._session.set_status(f"{_count(known)} deleted.")
            self.modified.emit(journal.layer, known)

        self.act(journal, self.area_of(journal, known), lambda log: [log.delete(label) for label in known], done)

    def classify(self, labels: Sequence[int], name: str | None) -> None:
        """Give objects a class; with no objects, choose that of the next ones."""
        journal = self.journal
        known = [] if journal is None else [label for label in labels if label in journal.rows]
        if journal is None or not known:
            self._session.class_name = name
            self._session.changed.emit()
            return
        status = f"{_count(known)} of class {name}." if name else f"{_count(known)} without a class."
        done = lambda _: self._session.set_status(status)  # noqa: E731
        act = lambda log: [log.classify(label, name) for label in known]  # noqa: E731
        area = 0 if len(known) <= MAX_SYNC_OBJECTS else MAX_SYNC_PIXELS + 1
        self.act(journal, area, act, done, self._on_not_classified)

    def _on_not_classified(self, error: Exception) -> None:
        self.changed.emit([])  # The widget shows the class that was chosen.
        self._session.notify_error(error)

    def define_class(self, name: str, color: Sequence[float] | None = None, renamed: str | None = None) -> None:
        """Define a class, or give one another color or name."""
        session, journal = self._session, self.journal
        if journal is None:
            return

        note, follow = self._class_follower(journal)

        def act(log: Journal) -> list[Entry]:
            note(log)
            log.define_class(name, color, renamed=renamed)
            return [entry for entry in (log.next_undo,) if entry is not None]

        def done(_: Sequence[Entry]) -> None:
            follow()
            if renamed is not None:
                if session.class_name == name:  # Chosen for the next object, but not used yet.
                    session.class_name = renamed
                    self.changed.emit([])
                session.set_status(f"Class {name} is called {renamed} now.")

        self.act(journal, 0, act, done)

    def go_to(self, label: int) -> None:
        """Show an object, centered: in the plane in view where it is there, else in the one that was accepted last."""
        labelled, plane = self.get(label), self._session.plane
        if labelled is not None and self._session.image is not None:
            part = next((part for part in labelled.parts if part.plane == plane), labelled.parts[-1])
            self.look_at(part.plane, part.box)

    def picked(self, journal: OpenJournal, label: int, part: Part) -> tuple[PickedObject, int | None]:
        """Return a part of an object as one to correct, and the index of its candidate where the user chose one.

        Raises
        ------
        NapariSamError
            Its mask cannot be read.
        """
        mask, prompts = part.accepted.mask, part.prompts
        hint = mask if prompts is None else prompts.mask
        return PickedObject(journal.layer, label, part.plane, mask, hint, part.made), _size_of(part)

    def _class_follower(self, journal: OpenJournal) -> tuple[Callable[[Journal], None], Callable[[], None]]:
        """Return what reads the classes before a change, and what renames the class of the next object after it.

        The classes are read in the job, because those that the GUI thread knows are old while changes wait.
        """
        session = self._session
        before: list[LabelClass] = []

        def note(log: Journal) -> None:
            before[:] = log.classes

        def follow() -> None:
            number = next((kind.number for kind in before if kind.name == session.class_name), None)
            name = next((kind.name for kind in journal.classes if kind.number == number), session.class_name)
            if name != session.class_name:
                session.class_name = name
                self.changed.emit([])

        return note, follow

    def look_at(self, plane: Plane, box: Box) -> None:
        """Show a plane, with the middle of a box in the middle of the view."""
        viewer, image = self._session.viewer, self._session.image
        assert image is not None
        offset = viewer.dims.ndim - image.ndim
        displayed = [axis + offset for axis in plane.axes]
        if list(viewer.dims.displayed) != displayed and viewer.dims.ndisplay == 2:
            viewer.dims.order = (*(axis for axis in range(viewer.dims.ndim) if axis not in displayed), *displayed)
        position = np.array(plane.index, float)
        position[list(plane.axes)] = np.asarray(box.center) - 0.5
        point = world.to_world(viewer, image, position)
        hidden = [axis for axis in range(image.ndim) if axis not in plane.axes]
        if hidden:
            viewer.dims.set_point([axis + offset for axis in hidden], [float(point[axis]) for axis in hidden])
        camera = viewer.scene.camera
        camera.center = (*camera.center[:-2], *(float(point[axis]) for axis in plane.axes))

    def area_of(self, journal: OpenJournal, labels: Sequence[int]) -> int:
        """Return how many pixels are looked at, and more than can be done at once for many objects."""
        boxes = sum(math.prod(part.box.pixel_shape) for label in labels for part in journal.rows[label].parts)
        return boxes if len(labels) <= MAX_SYNC_OBJECTS else boxes + MAX_SYNC_PIXELS + 1


def _size_of(part: Part) -> int | None:
    """Return which candidate an object was, where the user chose it."""
    name = None if part.made is None else part.made.candidate
    return next((index for index, known in enumerate(CANDIDATE_NAMES[1:]) if known == name), None)


def _count(labels: Sequence[int]) -> str:
    return f"Label {labels[0]} is" if len(labels) == 1 else f"{len(labels)} objects are"
