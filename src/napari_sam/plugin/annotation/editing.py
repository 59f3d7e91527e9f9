"""DraftEditor: begin drafts, switch between them, correct existing objects, and discard drafts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_sam.core.prompts import Prompts
from napari_sam.errors import NapariSamError, PromptError
from napari_sam.plugin.annotation.picking import layers_to_search, pick_object
from napari_sam.plugin.drafts import Draft, PickedObject
from napari_sam.plugin.inference.requests import prompts_on
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.view import world

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_sam.core.geometry import Plane
    from napari_sam.plugin.annotation.preview import DraftPreview
    from napari_sam.plugin.annotation.prompt_history import PromptHistory, Snapshot
    from napari_sam.plugin.inference.requests import PredictionRequests
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Runner

BUSY = "An object is being written: wait a moment, then try again."


class DraftEditor:
    """Changes which draft is the current one, and which drafts there are.

    Parameters
    ----------
    session
        The drafts and their prompts.
    runner
        Runs the search for an object under a click.
    requests
        Asks about the current draft.
    objects
        The accepted objects, which can be reopened.
    preview
        Draws the drafts.
    history
        Records each step for undo.
    """

    def __init__(
        self,
        session: Session,
        runner: Runner,
        requests: PredictionRequests,
        objects: Objects,
        preview: DraftPreview,
        history: PromptHistory,
    ) -> None:
        self._session, self._runner, self._requests = session, runner, requests
        self._objects, self._preview, self._history = objects, preview, history

    def activate(self, tool: str) -> None:
        """Activate a tool, one of `MODE_OF_TOOL`; its layer is made where it is missing."""
        if self._session.image is None:
            self._session.notify("There is no image: open one, or choose an image layer.")
            return
        self._session.prompts.activate(tool, self._session.image)

    def on_task(self) -> None:
        """Take up the points tool when a task is chosen in which objects are clicked, unless a tool is active."""
        session = self._session
        if session.task != "all" and session.image is not None and session.prompts.tool is None:
            self.activate("points")

    def new_object(self) -> None:
        """Leave the current draft open, and let the next prompt begin another one."""
        session = self._session
        if session.image is None or not session.is_begun:
            session.notify("Nothing is begun that could be left open: click an object first.")
            return
        self._requests.cancel(session.current)
        session.drafts.park()
        self._preview.show_all()
        self._history.record()
        session.set_status(f"{self._count_open()}: the next prompt begins another one.")

    def next_object(self) -> None:
        """Switch to the pending draft that was left open first; repeated, this goes through all of them."""
        pending = self._session.drafts.pending
        if not pending:
            self._session.notify("No other object is open: begin one beside this one first.")
            return
        self.switch_to(pending[0])

    def switch_to(self, draft: Draft) -> None:
        """Make a pending draft the current one."""
        session = self._session
        if session.must_wait:
            session.notify(BUSY)
            return
        self._requests.cancel()
        session.drafts.take(draft, keep=session.is_begun)
        self._preview.show_all()
        self._history.record()
        session.set_status(f"{self._count_open()}.")
        self._requests.request()

    def switch_to_number(self, number: int) -> None:
        """Switch to the draft of a prompt that the user selected."""
        draft = self._session.drafts.numbered(number)
        if draft is not None and draft in self._session.drafts.pending:
            self.switch_to(draft)

    def cycle(self, step: int = 1) -> None:
        """Show the next candidate, or the one `step` further; the next request of the draft refines it."""
        draft = self._session.current
        if draft.is_as_accepted and draft.candidates:
            self._requests.ask_for_another(draft, step)
        elif draft.candidates:
            draft.selected = draft.size = (draft.selected + step) % len(draft.candidates)
            draft.chosen = draft.candidates[draft.selected]
            self._preview.show()
        else:
            self._preview.next_hovered_size(step)

    def choose_size(self, index: int) -> None:
        """Show one of the three candidates."""
        draft = self._session.current
        if draft.is_as_accepted:
            self._requests.ask_for_another(draft, size=index)
        else:
            self.cycle(index - draft.selected)

    def pick(self, position: Any) -> None:
        """Correct the object at a world position: its mask is the prompt, and the next commit replaces it."""
        session, image = self._session, self._session.image
        if image is None or session.must_wait:
            return
        try:
            plane = adapters.plane_of(session.viewer, image)
        except NapariSamError as error:
            session.notify(str(error))
            return
        point = world.to_data(session.viewer, image, position)
        row, col = (float(point[axis]) for axis in plane.axes)
        pending = session.drafts.pending_at(plane, row, col)
        if pending is not None:
            self.switch_to(pending)
            return
        layers = layers_to_search(session.outputs, session.target, image)
        job = lambda _: pick_object(layers, plane, (row, col))  # noqa: E731
        self._requests.cancel()  # The search takes the place of a waiting request.
        self._runner.submit(job, self._on_picked, self._on_not_picked, session.set_status)

    def reopen(self, label: int, plane: Plane | None = None) -> None:
        """Correct an accepted object: its prompts are drawn again, and the next commit replaces it.

        Parameters
        ----------
        label
            Label of the object.
        plane
            Plane of the part to correct; by default the plane in view, else the one that was accepted last.
        """
        session, objects = self._session, self._objects
        journal, labelled = objects.journal, objects.get(label)
        if journal is None or labelled is None or session.image is None:
            session.notify(f"The journal knows no object {label}: choose one of the table.")
            return
        if session.must_wait:
            session.notify(BUSY)
            return
        part = labelled.part(plane or session.plane or labelled.plane) or labelled.parts[-1]
        self.clear()
        if session.plane != part.plane:
            objects.look_at(part.plane, part.box)
        try:
            picked, size = objects.picked(journal, label, part)
        except NapariSamError as error:
            session.notify_error(error)
            return
        self.correct(picked, part.prompts, size)

    def correct(self, picked: PickedObject, prompts: Prompts | None = None, size: int | None = None) -> None:
        """Begin a draft that replaces an object of the output and shows its mask.

        Parameters
        ----------
        picked
            The object.
        prompts
            The prompts that it was segmented with, which are drawn again; None where they are unknown.
        size
            Index of the candidate that it was, or None where that is unknown.
        """
        session = self._session
        draft = session.drafts.begin(picked, size)
        session.prompts.begin(draft.number)
        if session.image is not None:
            if prompts is not None:
                session.prompts.put(prompts, session.image, picked.plane)
            draft.reopened = prompts_on(session, draft, picked.plane)
        self._history.record()
        self._requests.request()

    def clear(self) -> None:
        """Remove the prompts of the current draft and its preview; undo brings them back."""
        if self._session.is_begun:
            self.discard(self._session.current)
            self._history.record()
        else:
            self._requests.forget_answer()

    def discard(self, draft: Draft) -> None:
        """Remove an open draft and its prompts."""
        session = self._session
        session.prompts.remove(draft.number)
        self._requests.cancel(draft)
        if draft in session.drafts.pending:
            session.drafts.pending.remove(draft)
            self._preview.show_pending()
            return
        session.prompts.begin(session.drafts.begin().number)
        self._requests.forget_answer()

    def discard_all(self) -> None:
        """Remove all drafts except the one that is being written, with their prompts and their undo steps."""
        session = self._session
        self._requests.cancel()
        for draft in (*session.drafts.open, *session.drafts.queued):
            session.prompts.remove(draft.number)
        session.drafts.forget_all()
        session.prompts.begin(session.current.number)
        self._preview.show_pending()
        self._requests.forget_answer()
        self._history.begin()

    def discard_outdated(self, layer: Layer, labels: Sequence[int]) -> None:
        """Discard drafts whose source object was modified elsewhere."""
        for draft in self._session.drafts.open:
            replaced = draft.replaces
            if replaced is not None and replaced.layer is layer and replaced.label in labels:
                self.discard(draft)
                self._history.forget(draft)

    def discard_replacements(self, layer: Layer) -> None:
        """Discard the drafts that replace objects of a layer which was deleted; it need not be the chosen output."""
        replaced = [draft.replaces.label for draft in self._session.drafts.open if draft.replaces is not None]
        self.discard_outdated(layer, replaced)

    def follow_prompts(self) -> None:
        """Record that the user changed prompts: drop pending drafts without any, and answers to other prompts."""
        changed, pending = False, self._session.drafts.pending
        before, now = self._history.drawn, self._session.prompts.drawn
        for draft in list(pending):
            if not self._session.has_prompts(draft):
                pending.remove(draft)
            elif before.of(draft.number).is_like(now.of(draft.number)):
                continue
            else:
                draft.forget_prompts()
            changed = True
        if changed:
            self._preview.show_pending()
        self._history.record()
        self._requests.request()

    def restore(self, snapshot: Snapshot) -> None:
        """Return the prompts and the open drafts to an earlier or later state."""
        session = self._session
        if session.image is None:
            return
        before = session.prompts.drawn
        if not session.must_wait:
            self._requests.cancel()
        session.prompts.put_back(snapshot.drawn, session.image)
        session.drafts.pending, session.drafts.current = list(snapshot.pending), snapshot.current
        for draft in session.drafts.open:
            if not before.of(draft.number).is_like(snapshot.drawn.of(draft.number)):
                draft.forget_prompts()
        self._preview.show_all()
        self._requests.request()

    def _on_picked(self, picked: PickedObject | None) -> None:
        if picked is None:
            self._on_not_picked(PromptError("There is no object to correct: Ctrl+click on one of the output."))
            return
        self.clear()
        self._session.set_target(picked.layer)
        if self._session.target is not picked.layer:
            return
        if self._objects.get(picked.label) is not None:
            self.reopen(picked.label, picked.plane)
        else:
            self.correct(picked)

    def _on_not_picked(self, error: Exception) -> None:
        self._session.notify_error(error)
        if self._session.is_begun:
            self._requests.request()
        elif self._session.is_warming:
            self._requests.warm_up()

    def _count_open(self) -> str:
        count = len(self._session.drafts.pending) + self._session.is_begun
        return f"{count} object{' is' if count == 1 else 's are'} open"
