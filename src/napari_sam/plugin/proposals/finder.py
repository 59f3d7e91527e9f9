"""ProposalFinder: the task All: search, filter, look through and accept all objects."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from psygnal import Signal

from napari_sam.errors import NapariSamError
from napari_sam.plugin.inference.jobs import planes_like
from napari_sam.plugin.inference.region import Within, draw_region, limit_of
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.proposals.acceptance import ProposalCommit
from napari_sam.plugin.proposals.drawing import ProposalDrawing
from napari_sam.plugin.proposals.examples import Examples
from napari_sam.plugin.proposals.review import ReviewCamera
from napari_sam.plugin.proposals.search import Place, ProposalSearch
from napari_sam.plugin.proposals.selection import ProposalSelection
from napari_sam.plugin.proposals.wanted import WantedObjects
from napari_sam.plugin.view import world
from napari_sam.plugin.workers.runner import apart
from napari_sam.tasks.everything import runs_of_planes

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Image, Labels

    from napari_sam.everything.options import FilterOptions
    from napari_sam.plugin.inference.jobs import Jobs
    from napari_sam.plugin.layers.preview import PreviewLayers
    from napari_sam.plugin.objects.label_layers import LabelLayers
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.proposals.found_planes import FoundPlanes
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Runner, Work

Where = Literal["view", "plane", "volume"]


class ProposalFinder:
    """Finds objects, and writes those that the user keeps.

    Parameters
    ----------
    session
        The image, the view and the output.
    runner
        Searches while it is idle.
    jobs
        Makes the segmenter.
    label_layers, objects
        The output, and its objects.
    previews
        The layers above the proposals.

    Attributes
    ----------
    changed
        Emitted when anything here changed.
    where, within
        Where the next search looks: in what part of the image, and inside what of it.
    wanted
        What the next search looks for.
    selection, search, drawing, examples
        The proposals, the search for them, their layer, and shapes that show how large they are.
    decisions
        What the user decided about single proposals, with undo.
    is_accepting
        Whether proposals are being written.
    accepted_count
        How many objects the last search led to, once they were accepted.
    is_long
        Whether the last search was of more than the view.
    """

    changed = Signal()

    def __init__(
        self,
        session: Session,
        runner: Runner,
        jobs: Jobs,
        label_layers: LabelLayers,
        objects: Objects,
        previews: PreviewLayers,
    ) -> None:
        self.where: Where = "view"
        self.within: Within = "everywhere"
        self.is_accepting = self.is_long = False
        self.accepted_count = 0
        self._session, self._jobs = session, jobs
        self._label_layers, self._objects = label_layers, objects
        self.selection = ProposalSelection(session.tick, apart(runner), session.notify_error)
        self.decisions = self.selection.decisions
        self.search = ProposalSearch(runner, session.notify_error, session.set_status)
        self.wanted = WantedObjects(session, jobs, objects, self.selection, self.search)
        self.drawing = ProposalDrawing(session, self.selection, previews, self._on_click, self._color_of)
        self.examples = Examples(session)
        self._camera = ReviewCamera(session, objects)
        self.search.found.connect(self._on_found)
        self.search.ranked.connect(self._on_ranked)
        self.search.changed.connect(self.changed.emit)
        self.wanted.changed.connect(self.changed.emit)
        self.wanted.search_wanted.connect(self.find)
        self.selection.changed.connect(self._on_selection)
        self.decisions.stepped.connect(self._on_stepped)
        session.task_changed.connect(self._on_task)
        session.image_changed.connect(self._on_image)
        session.viewer.layers.selection.events.active.connect(self._on_active)

    @property
    def actions(self) -> dict[str, Callable[[], None]]:
        """The function of each key in the layer of proposals, by its name in the preferences."""
        return {
            "accept_found": self.accept,
            "next_doubtful": self.next_doubtful,
            "keep_found": lambda: self.judge(True),
            "remove_found": lambda: self.judge(False),
            "other_class": self.selection.choose_class,
            "find_similar": self.wanted.find_similar_to_pointed,
            "leave_found": self.leave,
        }

    # -- searching -----------------------------------------------------------------------------------------------------

    def set_where(self, where: Where) -> None:
        """Look in another part of the image the next time."""
        self.where = where
        self.changed.emit()

    def set_within(self, within: Within) -> None:
        """Look elsewhere the next time; inside what is drawn, let the user draw it where nothing is drawn yet."""
        self.within = within
        if within == "drawn":
            draw_region(self._session)
        self.changed.emit()

    @property
    def has_many_planes(self) -> bool:
        """Whether there is a volume to search; it can be searched from a plane in view only."""
        plane, image = self._session.plane, self._session.image
        if plane is None or image is None:
            return image is not None and image.ndim > 2
        return len(planes_like(plane, adapters.shape_of(image))) > 1

    def find(self) -> None:
        """Search; what was proposed before is dropped, what was accepted stays."""
        session, image = self._session, self._session.image
        if image is None:
            session.notify("There is no image: open one, or choose an image layer.")
            return
        self.wanted.learn()
        try:
            place = self._place(image)
            build = self._jobs.builder(image, session.channels)
        except NapariSamError as error:
            session.notify(str(error))
            return
        session.set_task("all")
        self._camera.forget()
        self.examples.remove()
        self.selection.clear()
        self.drawing.activate()
        self.is_long, self.accepted_count = self.where != "view", 0
        session.set_status("")
        self.search.start(build, place)

    def cancel(self) -> None:
        """Stop a search; what was found stays."""
        self.search.cancel()

    def next_work(self) -> Work | None:
        """Return the next step of the search, or None."""
        return self.search.next_work()

    # -- choosing ------------------------------------------------------------------------------------------------------

    def filter(self, options: FilterOptions) -> None:
        """Filter the proposals in another way; asks no model."""
        self.selection.filter(options)

    def next_doubtful(self) -> None:
        """Go to the least certain proposal that was not judged yet."""
        self._go_to(self.selection.next_doubtful())

    def judge(self, keep: bool) -> None:
        """Keep or remove the proposal that is looked at, and go to the next one."""
        self._go_to(self.selection.judge(keep))

    def leave(self) -> None:
        """Leave the review, for the view before it, or else the task; proposals and accepted objects stay."""
        self._camera.restore()
        if not self.selection.leave_review():
            self._session.set_task("one")

    def discard(self) -> None:
        """Drop all proposals."""
        self._camera.restore()
        self.accepted_count = 0
        self.search.drop()
        self.wanted.learn()
        self.selection.clear()

    def accept(self) -> None:
        """Write all kept proposals into the output, by one step of undo."""
        session, image, selection = self._session, self._session.image, self.selection
        selection.settle()
        found, numbers = selection.found, selection.kept
        if image is None or found is None or not len(numbers):
            session.notify("There is no proposal to accept: find objects first, or loosen the filters.")
            return
        if self.is_accepting or session.must_wait:
            session.notify("Other objects are still being written: accept once they are.")
            return
        self.search.drop()
        segmenter = self._jobs.segmenter_of(image)
        made, at = None if segmenter is None else segmenter.encoder.provenance_of_found(), session.tick()
        runs = runs_of_planes(adapters.shown([image]).volume, found.planes)
        self.is_accepting = True
        session.set_status("Writing ...")
        commit = ProposalCommit(
            found,
            numbers,
            runs,
            session.overlap,
            session.class_name,
            made,
            lambda layer, count, parts: self._on_written(layer, count, len(numbers) - parts, at),
            self._on_not_written,
        )
        self._label_layers.commit(image, session.target, commit)

    # -- following the viewer ------------------------------------------------------------------------------------------

    def _on_task(self) -> None:
        if self._session.task == "all":
            self.drawing.activate()
        self.drawing.draw()

    def _on_active(self, event: Any = None) -> None:
        """Choose the task when the user takes up its layer."""
        if self.drawing.layer is not None and event.value is self.drawing.layer:
            self._session.set_task("all")

    def _on_image(self) -> None:
        """Drop everything, because another image was chosen."""
        self._camera.forget()
        if not self.has_many_planes and self.where == "volume":
            self.where = "plane"
        self.discard()
        self.wanted.leave_image()
        self.examples.remove()
        self.drawing.remove()

    def close(self) -> None:
        """Stop, and take the layer away."""
        self._session.viewer.layers.selection.events.active.disconnect(self._on_active)
        self.search.drop()
        self.examples.remove()
        self.drawing.remove()

    @property
    def hint(self) -> str:
        """What a click on the canvas does now."""
        if self.selection.found is None or not len(self.selection.found):
            return ""
        active = self._session.viewer.layers.selection.active
        if active is not self.drawing.layer:
            return "" if active is not None and own_layers.is_helper(active) else "Press All to click outlines"
        return "Click an outline to remove it, a missed object to add it"

    def _place(self, image: Image) -> Place:
        """Return where the next search looks; what was drawn long ago may lie outside the view."""
        session = self._session
        plane = adapters.plane_of(session.viewer, image)
        options = self.selection.options
        sizes = None if options.sizes == type(options)().sizes else options.sizes
        limit = limit_of(self.within, session, image, plane)
        planes = planes_like(plane, adapters.shape_of(image)) if self.where == "volume" else [plane]
        view = adapters.view_of(session.viewer, image, plane)
        box, first = (view, None) if self.where == "view" else (None, view)
        wanted = self.wanted.maker()
        place = Place(planes, box, limit, None if wanted is not None else sizes, wanted, first=first)
        finder = self.wanted.word_finder if self.wanted.like == "words" else None
        return place if finder is None else replace(place, words=self.wanted.words, detector=finder.detector)

    def _on_found(self, found: FoundPlanes) -> None:
        if self.selection.found is None:
            self.wanted.adjust(found)
        self.selection.update(found)

    def _on_ranked(self, found: FoundPlanes) -> None:
        self._camera.restore()
        self.wanted.adjust(found)
        self.selection.rank(found)

    def _on_selection(self) -> None:
        self.drawing.draw()
        self.changed.emit()

    def _color_of(self, name: str) -> str | None:
        """Return the color of a class of the output."""
        classes = [] if self._objects.journal is None else self._objects.journal.classes
        found = next((kind for kind in classes if kind.name == name), None)
        return None if found is None else "#" + "".join(f"{round(255 * value):02x}" for value in found.color)

    def _on_stepped(self, number: int) -> None:
        if self.selection.reviewed == number:
            self._go_to(number)

    def _on_click(self, position: Any) -> None:
        session, plane, image = self._session, self._session.plane, self._session.image
        if self.selection.found is None or image is None or plane is None:
            return
        if self.selection.found.on(plane) is None:
            session.set_status("This plane was not searched: find objects here first.")
            return
        at = world.to_data(session.viewer, image, position)[list(plane.axes)]
        number = self.selection.at(plane, float(at[0]), float(at[1]))
        if number is None:
            session.set_status("Nothing was found here: click it in the task One.")
        else:
            session.set_status("")
            self.selection.toggle(number)

    def _go_to(self, number: int | None) -> None:
        found = self.selection.found
        if number is None or found is None:
            self._camera.restore()
            self._session.set_status("All were judged: accept them." if found is not None else "")
            return
        self._session.set_status("")
        self._camera.look_at(*found.place_of(number))

    def _on_written(self, layer: Labels, count: int, left: int, at: int) -> None:
        session = self._session
        self.is_accepting = False
        if session.target is None and layer in session.viewer.layers:
            session.set_target(layer)
        self._objects.note_commit(layer, at)
        self._camera.forget()
        self.wanted.learn()
        self.accepted_count = count
        self.selection.clear()
        covered = f" {left} lie under other objects." if left > 0 else ""
        session.set_status(f"{count} object{'s' if count != 1 else ''} accepted.{covered}")

    def _on_not_written(self, error: Exception) -> None:
        self.is_accepting = False
        self._session.notify_error(error)
        self.changed.emit()
