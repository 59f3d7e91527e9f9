"""Coordinate one viewer's annotation session. Depends on napari models but not on widgets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from napari.layers import Labels

from napari_sam.former_names import member_of_controller
from napari_sam.plugin.annotation.commits import CommitQueue
from napari_sam.plugin.annotation.editing import DraftEditor
from napari_sam.plugin.annotation.hints import DraftHints
from napari_sam.plugin.annotation.preview import DraftPreview
from napari_sam.plugin.annotation.prompt_history import PromptHistory
from napari_sam.plugin.annotation.undo import UndoStack
from napari_sam.plugin.annotation.view_follower import ViewFollower
from napari_sam.plugin.exports.exporter import Exporter
from napari_sam.plugin.inference.encoder_view import EncoderView
from napari_sam.plugin.inference.hover_preview import HoverPreview
from napari_sam.plugin.inference.hover_search import Hover
from napari_sam.plugin.inference.jobs import Jobs
from napari_sam.plugin.inference.prefetch import Prefetcher
from napari_sam.plugin.inference.requests import PredictionRequests
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.layers.preview import PreviewLayers
from napari_sam.plugin.objects.action_times import ActionTimes
from napari_sam.plugin.objects.class_view import ClassView
from napari_sam.plugin.objects.journals import Journals
from napari_sam.plugin.objects.label_layers import LabelLayers
from napari_sam.plugin.objects.object_list import Objects
from napari_sam.plugin.prompts.keys import LayerKeys
from napari_sam.plugin.prompts.layers import PromptLayers
from napari_sam.plugin.propagation.through_planes import ThroughPlanes
from napari_sam.plugin.proposals.finder import ProposalFinder
from napari_sam.plugin.session import Session, Task
from napari_sam.plugin.teaching.teacher import Teacher
from napari_sam.plugin.workers.runner import Work

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_sam.plugin.workers.runner import Runner


class Controller:
    """Builds the parts of the plugin for one viewer and connects their signals; no part knows this class.

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
    session
        The state that the parts share.
    prompts, keys
        The layers of prompts, and their key bindings.
    jobs, hover, prefetcher, requests, encoder_view
        Inference: what the model is asked, and when.
    journals, label_layers, objects, class_view, exporter
        Accepted objects: where they are written, listed, shown and exported.
    preview, commits, editing, undo
        Annotation: from prompts to accepted objects.
    finder, through_planes, teacher
        All objects at once; objects followed from plane to plane; a model that learns from the objects.
    """

    def __init__(self, viewer: ViewerModel, runner: Runner, notify: Callable[[str], None]) -> None:
        self.viewer, self.runner = viewer, runner
        self.prompts = PromptLayers(viewer)
        self.session = session = Session(viewer, self.prompts, notify)
        layers = PreviewLayers(viewer, lambda: [*self.finder.drawing.layers, *self.prompts.layers])
        self.journals = Journals(runner, notify, lambda layer, labels: self.objects.on_changed(layer, labels))
        self.label_layers = LabelLayers(viewer, runner, self._add_output, notify, self.journals)
        self.objects = Objects(session, runner, self.journals, ActionTimes(session), layers)
        self.class_view = ClassView(session, runner, self.objects)
        self.exporter = Exporter(session, runner, self.objects)
        self.jobs = Jobs(session)
        self.prefetcher, self.encoder_view = Prefetcher(session, self.jobs, runner), EncoderView(self.jobs)
        self.hover = Hover(viewer, self.jobs, runner, hover_preview := HoverPreview(session, layers))
        self.requests = PredictionRequests(session, runner, self.jobs, self.hover, self.prefetcher, self.label_layers)
        self.preview = DraftPreview(session, layers, self.hover, hover_preview)
        self.commits = CommitQueue(session, self.requests, self.label_layers, self.objects, self.preview)
        history = PromptHistory(session)
        self.editing = DraftEditor(session, runner, self.requests, self.objects, self.preview, history)
        self.finder = ProposalFinder(session, runner, self.jobs, self.label_layers, self.objects, layers)
        self.undo = UndoStack(session, history, self.editing, self.commits, self.objects, self.finder.decisions)
        self.through_planes = ThroughPlanes(session, runner, self.jobs, self.label_layers, self.objects)
        self.teacher = Teacher(session, runner, self.objects)
        self.keys = LayerKeys(self._actions(), session.changed.emit)
        self._hints = DraftHints(session, lambda: (self.finder if session.task == "all" else self.through_planes).hint)
        self._view = ViewFollower(session, self.hover, self.prefetcher, self.encoder_view, self.requests, self.preview)
        self._connect(history)

    def __getattr__(self, name: str) -> Any:
        return member_of_controller(self, name)

    def _actions(self) -> dict[str, Callable[[], None]]:
        """Return the function of each key, by its name in the preferences."""
        actions: dict[str, Callable[[], None]] = {
            "accept": self.commits.accept,
            "clear": self.editing.clear,
            "next_candidate": self.editing.cycle,
            "previous_candidate": lambda: self.editing.cycle(-1),
            "cycle_candidates": self.editing.cycle,
            "flip_sign": self.prompts.toggle_sign,
            "same_object": lambda: self.session.set_same_object(not self.session.continued.is_on),
            "new_object": self.editing.new_object,
            "next_object": self.editing.next_object,
            "accept_all": self.commits.accept_all,
            "undo": self.undo.undo,
            "redo": self.undo.redo,
            **{f"task_{task}": partial(self.session.set_task, task) for task in get_args(Task)},
            **self.finder.actions,
        }
        return actions | self.through_planes.actions(actions)

    def _connect(self, history: PromptHistory) -> None:
        session, prompts, requests = self.session, self.prompts, self.requests
        session.image_changed.connect(self._on_image)
        session.target_changed.connect(self._on_target)
        session.task_changed.connect(self.editing.on_task)
        session.encoder_changed.connect(self._view.on_encoder)
        prompts.layer_added.connect(self.keys.bind)
        prompts.layer_removed.connect(self.keys.forget)
        self.finder.drawing.layer_added.connect(lambda layer: self.keys.bind(layer, "proposals"))
        self.finder.drawing.layer_removed.connect(self.keys.forget)
        prompts.changed.connect(self._view.on_tool)
        prompts.prompted.connect(self.through_planes.corrections.take_up)
        prompts.prompted.connect(self.editing.follow_prompts)
        prompts.selected.connect(self.editing.switch_to_number)
        prompts.picked.connect(self.editing.pick)
        requests.asked.connect(self.preview.show_asked)
        for follow in (self.preview.show_answered, self.commits.on_answered, self.encoder_view.show_answered):
            requests.answered.connect(follow)
        requests.unanswered.connect(self.commits.on_unanswered)
        requests.cleared.connect(self.preview.layers.hide)
        requests.cleaned.connect(self.preview.show)
        requests.warmed.connect(self.prefetcher.rested)
        self._view.renewed.connect(self.objects.look_for_work)
        self.prefetcher.encoded.connect(self.hover.look_again)
        self.commits.written.connect(history.forget)
        self.commits.drained.connect(self.undo.catch_up)
        self.objects.modified.connect(self.editing.discard_outdated)
        for part in (self.finder, self.through_planes):
            part.changed.connect(self._hints.show)
            self._view.outdated.connect(part.cancel)
        self._view.moved.connect(self.finder.drawing.draw)
        self._view.placed.connect(self.finder.drawing.follow)
        self.viewer.layers.events.removed.connect(self._on_removed)
        self.runner.set_idle(self._next_work)

    def abandon(self) -> None:
        """Finish what was accepted and close the journals, after the viewer itself is gone."""
        if not self.session.is_closed:
            self.session.is_closed = True
            for signal in (self.session.changed, self.session.answered):
                signal.disconnect()  # The widgets are gone, too.
            self._stop()

    def close(self) -> None:
        """Detach from the viewer: labels stay, the layers of prompts and previews go; a second call does nothing."""
        if self.session.is_closed:
            return
        self.session.is_closed = True
        self._hints.close()
        self.prefetcher.close()
        self._stop()
        for part in (self.finder, self.through_planes):
            part.close()
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.prompts.close()
        self._view.close()
        self.session.image = None
        self._remove_layers()

    def _stop(self) -> None:
        for part in (self.teacher, self.keys, self.hover, self.runner, self.label_layers):
            part.close()

    def _remove_layers(self) -> None:
        for layer in {*self.prompts.layers, *self.preview.layers.existing} & {*self.viewer.layers}:
            self.viewer.layers.remove(layer)

    def _add_output(self, layer: Labels) -> None:
        """Add a layer that was made for accepted masks; it stays the output even if the first mask is refused."""
        self.preview.layers.insert(layer)
        if self.session.target is None:
            self.session.set_target(layer)

    def _on_image(self) -> None:
        """Drop the prompts of the last image, whose labels stay, and prepare the new one."""
        session, image = self.session, self.session.image
        self._view.follow(None)
        self.hover.leave()
        self.encoder_view.forget()
        self.editing.discard_all()
        self.undo.forget_due()
        self.prefetcher.cancel()
        self.prefetcher.rested()
        self._view.follow(image)
        self._remove_layers()
        session.set_status("")
        if image is not None:
            if session.target is not None and not labels_layer.fits(session.target, image):
                session.target = None
            self.editing.activate("points")
            self.preview.layers.prepare(image)
            session.warn_of_slow_reading()
            self.objects.look_for_work()
            self.requests.warm_up()
        self.objects.follow()

    def _on_target(self) -> None:
        target, image = self.session.target, self.session.image
        if target is not None:
            self.label_layers.watch(target)
            if image is not None:
                self.label_layers.prepare(target, image)
        self.objects.follow()

    def _on_removed(self, event: Any) -> None:
        layer, session = event.value, self.session
        self.label_layers.forget(layer)
        self.objects.forget_gone()
        if self.prompts.forget(layer):
            self.editing.follow_prompts()
        elif layer is session.image:
            session.set_image(None)
        else:
            if layer is session.target:
                session.target = None
            self.preview.layers.forget(layer)
            self.finder.drawing.forget(layer)
            self.prefetcher.forget(layer)
            self.editing.discard_replacements(layer)
        self.objects.follow()

    def _next_work(self) -> Work | None:
        """Return the next job for an idle runner: the mask under the cursor first, encoding ahead last."""
        parts = (self.hover, self.journals, self.encoder_view, self.finder, self.through_planes, self.prefetcher)
        return next((work for part in parts if (work := part.next_work()) is not None), None)
