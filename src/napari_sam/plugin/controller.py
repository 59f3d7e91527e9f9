"""Controller: all of it of one viewer, held together; events of layers and dims. Knows napari's models, no widget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels, Points, Shapes
from psygnal import Signal

from napari_sam.core.masks import Mask
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import NapariSamError
from napari_sam.files.folders import embedding_folder
from napari_sam.plugin.annotation.commits import CommitQueue
from napari_sam.plugin.annotation.editing import DraftEditor
from napari_sam.plugin.annotation.picking import PickedObject
from napari_sam.plugin.annotation.undo import UndoStack
from napari_sam.plugin.drafts import Draft, Drafts
from napari_sam.plugin.inference.encoder_view import EncoderView
from napari_sam.plugin.inference.hover import Hover
from napari_sam.plugin.inference.jobs import Jobs
from napari_sam.plugin.inference.prefetch import Prefetcher
from napari_sam.plugin.inference.requests import PredictionRequests, is_small, sentence
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.layers.files import open_image, use_label_file
from napari_sam.plugin.layers.preview import PreviewLayers
from napari_sam.plugin.objects.class_view import is_classes
from napari_sam.plugin.objects.journals import Journals
from napari_sam.plugin.objects.label_layers import LabelLayers
from napari_sam.plugin.objects.object_list import Objects
from napari_sam.plugin.prompts.keys import LayerKeys
from napari_sam.plugin.prompts.layers import PromptLayers
from napari_sam.plugin.view import contrast
from napari_sam.plugin.view.canvas_hint import CanvasSign, sign_for
from napari_sam.plugin.view.events import ViewEvents
from napari_sam.plugin.workers.runner import Work
from napari_sam.segmenter import Candidates

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_sam.plugin.workers.runner import Runner


class Controller:
    """Keeps prompt layers, preview and labels of one viewer in step.

    Parameters
    ----------
    viewer
        The viewer's model.
    runner
        Runs jobs off the GUI thread.
    notify
        Shows one sentence to the user.

    Attributes
    ----------
    changed
        Emitted whenever what the other attributes say may have changed.
    answered
        Emitted after an answer was shown: what is encoded ahead can be planned anew, once there is time.
    open
        The objects that are being segmented.
    in_hand, asking, accepting
        What is done with them: taken up and let go, asked about, and written.
    status
        One line for the user.
    """

    changed = Signal()
    answered = Signal()

    def __init__(self, viewer: ViewerModel, runner: Runner, notify: Callable[[str], None]) -> None:
        self.viewer = viewer
        self.image: Image | None = None
        self.target: Labels | None = None
        self.open = Drafts()
        self.status = ""
        self.runner = runner
        self._notify = notify
        self.jobs = Jobs(viewer)
        self.ahead = Prefetcher(viewer, self.jobs, runner, self.notify)
        self.hover = Hover(viewer, self.jobs, runner, self)
        self.seen = EncoderView(self.jobs, runner)
        runner.set_idle(self._next_work)
        self.compose = False
        self.asking, self.accepting, self.in_hand = PredictionRequests(self), CommitQueue(self), DraftEditor(self)
        self.journals = Journals(runner, notify, lambda layer, labels: self.objects.on_changed(layer, labels))
        self.objects = Objects(self, self.journals)
        self.drawing = PreviewLayers(viewer, lambda: self.prompts.layers)
        self.output = LabelLayers(viewer, runner, self._insert_output, notify, self.journals)
        self.keys = LayerKeys(self._actions(), self.changed.emit)
        self.prompts = PromptLayers(viewer, self.keys, self.in_hand.refine)
        self.prompts.prompted.connect(self._on_prompted)
        self.prompts.changed.connect(self._on_tool)
        self.prompts.selected.connect(self.in_hand.on_selected)
        self.undoing = UndoStack(self, self.objects)
        self._sign, self._is_first = CanvasSign(viewer), True
        self.changed.connect(self._show_sign)
        self._closed = False
        viewer.layers.events.removed.connect(self._on_removed)
        self._events = ViewEvents(viewer.dims, self._on_plane, self._on_thickness, self._on_place, self._on_rendering)

    def _actions(self) -> dict[str, Callable[[], None]]:
        """Return what each key does, by its name in the preferences."""
        return {
            "accept": self.accept,
            "clear": self.clear,
            "next_candidate": self.cycle,
            "previous_candidate": lambda: self.cycle(-1),
            "cycle_candidates": self.cycle,
            "flip_sign": self.toggle_sign,
            "new_object": self.in_hand.begin_another,
            "next_object": self.in_hand.take_next,
            "accept_all": self.accepting.accept_all,
            "undo": self.undo,
            "redo": self.redo,
        }

    # -- what there is ---------------------------------------------------------------------------------------------

    @property
    def preview(self) -> Labels | None:
        """The layer of the mask in hand, or None."""
        return self.drawing.preview

    @property
    def candidates(self) -> Candidates | None:
        """The three masks of the object in hand, or None."""
        return self.open.now.candidates

    @property
    def selected(self) -> int:
        """Which of them is shown."""
        return self.open.now.selected

    @property
    def refining(self) -> PickedObject | None:
        """The object of the output that the next accept replaces, or None."""
        return self.open.now.refining

    @property
    def is_begun(self) -> bool:
        """Whether the user said anything of the object in hand."""
        return self.has_prompts(self.open.now)

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self.asking.is_busy

    @property
    def warming(self) -> bool:
        """Whether the model is being loaded ahead of the first prompt."""
        return self.asking.warming

    @property
    def is_writing(self) -> bool:
        """Whether an accepted mask is being written."""
        return self.open.writing is not None

    # -- what the user chooses -------------------------------------------------------------------------------------

    def set_image(self, image: Image | None) -> None:
        """Work on another image layer: the prompts of the old one are cleared, its labels stay."""
        if image is self.image:
            return
        self._events.follow(None)
        self.image = self.ahead.image = image
        self.hover.leave()
        self.seen.forget()
        self.in_hand.forget_all()
        self.ahead.cancel()
        self.ahead.rested()
        self._events.follow(image)
        self._remove_layers()
        self.set_status("")
        if image is not None:
            if self.target is not None and not labels_layer.fits(self.target, image):
                self.target = None
            self.activate("points")
            self.drawing.prepare(image)
            if adapters.reads_hidden_planes(image):
                self._notify(
                    f"napari reads every plane of {image.name!r} at each step, because its levels are plain zarr: "
                    "add it as [napari_sam.LazyLevel(level) for level in levels]."
                )
            self.asking.warm_up()
        self.objects.follow()

    def set_model(self, model: str, device: str) -> None:
        """Use another model or device from now on."""
        if (model, device) != (self.jobs.model, self.jobs.device):
            self.jobs.model, self.jobs.device = model, device
            self._renew()

    def set_contrast(self, preset: str) -> None:
        """Give the image's layer the contrast limits of a preset, one of `contrast.PRESETS`."""
        contrast.set_limits(self, preset)

    @property
    def model(self) -> str:
        """The model in use."""
        return self.jobs.model

    def set_store(self, store: str | None) -> None:
        """Keep embeddings in another folder or at a URL from now on; None leaves that to the model."""
        if store != self.jobs.store:
            try:
                EmbeddingStore(store or embedding_folder())
            except NapariSamError as error:
                self.notify(str(error))
                return
            self.jobs.store = store
            self._renew()

    def set_target(self, target: Labels | None) -> None:
        """Write into another Labels layer; None makes a new one at the next accept."""
        if target is not None and self.image is not None:
            try:
                labels_layer.check_target(target, self.image)
            except NapariSamError as error:
                self.notify(str(error))
                return
        self.target = target
        if target is not None:
            self.output.watch(target)
            if self.image is not None:
                self.output.prepare(target, self.image)
        self.objects.follow()

    def activate(self, tool: str) -> None:
        """Take up a tool, one of `MODE_OF_TOOL`, making its layer where it is missing."""
        if self.image is None:
            self.notify("There is no image: open one, or choose an image layer.")
            return
        self.prompts.activate(tool, self.image)

    @property
    def points(self) -> Points | None:
        """The layer of points, or None."""
        return self.prompts.points

    @property
    def shapes(self) -> Shapes | None:
        """The layer of boxes, outlines and scribbles, or None."""
        return self.prompts.shapes

    @property
    def tool(self) -> str | None:
        """The tool in hand, by the active layer and its mode."""
        return self.prompts.tool

    @property
    def sign(self) -> int:
        """Whether the next point is on the object (1) or off it (0)."""
        return self.prompts.sign

    def toggle_sign(self) -> None:
        """Flip the selected points while selecting, else the sign of the next point."""
        self.prompts.toggle_sign()

    def cycle(self, step: int = 1) -> None:
        """Show the next (or the previous) candidate; the next prompts of the object go on from it, in its size."""
        now, under = self.open.now, self.hover.shown
        if now.is_as_accepted and now.candidates:
            self.asking.ask_for_another(now, step)
        elif now.candidates:
            now.selected = now.size = (now.selected + step) % len(now.candidates)
            now.chosen = now.candidates[now.selected]
            self.show()
        elif under is not None:
            now.size = (self._index_in(under) + step) % len(under)
            self.show_hover(under)

    def choose_size(self, index: int) -> None:
        """Show one of the three candidates."""
        if self.open.now.is_as_accepted:
            self.asking.ask_for_another(self.open.now, size=index)
        else:
            self.cycle(index - self.selected)

    def _index_in(self, candidates: Candidates) -> int:
        """Return which candidate to show: one of the size that the user chose for this object, else the best."""
        size = self.open.now.size
        return candidates.best_index if size is None else size

    def is_own(self, layer: Labels) -> bool:
        """Say whether a Labels layer is one that only shows something."""
        return layer in self.drawing.layers or layer is self.ahead.coverage or is_classes(layer)

    def accept(self) -> None:
        """Write the shown candidate into the labels under the next free label and clear its prompts."""
        self.accepting.accept()

    def clear(self) -> None:
        """Remove the prompts of the object in hand, and its preview; undo brings them back."""
        self.in_hand.clear()

    def mask_of(self, index: int) -> Mask:
        """Return a candidate of the object in hand as it would be written."""
        return self.accepting.mask_of(index)

    def undo(self) -> None:
        """Take back the last step of the prompts, or when there is none the last change of an object."""
        self.undoing.undo()

    def redo(self) -> None:
        """Do again what was taken back last."""
        self.undoing.redo()

    def open_image(self, path: Path) -> None:
        """Add an image file or store of any size as lazy layers, and work on it; labels become the output."""
        open_image(self, path)

    def use_label_file(self, path: Path) -> None:
        """Write into a label pyramid on disk from now on: one that is there, or a new one."""
        use_label_file(self, path)

    def abandon(self) -> None:
        """Finish what was accepted and close the journals: the viewer is gone already."""
        if not self._closed:
            self._closed = True
            self.changed.disconnect()  # Those that listen are gone, too.
            self.answered.disconnect()
            self.keys.close()
            self.hover.close()
            self.runner.close()
            self.output.close()

    def close(self) -> None:
        """Let go of the viewer: labels stay, the layers of prompts and the preview go; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self.changed.disconnect(self._show_sign)
        self._sign.restore()
        self.keys.close()
        self.hover.close()
        self.ahead.close()
        self.runner.close()
        self.output.close()
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.prompts.close()
        self._events.close()
        self.image = None
        self._remove_layers()

    def _remove_layers(self) -> None:
        """Take the layers of prompts and the preview out of the viewer."""
        for layer in (*self.prompts.layers, *self.drawing.layers):
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)

    # -- events ----------------------------------------------------------------------------------------------------

    def _on_tool(self, event: Any = None) -> None:
        if not self.may_hover:
            self.hover.leave()
        self.changed.emit()

    def _on_plane(self, event: Any = None) -> None:
        self.ahead.moved()
        self.hover.leave()
        if self.drawing.pending is not None:  # No layer is made here: napari moves its dims while it closes, too.
            self.show_parked()
        if self.prompts.layers:
            self.open.now.downsample = None
            self.asking.request()

    def _on_thickness(self, event: Any = None) -> None:
        """See the image anew if more or fewer planes are seen as one."""
        if self.image in self.viewer.layers and any(str(layer.projection_mode) != "none" for layer in self.channels):
            self._on_rendering()

    def _on_place(self, event: Any = None) -> None:
        """Let our layers lie where the image does, in the units of the world."""
        if self.image is not None:
            self.hover.leave()
            self.prompts.follow(self.image)
            self.drawing.follow(self.image)
            if self.ahead.coverage is not None:
                own_layers.place_on(self.ahead.coverage, self.image)
            self.show()
            self.show_parked()
            self.ahead.redraw()

    def _on_rendering(self, event: Any = None) -> None:
        if self.ahead.progress is not None:
            self.notify("Encoding was stopped because the image is shown differently now: start it again.")
        self._renew()

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        self.output.forget(layer)
        self.undoing.forget_gone()
        if self.prompts.forget(layer):
            self._on_prompted()
        elif self.drawing.forget(layer):
            pass
        elif layer is self.ahead.coverage:
            self.ahead.coverage, self.ahead.show = None, False
            self.ahead.changed.emit()
        elif layer is self.target:
            self.target = None
            refined = [each.refining.label for each in self.open.open if each.refining is not None]
            self.in_hand.after_change(layer, refined)
        elif layer is self.image:
            self.set_image(None)
        self.objects.follow()

    @property
    def channels(self) -> tuple[Image, ...]:
        """The layers that the encoder sees together: the image, and with `compose` its other visible channels."""
        if self.image is None:
            return ()
        return tuple(adapters.channels_with(self.viewer, self.image)) if self.compose else (self.image,)

    def set_compose(self, compose: bool) -> None:
        """See the image alone from now on, or together with its other visible channels, in their colours."""
        if compose != self.compose:
            self.compose = compose
            self._renew()

    def _renew(self) -> None:
        """Ask for the same prompts again, because what answers them has changed; without any, get ready for some."""
        self.ahead.cancel()
        self.ahead.moved()
        self.hover.leave()
        self.seen.forget()
        if self.must_wait:
            return
        if self.has_prompts(self.open.now):
            self.asking.give_up()
            self.open.now.answered = self.open.now.chosen = None
            self.asking.request()
        else:
            self.asking.warm_up()

    @property
    def must_wait(self) -> bool:
        """Whether an answer is under way that was accepted already: nothing may take its place."""
        return self.is_writing or (self.busy and bool(self.open.waiting))

    def has_prompts(self, each: Draft) -> bool:
        """Say whether the user said anything of an object."""
        return each.refining is not None or self.prompts.count_of(each.number) > 0

    def _on_prompted(self) -> None:
        self.in_hand.follow_parked()
        self.undoing.record()
        self.asking.request()

    # -- what lies under the cursor -----------------------------------------------------------------------------------

    @property
    def may_hover(self) -> bool:
        """Whether a click now would begin a new object: only then is there a preview under the cursor."""
        if self.tool != "points" or self.sign != 1 or self._closed:
            return False
        return not (self.busy or self.warming or self.is_writing or self.has_prompts(self.open.now))

    def show_hover(self, candidates: Candidates | None) -> None:
        """Draw the mask under the cursor, fainter than an answer, or take it away."""
        if candidates is not None and self.image is not None:
            mask = candidates[self._index_in(candidates)]
            if is_small(mask):
                mask = self.accepting.cleaning(mask, candidates.plane.shape_in(adapters.shape_of(self.image)))
            self.drawing.show_hover(self.image, candidates.plane, mask)
        elif self.candidates is None:
            self.drawing.hide()

    def _next_work(self) -> Work | None:
        """Return what can be done while nobody waits: first what lies under the cursor, last what is encoded ahead."""
        work = self.hover.next_work() or self.journals.next_work() or self.seen.next_work()
        return work or self._with_another_look(self.ahead.next_work())

    def _with_another_look(self, work: Work | None) -> Work | None:
        """Let the mouse that rests where nothing was encoded have its preview once something is."""
        if work is None:
            return None

        def done(value: Any) -> None:
            work.done(value)
            self.hover.look_again()

        return replace(work, done=done)

    def _show_sign(self) -> None:
        """Say on the canvas what the next click will mean."""
        self._is_first = self._is_first and not self.has_prompts(self.open.now)
        refined = None if self.refining is None else self.refining.label
        self._sign.show(sign_for(self.tool, self.sign, self._is_first, refined))

    # -- layers ----------------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Draw the selected candidate of the object in hand."""
        if self.image is not None and self.candidates is not None:
            self.drawing.show(self.image, self.candidates.plane, self.accepting.mask_of(self.selected))
        elif self.hover.shown is None:
            self.drawing.hide()
        self.changed.emit()

    def show_pending(self) -> None:
        """Let the last answer fade while a newer one is under way; where there is none yet, show nothing."""
        if self.candidates is None:
            self.drawing.hide()
        else:
            self.drawing.fade()

    def _insert_output(self, layer: Labels) -> None:
        """Add a layer that was made for what is accepted, and go on with it even if that is refused."""
        self.drawing.insert(layer)
        if self.target is None:
            self.set_target(layer)

    def show_parked(self) -> None:
        """Draw the masks of the other open objects, as far as they lie in the plane in view."""
        if self.image is None or (not self.open.pending and self.drawing.pending is None):
            return
        try:
            plane = adapters.plane_of(self.viewer, self.image)
        except NapariSamError:
            return
        masks = [
            self.accepting.mask_of(each.selected, each)
            for each in self.open.pending
            if each.candidates is not None and each.candidates.plane == plane
        ]
        self.drawing.show_parked(self.image, plane, [mask for mask in masks if mask.area])

    def notify(self, sentence: str) -> None:
        """Tell the user a sentence: napari's notification cuts long ones, the status shows them whole."""
        self._notify(sentence)
        self.set_status(sentence)

    def tell_error(self, error: Exception) -> None:
        """Tell the user what went wrong."""
        self.notify(sentence(error))

    def set_status(self, status: str) -> None:
        """Say something in the widget's line."""
        self.status = status
        self.changed.emit()
