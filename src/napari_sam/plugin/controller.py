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
from napari_sam.plugin.hover import Hover
from napari_sam.plugin.jobs import Answer, Jobs, Request, Tidied
from napari_sam.plugin.journals import Journals
from napari_sam.plugin.keys import LayerKeys
from napari_sam.plugin.look import Spot
from napari_sam.plugin.objects import Objects
from napari_sam.plugin.output import Acceptance, Output, Written
from napari_sam.plugin.prompt_layers import PromptLayers
from napari_sam.plugin.reader import read_layers
from napari_sam.plugin.refine import Refinement
from napari_sam.plugin.seen import Seen
from napari_sam.plugin.signs import CanvasSign, sign_for
from napari_sam.plugin.workers import Work
from napari_sam.recording import provenance
from napari_sam.segmenter import Candidates
from napari_sam.stores.embedding_disk import DiskStore
from napari_sam.stores.entries import Provenance
from napari_sam.stores.labels import Edit
from napari_sam.stores.locations import embedding_folder
from napari_sam.stores.pyramid import LabelPyramid

if TYPE_CHECKING:
    from napari.components import ViewerModel

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
    candidates, selected
        The three masks that wait to be accepted, and which of them is shown.
    refining
        The object of the output that the next accept replaces, or None.
    busy
        Whether an answer is under way.
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
        self.preview: Labels | None = None
        self.candidates: Candidates | None = None
        self.refining: Refinement | None = None
        self.selected = 0
        self.status = ""
        self.busy = False
        self.warming = False
        self._runner = runner
        self._notify = notify
        self._jobs = Jobs()
        self.ahead = Ahead(viewer, self._jobs, runner, self.tell)
        self.hover = Hover(viewer, self._jobs, runner, self)
        self.seen = Seen(self._jobs, runner)
        runner.set_idle(self._next_work)
        self._answered: Request | None = None
        self._chosen: Mask | None = None
        self._size: int | None = None
        self._downsample: float | None = None
        self._to_accept: list[tuple[int, int]] = []
        self._writing: tuple[int, int] | None = None
        self.overlap: Overlap = "keep"
        self.compose = False
        self.cleaning = Cleaning()
        self._tidied: Tidied | None = None
        self.journals = Journals(runner, notify, lambda layer, labels: self.objects.on_changed(layer, labels))
        self.objects = Objects(self, self.journals)
        self._output = Output(viewer, runner, self.insert_labels, notify, self.journals)
        self.keys = LayerKeys(self._actions(), self.changed.emit)
        self.prompts = PromptLayers(viewer, self.keys, self.refine)
        self.prompts.prompted.connect(self.request)
        self.prompts.changed.connect(self._on_tool)
        self._sign, self._is_first = CanvasSign(viewer), True
        self.changed.connect(self._show_sign)
        self._closed = False
        self._told: tuple[str, ...] = ()
        self._latest: Request | None = None
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
            "undo": self.undo,
            "redo": self.redo,
        }

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
        self.clear()
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
            self._make_preview(image)
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
        if self.candidates:
            self.selected = self._size = (self.selected + step) % len(self.candidates)
            self._chosen = self.candidates[self.selected]
            self._show()
        elif self.hover.shown is not None:
            self._size = (self._index_in(self.hover.shown) + step) % len(self.hover.shown)
            self.show_hover(self.hover.shown)

    def _index_in(self, candidates: Candidates) -> int:
        """Return which candidate to show: one of the size that the user chose for this object, else the best."""
        return candidates.best_index if self._size is None else self._size

    def refine(self, position: Any) -> None:
        """Take up the object at a position of the world: its mask is the prompt, and accept replaces it."""
        if self.image is None or self.must_wait:
            return
        try:
            plane = adapters.plane_of(self.viewer, self.image)
        except NapariSamError as error:
            self.tell(str(error))
            return
        row, col = np.asarray(self.image.world_to_data(position), float)[list(plane.axes)]
        labels = [layer for layer in self.viewer.layers if isinstance(layer, Labels) and not self._is_own(layer)]
        layers = refine.layers_to_search(labels, self.target, self.image)
        job = lambda _: refine.find_refinement(layers, plane, (float(row), float(col)))  # noqa: E731
        self.busy, self._latest = False, None  # What waits for its turn gives way to this.
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
        self.refining, self._size = found, size
        if prompts is not None and self.image is not None:
            self.prompts.put(prompts, self.image, found.plane)
        self.request()

    def after_change(self, layer: Labels, labels: Sequence[int]) -> None:
        """Let go of an object that was changed otherwise while it was to be corrected."""
        old = self.refining
        if old is not None and old.layer is layer and old.label in labels:
            self.clear()

    def _on_no_refinement(self, error: Exception) -> None:
        self.tell(_sentence(error))
        if self._has_prompts:
            self.request()
        elif self.warming:
            self._warm_up()

    def _is_own(self, layer: Labels) -> bool:
        return layer is self.preview or layer is self.ahead.coverage

    def clear(self) -> None:
        """Remove all prompts and the preview."""
        self.refining = None
        self.prompts.remove(*self.prompts.counts)
        self._forget_answer()

    def accept(self) -> None:
        """Write the shown candidate into the labels under the next free label and clear the prompts."""
        now = self.prompts.counts
        if not self.busy and self._writing is None:
            self._commit(now)
        elif now not in (*self._to_accept, self._writing):
            # The answer to come belongs to the prompts that there are now; later ones are the next object's.
            self._to_accept.append(now)

    def _commit(self, counts: tuple[int, int]) -> None:
        """Write the shown candidate and remove the first prompts (points, shapes), which it answers."""
        if self.candidates is None or self.image is None:
            self.tell("There is no mask to accept: click an object first.")
            return
        plane, mask = self.candidates.plane, self.mask_of(self.selected)
        if mask.area == 0 and self.candidates[self.selected].area:
            self.tell("The clean-up leaves nothing of this mask: ask for smaller parts, or choose another candidate.")
            return
        self._writing = counts
        self.set_status("Writing ...")
        done = lambda layer, edit: self._committed(layer, edit, mask)  # noqa: E731
        old = self.refining if self.refining is not None and self.refining.plane == plane else None
        accepted = Acceptance(
            plane,
            mask,
            self.overlap,
            done,
            self._not_committed,
            old,
            self._prompts_of(self.candidates),
            self._made(self.candidates),
            self.objects.class_name,
        )
        self._output.commit(self.image, self.target if old is None else old.layer, accepted)

    def _prompts_of(self, candidates: Candidates) -> Prompts | None:
        """Return what candidates answer."""
        if candidates.prompts is not None or self._answered is None:
            return candidates.prompts
        asked = self._answered.prompts
        box = asked.mask.box if asked.box is None and asked.mask is not None else asked.box
        return Prompts(asked.points, asked.labels.astype(bool), box, asked.mask)

    def _made(self, candidates: Candidates) -> Provenance | None:
        """Return how the shown candidate was made."""
        segmenter, mask = self._jobs.segmenter, candidates[self.selected]
        if segmenter is None:
            return None
        return provenance(segmenter.encoder, mask, candidates.name_of(mask), self._downsample)

    def _committed(self, layer: Labels, edit: Written, mask: Mask) -> None:
        """Forget what was accepted; prompts that were added since are the next object's, accepted or not."""
        if self.target is None and layer in self.viewer.layers:
            self.set_target(layer)
        counts, self._writing, self.refining = self._writing or (0, 0), None, None
        self.prompts.remove(*counts)
        rest = "" if edit.area == mask.area else f" of {mask.area}, the rest belongs to other labels"
        later = [(points - counts[0], shapes - counts[1]) for points, shapes in self._to_accept]
        self._forget_answer(f"Accepted as label {edit.label} ({edit.area} px{rest}).")
        self._to_accept = later
        if self._has_prompts:
            self.request()

    def _not_committed(self, error: Exception) -> None:
        self._writing, self._to_accept = None, []
        self.tell(_sentence(error))
        if self._has_prompts:
            self.request()  # Prompts that were added since have had no answer yet.

    def undo(self) -> None:
        """Take back the last change of an object whose Labels layer is still there."""
        if not self.objects.undo() and not self._output.undo(self._on_undone, self.tell_error):
            self.tell("There is nothing to undo: no mask was accepted, or its Labels layer is gone.")

    def redo(self) -> None:
        """Do again what was taken back last."""
        if not self.objects.redo():
            self.tell("There is nothing to redo: nothing was undone, or something else was done since.")

    def set_cleaning(self, cleaning: Cleaning) -> None:
        """Tidy masks otherwise from now on, the shown ones too."""
        self.cleaning = cleaning
        candidates, image = self.candidates, self.image
        if candidates is None or image is None or self.busy or self.must_wait:
            return
        shape = candidates.plane.shape_in(adapters.shape_of(image))

        def done(tidied: Tidied) -> None:
            if tidied.candidates is self.candidates and tidied.cleaning == self.cleaning:
                self._tidied = tidied
                self._show()

        self._runner.submit(lambda _: Tidied.of(candidates, cleaning, shape), done, self.tell_error, self.set_status)

    def mask_of(self, index: int) -> Mask:
        """Return a candidate as it would be written."""
        candidates, image = self.candidates, self.image
        assert candidates is not None
        if self.cleaning.changes_nothing or image is None:
            return candidates[index]
        known = self._tidied
        if known is None or known.candidates is not candidates or known.cleaning != self.cleaning:
            shape = candidates.plane.shape_in(adapters.shape_of(image))
            self._tidied = known = Tidied.of(candidates, self.cleaning, shape)
        return known.masks[index]

    def _on_undone(self, edit: Edit, changed: bool) -> None:
        self.set_status(f"Label {edit.label} was {'taken back' if changed else 'gone already'}.")

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
        self.insert_labels(layer)
        self.set_target(layer)
        self.set_status(f"Accepted masks go into {path}.")

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
        for layer in (*self.prompts.layers, self.preview):
            if layer is not None and layer in self.viewer.layers:
                self.viewer.layers.remove(layer)

    # -- events ----------------------------------------------------------------------------------------------------

    def _on_tool(self, event: Any = None) -> None:
        if not self.may_hover:
            self.hover.leave()
        self.changed.emit()

    def _on_plane(self, event: Any = None) -> None:
        self.ahead.moved()
        self.hover.leave()
        if self.prompts.layers:
            self._downsample = None
            self.request()

    def _on_rendering(self, event: Any = None) -> None:
        if self.ahead.progress is not None:
            self.tell("Encoding was stopped, because the image is to be seen otherwise now: start it anew.")
        self._renew()

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        self._output.forget(layer)
        if self.prompts.forget(layer):
            self.request()
        elif layer is self.preview:
            self.preview = None
        elif layer is self.ahead.coverage:
            self.ahead.coverage, self.ahead.show = None, False
        elif layer is self.target:
            self.target = None
            if self.refining is not None and self.refining.layer is layer:
                self.clear()
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
        if self._has_prompts:
            self._latest = self._answered = self._chosen = None
            self.request()
        else:
            self._warm_up()

    @property
    def must_wait(self) -> bool:
        """Whether an answer is under way that was accepted already: nothing may take its place."""
        return self._writing is not None or (self.busy and bool(self._to_accept))

    @property
    def _has_prompts(self) -> bool:
        return any(self.prompts.counts) or self.refining is not None

    # -- asking and answering --------------------------------------------------------------------------------------

    def request(self) -> None:
        """Ask for the masks of the prompts as they are now; an older answer that is still to come is dropped."""
        if self.image is None or self.must_wait:
            return
        if not self._has_prompts:
            self._forget_answer()
            return
        try:
            plane = adapters.plane_of(self.viewer, self.image)
            accepted = self._to_accept[0] if self._to_accept else None
            prompts = adapters.prompts_of(self.points, self.shapes, self.image, plane, accepted)
            old = self.refining
            if old is not None and prompts.mask is None and prompts.box is None and old.plane == plane:
                prompts = replace(prompts, mask=old.hint)
            self._tell_ignored(prompts.ignored)
            if prompts.is_empty:
                self._forget_answer(self.status if prompts.ignored else "Your prompts lie on another plane.")
                return
            if self._is_known(plane, prompts):
                return
            if self._downsample is None:
                self._downsample = adapters.downsample_of(self.viewer, self.image, plane)
            previous = self._previous(prompts)
            request = Request(self.image, self.channels, plane, prompts, previous, self._downsample, self.cleaning)
            if self._take_hover(request):
                return
            unsearched = self.target is not None and not self._output.is_searched(self.target)
            job = self._looking(self.image, self._jobs.answer(request, self.target if unsearched else None))
        except NapariSamError as error:
            self._forget_answer()
            self.tell(str(error))
            return
        self.hover.leave()
        self.busy, self.warming = True, False
        self.set_status("Segmenting ...")
        self._latest = request
        self._runner.submit(
            job,
            lambda answer: self._on_answer(request, answer),
            lambda error: self._on_error(request, error),
            self.set_status,
        )

    def _tell_ignored(self, sentences: tuple[str, ...]) -> None:
        """Say once why a prompt does not count; the others go on counting."""
        for sentence in sentences:
            if sentence not in self._told:
                self.tell(sentence)
        self._told = sentences

    def _previous(self, prompts: LayerPrompts) -> Mask | None:
        """Return the candidate that the user chose, if the prompts only go on from those that it answered."""
        if self._answered is None or self._chosen is None or not prompts.goes_on_from(self._answered.prompts):
            return None
        return self._chosen

    def _is_known(self, plane: Plane, prompts: LayerPrompts) -> bool:
        """Say whether the same was asked last: napari tells of one click by several events."""
        last = self._latest or self._answered
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
        if request is not self._latest:
            return
        candidates = answer.candidates
        self.busy = False
        if answer.target is not None and answer.target in self.viewer.layers:
            self._output.watch(answer.target, answer.highest)
        self.candidates, self._tidied = candidates, answer.clean
        self._answered = request
        self._latest = None
        self.selected = self._index_in(candidates)
        goes_on = request.previous is not None or self._size is not None
        self._chosen = candidates[self.selected] if goes_on else None
        self._show()
        self.set_status("" if candidates.best.area else "Nothing was found there: add a point or draw a box.")
        if self._to_accept:
            self._commit(self._to_accept.pop(0))
        self.seen.look_at(candidates)
        self._runner.wake()
        self.answered.emit()

    def _on_error(self, request: Request, error: Exception) -> None:
        if request is not self._latest:
            return
        self._forget_answer()
        self.tell(_sentence(error))

    def _forget_answer(self, status: str = "") -> None:
        self._latest = None
        self.busy, self._to_accept = False, []
        self.candidates = self._answered = self._chosen = self._size = None
        self._downsample = None
        if self.preview is not None:
            self.preview.visible = False
        self.set_status(status)

    # -- what lies under the cursor -----------------------------------------------------------------------------------

    @property
    def may_hover(self) -> bool:
        """Whether a click now would begin a new object: only then is there a preview under the cursor."""
        waits = self.busy or self.warming or self._writing is not None
        return self.tool == "points" and self.sign == 1 and not waits and not self._has_prompts and not self._closed

    def show_hover(self, candidates: Candidates | None) -> None:
        """Draw the mask under the cursor, fainter than an answer, or take it away."""
        if candidates is not None and self.image is not None:
            self._make_preview(self.image)
            assert self.preview is not None
            mask = candidates[self._index_in(candidates)]
            if _is_small(mask):
                mask = self.cleaning(mask, candidates.plane.shape_in(adapters.shape_of(self.image)))
            own_layers.show_hover(self.preview, self.image, candidates.plane, mask)
        elif self.preview is not None and self.candidates is None:
            self.preview.visible = False

    def _take_hover(self, request: Request) -> bool:
        """Make the mask under the cursor the answer to a click there; say whether there is one."""
        prompts = request.prompts
        alone = len(prompts.points) == 1 and prompts.labels[0] == 1 and prompts.box is None and prompts.mask is None
        if not alone or (self.target is not None and not self._output.is_searched(self.target)):
            return False
        (row, col) = prompts.points[0]
        found = self.hover.take(Spot(request.plane, (float(row), float(col)), request.downsample))
        if found is None or not (self.cleaning.changes_nothing or _is_small(found[-1])):
            return False
        self._latest = request
        self._on_answer(request, Answer(found))
        self._chosen = found[self.selected]
        return True

    def _next_work(self) -> Work | None:
        """Return what can be done while nobody waits: first what lies under the cursor, last what is encoded ahead."""
        return self.hover.next_work() or self.journals.next_work() or self.seen.next_work() or self.ahead.next_work()

    def _show_sign(self) -> None:
        """Say on the canvas what the next click will mean."""
        self._is_first = self._is_first and not self._has_prompts
        refined = None if self.refining is None else self.refining.label
        self._sign.show(sign_for(self.tool, self.sign, self._is_first, refined))

    # -- layers ----------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Draw the selected candidate into the preview layer."""
        if self.image is not None and self.candidates is not None:
            self._make_preview(self.image)
            assert self.preview is not None
            own_layers.show_mask(self.preview, self.image, self.candidates.plane, self.mask_of(self.selected))
        self.changed.emit()

    def _make_preview(self, image: Image) -> None:
        """Add the preview's layer where there is none: early, because napari works on a new layer for a while."""
        if self.preview is None:
            self.preview = own_layers.make_preview(image)
            own_layers.insert_below(self.viewer, self.preview, self.points, self.shapes)

    def insert_labels(self, layer: Labels) -> None:
        """Add a layer under the prompts and the preview."""
        own_layers.insert_below(self.viewer, layer, self.preview, self.points, self.shapes)

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


def _is_small(mask: Mask) -> bool:
    return math.prod(mask.box.pixel_shape) <= MOST_AT_ONCE


def _sentence(error: Exception) -> str:
    if isinstance(error, NapariSamError):
        return str(error)
    return f"Something went wrong that should not ({type(error).__name__}: {error}): please report it."
