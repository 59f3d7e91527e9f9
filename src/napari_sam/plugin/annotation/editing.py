"""DraftEditor: which open object the prompts belong to, and how the user goes from one to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Labels

from napari_sam.core.prompts import Prompts
from napari_sam.errors import NapariSamError, PromptError
from napari_sam.plugin.annotation import picking as refine
from napari_sam.plugin.annotation.picking import PickedObject
from napari_sam.plugin.drafts import Draft
from napari_sam.plugin.inference.requests import sentence
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.view import world

if TYPE_CHECKING:
    from napari_sam.plugin.controller import Controller
    from napari_sam.plugin.prompts.history import Snapshot


class DraftEditor:
    """Begins objects, leaves them open, takes them up again and lets go of them.

    Parameters
    ----------
    controller
        Whose open objects, prompts and layers these are.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def begin_another(self) -> None:
        """Leave the object in hand open, and let the next prompt begin another one."""
        if self._controller.image is None or not self._controller.has_prompts(self._controller.open.now):
            self._controller.notify("Nothing is begun that could be left open: click an object first.")
            return
        self._controller.asking.give_up(self._controller.open.now)
        self._controller.open.park()
        self.show_all()
        self._controller.undoing.record()
        self._controller.set_status(f"{self._count_open()}: the next prompt begins another one.")

    def take_next(self) -> None:
        """Take the open object in hand that was left open first; after the last one, it is that again."""
        if not self._controller.open.pending:
            self._controller.notify("No other object is open: begin one beside this one first.")
            return
        self.take(self._controller.open.pending[0])

    def take(self, wanted: Draft) -> None:
        """Take an object in hand that was left open."""
        if self._controller.must_wait:
            self._controller.notify("An object is being written: wait a moment, then try again.")
            return
        self._controller.asking.give_up()
        self._controller.open.take(wanted, keep=self._controller.has_prompts(self._controller.open.now))
        self.show_all()
        self._controller.undoing.record()
        self._controller.set_status(f"{self._count_open()}.")
        self._controller.asking.request()

    def _count_open(self) -> str:
        count = len(self._controller.open.pending) + self._controller.has_prompts(self._controller.open.now)
        return f"{count} object{' is' if count == 1 else 's are'} open"

    def show_all(self) -> None:
        """Show what the object in hand is, and the others as they wait."""
        self._controller.hover.leave()
        self._controller.prompts.begin(self._controller.open.now.number)
        self._controller.show()
        self._controller.show_parked()

    def on_selected(self, number: int) -> None:
        """Take up the object of a prompt that the user selected."""
        wanted = self._controller.open.numbered(number)
        if wanted is not None and wanted in self._controller.open.pending:
            self.take(wanted)

    def refine(self, position: Any) -> None:
        """Take up the object at a position of the world: its mask is the prompt, and accept replaces it."""
        if self._controller.image is None or self._controller.must_wait:
            return
        try:
            plane = adapters.plane_of(self._controller.viewer, self._controller.image)
        except NapariSamError as error:
            self._controller.notify(str(error))
            return
        place = world.to_data(self._controller.viewer, self._controller.image, position)
        row, col = (float(place[axis]) for axis in plane.axes)
        pending = self._controller.open.parked_at(plane, row, col)
        if pending is not None:
            self.take(pending)
            return
        labels = [
            layer
            for layer in self._controller.viewer.layers
            if isinstance(layer, Labels) and not self._controller.is_own(layer)
        ]
        layers = refine.layers_to_search(labels, self._controller.target, self._controller.image)
        job = lambda _: refine.pick_object(layers, plane, (row, col))  # noqa: E731
        self._controller.asking.give_up()  # What waits for its turn gives way to this.
        self._controller.runner.submit(job, self._on_refinement, self._on_no_refinement, self._controller.set_status)

    def _on_refinement(self, found: PickedObject | None) -> None:
        if found is None:
            self._on_no_refinement(PromptError("There is no object to correct: Ctrl+click on one of the output."))
            return
        self.clear()
        self._controller.set_target(found.layer)
        if self._controller.target is not found.layer:
            return
        if self._controller.objects.object(found.label) is not None:
            self._controller.objects.reopen(found.label, found.plane)
        else:
            self.take_up(found)

    def take_up(self, found: PickedObject, prompts: Prompts | None = None, size: int | None = None) -> None:
        """Go on with an object of the output, which the next accept replaces; its mask is shown as it is.

        Parameters
        ----------
        found
            Which one.
        prompts
            What it was segmented by, drawn again.
        size
            Which of the three candidates it was.
        """
        opened, image = self._controller.open.begin(found, size), self._controller.image
        self._controller.prompts.begin(opened.number)
        if image is not None:
            if prompts is not None:
                self._controller.prompts.put(prompts, image, found.plane)
            opened.reopened = self._controller.asking.prompts_on(opened, image, found.plane)
        self._controller.undoing.record()
        self._controller.asking.request()

    def after_change(self, layer: Labels, labels: Sequence[int]) -> None:
        """Let go of objects that were changed otherwise while they were to be corrected."""
        for each in self._controller.open.open:
            old = each.refining
            if old is not None and old.layer is layer and old.label in labels:
                self.drop(each)
                self._controller.undoing.history.forget_object(each, self._controller.open.now)

    def _on_no_refinement(self, error: Exception) -> None:
        self._controller.notify(sentence(error))
        if self._controller.has_prompts(self._controller.open.now):
            self._controller.asking.request()
        elif self._controller.warming:
            self._controller.asking.warm_up()

    def clear(self) -> None:
        """Remove the prompts of the object in hand, and its preview; undo brings them back."""
        if self._controller.has_prompts(self._controller.open.now):
            self.drop(self._controller.open.now)
            self._controller.undoing.record()
        else:
            self._controller.asking.forget_answer()

    def drop(self, gone: Draft) -> None:
        """Do without an open object."""
        self._controller.prompts.remove(gone.number)
        self._controller.asking.give_up(gone)
        if gone in self._controller.open.pending:
            self._controller.open.pending.remove(gone)
            self._controller.show_parked()
            return
        self._controller.prompts.begin(self._controller.open.begin().number)
        self._controller.asking.forget_answer()

    def forget_all(self) -> None:
        """Do without all open objects."""
        self._controller.asking.give_up()
        for each in (*self._controller.open.open, *self._controller.open.waiting):
            self._controller.prompts.remove(each.number)
        self._controller.open.forget_all()
        self._controller.prompts.begin(self._controller.open.now.number)
        self._controller.show_parked()
        self._controller.asking.forget_answer()
        self._controller.undoing.begin()

    def follow_parked(self) -> None:
        """Let go of objects that were left open and have no prompts any more, and of answers to other prompts."""
        changed = False
        before, now = self._controller.undoing.history.drawn, self._controller.prompts.drawn
        for each in list(self._controller.open.pending):
            if not self._controller.has_prompts(each):
                self._controller.open.pending.remove(each)
            elif before is None or before.of(each.number).is_like(now.of(each.number)):
                continue
            else:
                each.forget_prompts()
            changed = True
        if changed:
            self._controller.show_parked()

    def return_to(self, moment: Snapshot) -> None:
        """Let the prompts and the open objects be as they were at another moment."""
        if self._controller.image is None:
            return
        before = self._controller.prompts.drawn
        if not self._controller.must_wait:
            self._controller.asking.give_up()
        self._controller.prompts.put_back(moment.drawn, self._controller.image)
        self._controller.open.pending, self._controller.open.now = list(moment.pending), moment.now
        for each in self._controller.open.open:
            if not before.of(each.number).is_like(moment.drawn.of(each.number)):
                each.forget_prompts()
        self.show_all()
        self._controller.asking.request()
