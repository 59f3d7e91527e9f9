"""Undoing: steps back and forth, over the prompts of the open objects first and then over what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from napari_sam.plugin.objects import Turn
from napari_sam.plugin.prompt_history import Moment, PromptHistory
from napari_sam.stores.labels import Edit

if TYPE_CHECKING:
    from napari_sam.plugin.controller import Controller
    from napari_sam.plugin.objects import Objects
    from napari_sam.plugin.output import Output


class Undoing:
    """Takes back what was done last, and does it again.

    Parameters
    ----------
    controller
        Whose prompts and open objects these are.
    objects, output
        Take back what was written: with a journal, and without.

    Attributes
    ----------
    history
        The prompts as they were.
    """

    def __init__(self, controller: Controller, objects: Objects, output: Output) -> None:
        self.history = PromptHistory()
        self._controller, self._objects, self._output = controller, objects, output
        self._undone: list[Literal["prompt", "object"]] = []
        self.begin()

    def begin(self) -> None:
        """Let nothing that was prompted so far be taken back."""
        self.history.begin(self._moment)
        self._undone = []

    def record(self) -> None:
        """Keep the prompts as they are, if anything happened to them."""
        if self.history.record(self._moment):
            self._undone = [kind for kind in self._undone if kind != "prompt"]

    def undo(self) -> None:
        """Take back the last step of the prompts, or when there is none the last change of an object."""
        moment = None if self._controller.must_wait else self.history.undo()
        if moment is not None:
            self._undone.append("prompt")
            self._return_to(moment, "Prompts: one step back.")
        elif self._objects.undo():
            self._undone.append("object")
        elif not self._output.undo(self._on_undone, self._controller.tell_error):
            self._controller.tell("There is nothing to undo: no mask was accepted, or its Labels layer is gone.")

    def redo(self) -> None:
        """Do again what was taken back last."""
        is_prompt = self._is_prompt_next
        if self._undone:
            self._undone.pop()
        moment = self.history.redo() if is_prompt and not self._controller.must_wait else None
        if moment is not None:
            self._return_to(moment, "Prompts: one step forth.")
        elif not self._objects.redo():
            self._controller.tell("There is nothing to redo: nothing was undone, or something else was done since.")

    @property
    def next_undo(self) -> Turn:
        """What the button for a step back is to say."""
        return Turn("The last step of the prompts.", "") if self.history.can_undo else self._objects.next_undo

    @property
    def next_redo(self) -> Turn:
        """What the button for a step forth is to say."""
        is_prompt = self.history.can_redo and self._is_prompt_next
        return Turn("The last step of the prompts.", "") if is_prompt else self._objects.next_redo

    @property
    def _is_prompt_next(self) -> bool:
        """Whether the last thing that was taken back is a step of the prompts, as far as it can be done again."""
        while self._undone and self._undone[-1] == "object" and not self._objects.can_redo:
            self._undone.pop()
        return not self._undone or self._undone[-1] == "prompt"

    @property
    def _moment(self) -> Moment:
        opened = self._controller.open
        return Moment(self._controller.prompts.drawn, tuple(opened.parked), opened.now)

    def _return_to(self, moment: Moment, status: str) -> None:
        self._controller.in_hand.return_to(moment)
        self._controller.set_status(status)

    def _on_undone(self, edit: Edit, changed: bool) -> None:
        self._controller.set_status(f"Label {edit.label} was {'taken back' if changed else 'gone already'}.")
