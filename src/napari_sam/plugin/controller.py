"""Events of layers and dims -> Segmenter -> preview and labels. Knows napari's models, but no widget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Points, Shapes
from psygnal import Signal

from napari_sam.core.cleaning import Cleaning
from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.prompts import Prompts
from napari_sam.errors import NapariSamError, PromptError
from napari_sam.plugin import adapters, contrast, labels_layer, own_layers, refine
from napari_sam.plugin.adapters import LayerPrompts
from napari_sam.plugin.ahead import Ahead
from napari_sam.plugin.drawing import Drawing
from napari_sam.plugin.hover import Hover
from napari_sam.plugin.jobs import Answer, Jobs, Request, Tidied
from napari_sam.plugin.journals import Journals
from napari_sam.plugin.keys import LayerKeys
from napari_sam.plugin.look import Spot
from napari_sam.plugin.objects import Objects
from napari_sam.plugin.open_objects import OpenObject, OpenObjects
from napari_sam.plugin.output import Acceptance, Output, Written
from napari_sam.plugin.prompt_layers import PromptLayers
from napari_sam.plugin.reader import read_layers
from napari_sam.plugin.refine import Refinement
from napari_sam.plugin.seen import Seen
from napari_sam.plugin.signs import CanvasSign, sign_for
from napari_sam.plugin.undoing import Undoing
from napari_sam.plugin.workers import Work
from napari_sam.recording import provenance
from napari_sam.segmenter import Candidates
from napari_sam.stores.embedding_disk import DiskStore
from napari_sam.stores.entries import Provenance
from napari_sam.stores.locations import embedding_folder
from napari_sam.stores.pyramid import LabelPyramid

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_sam.plugin.prompt_history import Moment
    from napari_sam.plugin.workers import Job, Report, Runner

# A mask in a box of more pixels takes too long to be tidied at every move of the mouse.
MOST_AT_ONCE = 512**2


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
    warming
        Whether the model is being loaded ahead of the first prompt.
    status
        One line for the user.
    """

    changed = Signal()
    answered = Signal()

    def __init__(self, viewer: ViewerModel, runner: Runner, notify: Callable[[str], None]) -> None:
        self.viewer = viewer
        self.image: Image | None = None
        self.target: Labels | None = None
        self.open = OpenObjects()
        self.status = ""
        self.warming = False
        self._runner = runner
        self._notify = notify
        self._jobs = Jobs()
        self.ahead = Ahead(viewer, self._jobs, runner, self.tell)
        self.hover = Hover(viewer, self._jobs, runner, self)
        self.seen = Seen(self._jobs, runner)
        runner.set_idle(self._next_work)
        self.overlap: Overlap = "keep"
        self.compose = False
        self.cleaning = Cleaning()
        self.journals = Journals(runner, notify, lambda layer, labels: self.objects.on_changed(layer, labels))
        self.objects = Objects(self, self.journals)
        self.drawing = Drawing(viewer, lambda: self.prompts.layers)
        self._output = Output(viewer, runner, self._insert_output, notify, self.journals)
        self.keys = LayerKeys(self._actions(), self.changed.emit)
        self.prompts = PromptLayers(viewer, self.keys, self.refine)
        self.prompts.prompted.connect(self._on_prompted)
        self.prompts.changed.connect(self._on_tool)
        self.prompts.selected.connect(self._on_selected)
        self.undoing = Undoing(self, self.objects, self._output)
        self._sign, self._is_first = CanvasSign(viewer), True
        self.changed.connect(self._show_sign)
        self._closed = False
        self._told: tuple[str, ...] = ()
        self._latest: tuple[OpenObject, Request] | None = None
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.dims.events.current_step.connect(self._on_plane)
        viewer.dims.events.order.connect(self._on_plane)
        viewer.dims.events.ndisplay.connect(self._on_plane)

    def _actions(self) -> dict[str, Callable[[], None]]:
        """Return what each key does, by its name in the preferences."""
        return {
            "accept": self.accept,
            "clear": self.clear,
            "next_candidate": self.cycle,
            "previous_candidate": lambda: self.cycle(-1),
            "cycle_candidates": self.cycle,
            "flip_sign": self.toggle_sign,
            "new_object": self.begin_another,
            "next_object": self.take_next,
            "accept_all": self.accept_all,
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
    def refining(self) -> Refinement | None:
        """The object of the output that the next accept replaces, or None."""
        return self.open.now.refining

    @property
    def is_begun(self) -> bool:
        """Whether the user said anything of the object in hand."""
        return self._has_prompts(self.open.now)

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._latest is not None

    @property
    def is_writing(self) -> bool:
        """Whether an accepted mask is being written."""
        return self.open.writing is not None

    # -- what the user chooses -------------------------------------------------------------------------------------

    def set_image(self, image: Image | None) -> None:
        """Work on another image layer: the prompts of the old one are cleared, its labels stay."""
        if image is self.image:
            return
        for event in self._image_events():
            event.disconnect(self._on_rendering)
        self.image = self.ahead.image = image
        self.hover.leave()
        self.seen.forget()
        self._forget_all()
        self.ahead.cancel()
        self.ahead.rested()
        for event in self._image_events():
            event.connect(self._on_rendering)
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
            self._warm_up()
        self.objects.follow()

    def set_model(self, model: str, device: str) -> None:
        """Use another model or device from now on."""
        if (model, device) != (self._jobs.model, self._jobs.device):
            self._jobs.model, self._jobs.device = model, device
            self._renew()

    def set_contrast(self, preset: str) -> None:
        """Give the image's layer the contrast limits of a preset, one of `contrast.PRESETS`."""
        image = self.image
        if image is None or image.rgb:
            self.tell("There is no grey image whose contrast could be set: colours are seen as they are.")
            return

        def done(limits: contrast.Limits) -> None:
            if image in self.viewer.layers and limits[0] < limits[1]:
                image.contrast_limits = limits

        try:
            job = contrast.limits_job(preset, image)
        except NapariSamError as error:
            self.tell(str(error))
            return
        self._runner.submit_write(Work(job, done, self.tell_error))

    @property
    def model(self) -> str:
        """The model in use."""
        return self._jobs.model

    def set_store(self, store: str | None) -> None:
        """Keep embeddings in another folder or at a URL from now on; None leaves that to the model."""
        if store != self._jobs.store:
            try:
                DiskStore(store or embedding_folder())
            except NapariSamError as error:
                self.tell(str(error))
                return
            self._jobs.store = store
            self._renew()

    def set_target(self, target: Labels | None) -> None:
        """Write into another Labels layer; None makes a new one at the next accept."""
        if target is not None and self.image is not None:
            try:
                labels_layer.check_target(target, self.image)
            except NapariSamError as error:
                self.tell(str(error))
                return
        self.target = target
        if target is not None:
            self._output.watch(target)
            if self.image is not None:
                self._output.prepare(target, self.image)
        self.objects.follow()

    def activate(self, tool: str) -> None:
        """Take up a tool, one of `MODE_OF_TOOL`, making its layer where it is missing."""
        if self.image is None:
            self.tell("There is no image: open one, or choose an image layer.")
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
        if now.candidates:
            now.selected = now.size = (now.selected + step) % len(now.candidates)
            now.chosen = now.candidates[now.selected]
            self._show()
        elif under is not None:
            now.size = (self._index_in(under) + step) % len(under)
            self.show_hover(under)

    def _index_in(self, candidates: Candidates) -> int:
        """Return which candidate to show: one of the size that the user chose for this object, else the best."""
        size = self.open.now.size
        return candidates.best_index if size is None else size

    # -- several objects at once -----------------------------------------------------------------------------------

    def begin_another(self) -> None:
        """Leave the object in hand open, and let the next prompt begin another one."""
        if self.image is None or not self._has_prompts(self.open.now):
            self.tell("Nothing is begun that could be left open: click an object first.")
            return
        if self._latest is not None and self._latest[0] is self.open.now:
            self._latest = None
        self.open.park()
        self._on_other_in_hand()
        self.undoing.record()
        self.set_status(f"{self._count_open()}: the next prompt begins another one.")

    def take_next(self) -> None:
        """Take the open object in hand that was left open first; after the last one, it is that again."""
        if not self.open.parked:
            self.tell("No other object is open: begin one beside this one first.")
            return
        self.take(self.open.parked[0])

    def take(self, wanted: OpenObject) -> None:
        """Take an object in hand that was left open."""
        if self.must_wait:
            self.tell("An object is being written: wait a moment, then try again.")
            return
        self._latest = None
        self.open.take(wanted, keep=self._has_prompts(self.open.now))
        self._on_other_in_hand()
        self.set_status(f"{self._count_open()}.")
        self.request()

    def _count_open(self) -> str:
        count = len(self.open.parked) + self._has_prompts(self.open.now)
        return f"{count} object{' is' if count == 1 else 's are'} open"

    def _on_other_in_hand(self) -> None:
        """Show what the object in hand is, and the others as they wait."""
        self.hover.leave()
        self.prompts.begin(self.open.now.number)
        self._show()
        self._show_parked()

    def _on_selected(self, number: int) -> None:
        """Take up the object of a prompt that the user selected."""
        wanted = self.open.numbered(number)
        if wanted is not None and wanted in self.open.parked:
            self.take(wanted)

    def refine(self, position: Any) -> None:
        """Take up the object at a position of the world: its mask is the prompt, and accept replaces it."""
        if self.image is None or self.must_wait:
            return
        try:
            plane = adapters.plane_of(self.viewer, self.image)
        except NapariSamError as error:
            self.tell(str(error))
            return
        row, col = (float(at) for at in np.asarray(self.image.world_to_data(position), float)[list(plane.axes)])
        parked = self.open.parked_at(plane, row, col)
        if parked is not None:
            self.take(parked)
            return
        labels = [layer for layer in self.viewer.layers if isinstance(layer, Labels) and not self.is_own(layer)]
        layers = refine.layers_to_search(labels, self.target, self.image)
        job = lambda _: refine.find_refinement(layers, plane, (row, col))  # noqa: E731
        self._latest = None  # What waits for its turn gives way to this.
        self._runner.submit(job, self._on_refinement, self._on_no_refinement, self.set_status)

    def _on_refinement(self, found: Refinement | None) -> None:
        if found is None:
            self._on_no_refinement(PromptError("There is no object to correct: Ctrl+click on one of the output."))
            return
        self.clear()
        self.set_target(found.layer)
        if self.target is not found.layer:
            return
        if self.objects.object(found.label) is not None:
            self.objects.reopen(found.label, found.plane)
        else:
            self.take_up(found)

    def take_up(self, found: Refinement, prompts: Prompts | None = None, size: int | None = None) -> None:
        """Go on with an object of the output, which the next accept replaces.

        Parameters
        ----------
        found
            Which one.
        prompts
            What it was segmented by, drawn again.
        size
            Which of the three candidates it was.
        """
        self.prompts.begin(self.open.begin(found, size).number)
        if prompts is not None and self.image is not None:
            self.prompts.put(prompts, self.image, found.plane)
        self.undoing.record()
        self.request()

    def after_change(self, layer: Labels, labels: Sequence[int]) -> None:
        """Let go of objects that were changed otherwise while they were to be corrected."""
        for each in self.open.open:
            old = each.refining
            if old is not None and old.layer is layer and old.label in labels:
                self._drop(each)
                self.undoing.history.settle(each, self.open.now)

    def _on_no_refinement(self, error: Exception) -> None:
        self.tell(_sentence(error))
        if self._has_prompts(self.open.now):
            self.request()
        elif self.warming:
            self._warm_up()

    def is_own(self, layer: Labels) -> bool:
        """Say whether a Labels layer is one that only shows something."""
        return layer in self.drawing.layers or layer is self.ahead.coverage

    def clear(self) -> None:
        """Remove the prompts of the object in hand, and its preview; undo brings them back."""
        if self._has_prompts(self.open.now):
            self._drop(self.open.now)
            self.undoing.record()
        else:
            self._forget_answer()

    def _drop(self, gone: OpenObject) -> None:
        """Do without an open object."""
        self.prompts.remove(gone.number)
        if self._latest is not None and self._latest[0] is gone:
            self._latest = None
        if gone in self.open.parked:
            self.open.parked.remove(gone)
            self._show_parked()
            return
        self.prompts.begin(self.open.begin().number)
        self._forget_answer()

    def _forget_all(self) -> None:
        """Do without all open objects."""
        self._latest = None
        for each in (*self.open.open, *self.open.waiting):
            self.prompts.remove(each.number)
        self.open.forget_all()
        self.prompts.begin(self.open.now.number)
        self._show_parked()
        self._forget_answer()
        self.undoing.begin()

    def return_to(self, moment: Moment) -> None:
        """Let the prompts and the open objects be as they were at another moment."""
        if self.image is None:
            return
        before = self.prompts.drawn
        if not self.must_wait:
            self._latest = None
        self.prompts.put_back(moment.drawn, self.image)
        self.open.parked, self.open.now = list(moment.parked), moment.now
        for each in self.open.open:
            if not before.of(each.number).is_like(moment.drawn.of(each.number)):
                each.candidates = each.answered = each.chosen = each.tidied = None
        self._on_other_in_hand()
        self.request()

    def undo(self) -> None:
        """Take back the last step of the prompts, or when there is none the last change of an object."""
        self.undoing.undo()

    def redo(self) -> None:
        """Do again what was taken back last."""
        self.undoing.redo()

    # -- accepting -------------------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Write the shown candidate into the labels under the next free label and clear its prompts."""
        now = self.open.now
        waits = self.must_wait or (self._latest is not None and self._latest[0] is now)
        if now.candidates is None and not (waits and self._has_prompts(now)):
            self.tell("There is no mask to accept: click an object first.")
            return
        if now.is_answered and self._is_cleaned_away(now):
            return
        self.open.accept()
        self.prompts.begin(self.open.now.number)
        self.advance()

    def accept_all(self) -> None:
        """Accept every open object, in the order in which they were left open."""
        self.open.waiting += self.open.parked
        self.open.parked = []
        self._show_parked()
        if self._has_prompts(self.open.now) or not self.open.waiting:
            self.accept()
        self.advance()

    def advance(self) -> None:
        """Go on with what was accepted, one object at a time; after the last one, with the object in hand."""
        if self.is_writing:
            return
        if not self.open.waiting:
            if self._has_prompts(self.open.now):
                self.request()
            return
        first = self.open.waiting[0]
        if self._latest is not None and self._latest[0] is first:
            return
        if not first.is_answered:
            self.request()
        elif self._is_cleaned_away(first):
            self._open_again(first)
            self.advance()
        else:
            self._commit(self.open.waiting.pop(0))

    def _is_cleaned_away(self, accepted: OpenObject) -> bool:
        """Say, to the user too, whether the clean-up leaves nothing of a mask."""
        if accepted.mask is None or accepted.mask.area == 0 or self.mask_of(accepted.selected, accepted).area:
            return False
        self.tell("The clean-up leaves nothing of this mask: ask for smaller parts, or choose another candidate.")
        return True

    def _open_again(self, *given: OpenObject) -> None:
        """Let the user go on with objects that could not be written."""
        for each in given:
            is_free = not self._has_prompts(self.open.now)
            self.open.give_back(each, is_free)
            if is_free:
                self._on_other_in_hand()
        self._show_parked()

    def _commit(self, accepted: OpenObject) -> None:
        """Write the shown candidate of an object."""
        candidates = accepted.candidates
        assert candidates is not None
        assert self.image is not None
        plane, mask = candidates.plane, self.mask_of(accepted.selected, accepted)
        self.open.writing = accepted
        self.set_status("Writing ...")
        old = accepted.refining if accepted.refining is not None and accepted.refining.plane == plane else None
        acceptance = Acceptance(
            plane,
            mask,
            self.overlap,
            lambda layer, edit: self._committed(layer, edit, mask),
            self._not_committed,
            old,
            _prompts_of(accepted),
            self._made(accepted),
            self.objects.class_name,
        )
        self._output.commit(self.image, self.target if old is None else old.layer, acceptance)

    def _made(self, accepted: OpenObject) -> Provenance | None:
        """Return how the shown candidate was made."""
        segmenter, mask, candidates = self._jobs.segmenter, accepted.mask, accepted.candidates
        if segmenter is None or mask is None or candidates is None:
            return None
        return provenance(segmenter.encoder, mask, candidates.name_of(mask), accepted.downsample)

    def _committed(self, layer: Labels, edit: Written, mask: Mask) -> None:
        """Forget what was accepted."""
        if self.target is None and layer in self.viewer.layers:
            self.set_target(layer)
        written, self.open.writing = self.open.writing, None
        assert written is not None
        self.prompts.remove(written.number)
        self.undoing.history.settle(written, self.open.now)
        self._show()
        rest = "" if edit.area == mask.area else f" of {mask.area}, the rest belongs to other labels"
        self.set_status(f"Accepted as label {edit.label} ({edit.area} px{rest}).")
        self.advance()

    def _not_committed(self, error: Exception) -> None:
        written = self.open.writing
        assert written is not None
        self._open_again(written, *self.open.waiting)
        self.tell(_sentence(error))
        if self._has_prompts(self.open.now):
            self.request()  # Prompts that were added since have had no answer yet.

    def set_cleaning(self, cleaning: Cleaning) -> None:
        """Tidy masks otherwise from now on, the shown ones too."""
        self.cleaning = cleaning
        now, image = self.open.now, self.image
        candidates = now.candidates
        if candidates is None or image is None or self.busy or self.must_wait:
            return
        shape = candidates.plane.shape_in(adapters.shape_of(image))

        def done(tidied: Tidied) -> None:
            if tidied.candidates is now.candidates and tidied.cleaning == self.cleaning:
                now.tidied = tidied
                self._show()

        self._runner.submit(lambda _: Tidied.of(candidates, cleaning, shape), done, self.tell_error, self.set_status)

    def mask_of(self, index: int, of: OpenObject | None = None) -> Mask:
        """Return a candidate as it would be written; of the object in hand, or of another one."""
        each, image = of or self.open.now, self.image
        candidates = each.candidates
        assert candidates is not None
        if self.cleaning.changes_nothing or image is None:
            return candidates[index]
        known = each.tidied
        if known is None or known.candidates is not candidates or known.cleaning != self.cleaning:
            shape = candidates.plane.shape_in(adapters.shape_of(image))
            each.tidied = known = Tidied.of(candidates, self.cleaning, shape)
        return known.masks[index]

    def open_image(self, path: Path) -> None:
        """Add an image file or store of any size as lazy layers."""
        try:
            for data, options, kind in read_layers(str(path)):
                add = self.viewer.add_labels if kind == "labels" else self.viewer.add_image
                add(data, **options)
        except NapariSamError as error:
            self.tell(str(error))

    def use_label_file(self, path: Path) -> None:
        """Write into a label pyramid on disk from now on: one that is there, or a new one."""
        if self.image is None:
            self.tell("There is no image to label: open one first.")
            return
        if self.image.source.path is not None and path.resolve() == Path(str(self.image.source.path)).resolve():
            self.tell(f"{path} is the image itself: choose another file for its labels.")
            return
        try:
            pyramid = LabelPyramid.open(path) if path.exists() else own_layers.pyramid_maker(path, self.image)()
            layer = own_layers.labels_of_pyramid(pyramid, self.image)
        except NapariSamError as error:
            self.tell(str(error))
            return
        self.drawing.insert(layer)
        self.set_target(layer)
        self.set_status(f"Accepted masks go into {path}.")

    def abandon(self) -> None:
        """Finish what was accepted and close the journals: the viewer is gone already."""
        if not self._closed:
            self._closed = True
            self.keys.close()
            self.hover.close()
            self._runner.close()
            self._output.close()

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
        self._runner.close()
        self._output.close()
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.prompts.close()
        for event in (
            self.viewer.dims.events.current_step,
            self.viewer.dims.events.order,
            self.viewer.dims.events.ndisplay,
        ):
            event.disconnect(self._on_plane)
        for event in self._image_events():
            event.disconnect(self._on_rendering)
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
        if self.drawing.parked is not None:  # No layer is made here: napari moves its dims while it closes, too.
            self._show_parked()
        if self.prompts.layers:
            self.open.now.downsample = None
            self.request()

    def _on_rendering(self, event: Any = None) -> None:
        if self.ahead.progress is not None:
            self.tell("Encoding was stopped, because the image is to be seen otherwise now: start it anew.")
        self._renew()

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        self._output.forget(layer)
        if self.prompts.forget(layer):
            self._on_prompted()
        elif self.drawing.forget(layer):
            pass
        elif layer is self.ahead.coverage:
            self.ahead.coverage, self.ahead.show = None, False
        elif layer is self.target:
            self.target = None
            refined = [each.refining.label for each in self.open.open if each.refining is not None]
            self.after_change(layer, refined)
        elif layer is self.image:
            self.set_image(None)
        self.objects.follow()

    def _image_events(self) -> list[Any]:
        if self.image is None:
            return []
        events = self.image.events
        return [events.data, events.contrast_limits, events.gamma, events.scale, events.colormap]

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
        if self._has_prompts(self.open.now):
            self._latest = self.open.now.answered = self.open.now.chosen = None
            self.request()
        else:
            self._warm_up()

    @property
    def must_wait(self) -> bool:
        """Whether an answer is under way that was accepted already: nothing may take its place."""
        return self.is_writing or (self.busy and bool(self.open.waiting))

    def _has_prompts(self, each: OpenObject) -> bool:
        return each.refining is not None or self.prompts.count_of(each.number) > 0

    # -- asking and answering --------------------------------------------------------------------------------------

    def _on_prompted(self) -> None:
        self.undoing.record()
        self.request()

    def request(self) -> None:
        """Ask for the masks of the prompts as they are now; an older answer that is still to come is dropped.

        First those of the object that was accepted first and has no answer yet, else those of the object in hand.
        """
        if self.image is None or self.must_wait:
            return
        asked = self.open.waiting[0] if self.open.waiting else self.open.now
        if not self._has_prompts(asked):
            self._do_without_answer(asked)
            return
        try:
            request = self._request_of(asked, self.image)
            if request is None or self._take_hover(asked, request):
                return
            unsearched = self.target is not None and not self._output.is_searched(self.target)
            job = self._looking(self.image, self._jobs.answer(request, self.target if unsearched else None))
        except NapariSamError as error:
            self._do_without_answer(asked)
            self.tell(str(error))
            return
        self.hover.leave()
        self.warming, asked.is_asked = False, True
        self._latest = asked, request
        self.set_status("Segmenting ...")
        self._runner.submit(
            job,
            lambda answer: self._on_answer(request, answer),
            lambda error: self._on_error(request, error),
            self.set_status,
        )

    def _request_of(self, asked: OpenObject, image: Image) -> Request | None:
        """Return the question to ask about an object; None where it was asked already, or there is nothing to ask.

        Raises
        ------
        NapariSamError
            The plane in view has no pixels of the image, or the prompts fit nothing.
        """
        plane = adapters.plane_of(self.viewer, image)
        prompts = adapters.prompts_of(self.points, self.shapes, image, plane, asked.number)
        old = asked.refining
        if old is not None and prompts.mask is None and prompts.box is None and old.plane == plane:
            prompts = replace(prompts, mask=old.hint)
        self._tell_ignored(prompts.ignored)
        if prompts.is_empty:
            status = self.status if prompts.ignored else "Your prompts lie on another plane."
            self._do_without_answer(asked, status)
            return None
        if self._is_known(asked, plane, prompts):
            return None
        if asked.downsample is None:
            asked.downsample = adapters.downsample_of(self.viewer, image, plane)
        previous = _previous(asked, prompts)
        return Request(image, self.channels, plane, prompts, previous, asked.downsample, self.cleaning)

    def _do_without_answer(self, asked: OpenObject, status: str = "") -> None:
        """Show no answer to an object; where it was accepted already, the user goes on with it."""
        if asked in self.open.waiting:
            self._open_again(asked)
            self.set_status(status)
            self.advance()
        else:
            self._forget_answer(status)

    def _tell_ignored(self, sentences: tuple[str, ...]) -> None:
        """Say once why a prompt does not count; the others go on counting."""
        for sentence in sentences:
            if sentence not in self._told:
                self.tell(sentence)
        self._told = sentences

    def _is_known(self, asked: OpenObject, plane: Plane, prompts: LayerPrompts) -> bool:
        """Say whether the same was asked last: napari tells of one click by several events."""
        last = self._latest[1] if self._latest is not None and self._latest[0] is asked else asked.answered
        return (
            last is not None
            and last.plane == plane
            and len(last.prompts.points) == len(prompts.points)
            and prompts.goes_on_from(last.prompts)
        )

    def _warm_up(self) -> None:
        """Load the model before the first click asks for it; should that fail, the click will tell."""
        if self.image is not None:
            try:
                build = self._jobs.builder(self.image, self.channels)
            except NapariSamError:
                return
            self.warming = True
            self._runner.submit(self._looking(self.image, build), self._on_warm, self._on_warm, self.set_status)

    def _looking(self, image: Image, job: Job) -> Job:
        """Return a job that first looks for work that was left, where none has yet."""
        look = self.journals.look_job(image)
        if look is None:
            return job

        def both(report: Report) -> Any:
            look()
            return job(report)

        return both

    def _on_warm(self, _: Any) -> None:
        self.warming = False
        self.set_status("")
        self.ahead.rested()

    def _on_answer(self, request: Request, answer: Answer) -> None:
        if self._latest is None or request is not self._latest[1]:
            return
        (asked, _), self._latest = self._latest, None
        candidates = answer.candidates
        if answer.target is not None and answer.target in self.viewer.layers:
            self._output.watch(answer.target, answer.highest)
        asked.candidates, asked.tidied, asked.answered = candidates, answer.clean, request
        asked.is_asked = False
        asked.selected = candidates.best_index if asked.size is None else asked.size
        goes_on = request.previous is not None or asked.size is not None
        asked.chosen = candidates[asked.selected] if goes_on else None
        if asked is self.open.now:
            self._show()
        self.set_status("" if candidates.best.area else "Nothing was found there: add a point or draw a box.")
        if self.open.waiting:
            self.advance()
        self.seen.look_at(candidates)
        self._runner.wake()
        self.answered.emit()

    def _on_error(self, request: Request, error: Exception) -> None:
        if self._latest is None or request is not self._latest[1]:
            return
        (asked, _), self._latest = self._latest, None
        self._do_without_answer(asked)
        self.tell(_sentence(error))

    def _forget_answer(self, status: str = "") -> None:
        """Show no answer to the object in hand."""
        if self._latest is not None and self._latest[0] is self.open.now:
            self._latest = None
        self.open.now.forget_answer()
        self.drawing.hide()
        self.set_status(status)

    # -- what lies under the cursor -----------------------------------------------------------------------------------

    @property
    def may_hover(self) -> bool:
        """Whether a click now would begin a new object: only then is there a preview under the cursor."""
        if self.tool != "points" or self.sign != 1 or self._closed:
            return False
        return not (self.busy or self.warming or self.is_writing or self._has_prompts(self.open.now))

    def show_hover(self, candidates: Candidates | None) -> None:
        """Draw the mask under the cursor, fainter than an answer, or take it away."""
        if candidates is not None and self.image is not None:
            mask = candidates[self._index_in(candidates)]
            if _is_small(mask):
                mask = self.cleaning(mask, candidates.plane.shape_in(adapters.shape_of(self.image)))
            self.drawing.show_hover(self.image, candidates.plane, mask)
        elif self.candidates is None:
            self.drawing.hide()

    def _take_hover(self, asked: OpenObject, request: Request) -> bool:
        """Make the mask under the cursor the answer to a click there; say whether there is one."""
        prompts = request.prompts
        alone = len(prompts.points) == 1 and prompts.labels[0] == 1 and prompts.box is None and prompts.mask is None
        if not alone or (self.target is not None and not self._output.is_searched(self.target)):
            return False
        (row, col) = prompts.points[0]
        found = self.hover.take(Spot(request.plane, (float(row), float(col)), request.downsample))
        if found is None or not (self.cleaning.changes_nothing or _is_small(found[-1])):
            return False
        self._latest = asked, request
        self._on_answer(request, Answer(found))
        asked.chosen = found[asked.selected]
        return True

    def _next_work(self) -> Work | None:
        """Return what can be done while nobody waits: first what lies under the cursor, last what is encoded ahead."""
        return self.hover.next_work() or self.journals.next_work() or self.seen.next_work() or self.ahead.next_work()

    def _show_sign(self) -> None:
        """Say on the canvas what the next click will mean."""
        self._is_first = self._is_first and not self._has_prompts(self.open.now)
        refined = None if self.refining is None else self.refining.label
        self._sign.show(sign_for(self.tool, self.sign, self._is_first, refined))

    # -- layers ----------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Draw the selected candidate of the object in hand."""
        if self.image is not None and self.candidates is not None:
            self.drawing.show(self.image, self.candidates.plane, self.mask_of(self.selected))
        elif self.hover.shown is None:
            self.drawing.hide()
        self.changed.emit()

    def _insert_output(self, layer: Labels) -> None:
        """Add a layer that was made for what is accepted, and go on with it even if that is refused."""
        self.drawing.insert(layer)
        if self.target is None:
            self.set_target(layer)

    def _show_parked(self) -> None:
        """Draw the masks of the other open objects, as far as they lie in the plane in view."""
        if self.image is None or (not self.open.parked and self.drawing.parked is None):
            return
        try:
            plane = adapters.plane_of(self.viewer, self.image)
        except NapariSamError:
            return
        masks = [
            self.mask_of(each.selected, each)
            for each in self.open.parked
            if each.candidates is not None and each.candidates.plane == plane
        ]
        self.drawing.show_parked(self.image, plane, [mask for mask in masks if mask.area])

    def tell(self, sentence: str) -> None:
        """Tell the user a sentence: napari's notification cuts long ones, the status shows them whole."""
        self._notify(sentence)
        self.set_status(sentence)

    def tell_error(self, error: Exception) -> None:
        """Tell the user what went wrong."""
        self.tell(_sentence(error))

    def set_status(self, status: str) -> None:
        """Say something in the widget's line."""
        self.status = status
        self.changed.emit()


def _prompts_of(accepted: OpenObject) -> Prompts | None:
    """Return what the candidates of an object answer."""
    if accepted.candidates is None or accepted.candidates.prompts is not None or accepted.answered is None:
        return None if accepted.candidates is None else accepted.candidates.prompts
    asked = accepted.answered.prompts
    box = asked.mask.box if asked.box is None and asked.mask is not None else asked.box
    return Prompts(asked.points, asked.labels.astype(bool), box, asked.mask)


def _previous(asked: OpenObject, prompts: LayerPrompts) -> Mask | None:
    """Return the candidate that the user chose, if the prompts only go on from those that it answered."""
    if asked.answered is None or asked.chosen is None or not prompts.goes_on_from(asked.answered.prompts):
        return None
    return asked.chosen


def _is_small(mask: Mask) -> bool:
    return math.prod(mask.box.pixel_shape) <= MOST_AT_ONCE


def _sentence(error: Exception) -> str:
    if isinstance(error, NapariSamError):
        return str(error)
    return f"Something went wrong that should not ({type(error).__name__}: {error}): please report it."
