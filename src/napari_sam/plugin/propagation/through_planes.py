"""ThroughPlanes: the task Through planes: follow objects, look through the doubtful planes, accept and correct them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sam.errors import NapariSamError
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.propagation.acceptance import PlaneAcceptance
from napari_sam.plugin.propagation.corrections import PlaneCorrections
from napari_sam.plugin.propagation.following import Following, Route
from napari_sam.plugin.propagation.plane_choice import PlaneChoice
from napari_sam.plugin.propagation.tracks import ObjectTracks
from napari_sam.plugin.propagation.volume_view import VolumeView
from napari_sam.plugin.view import world

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.layers import Labels

    from napari_sam.core.geometry import Plane
    from napari_sam.plugin.inference.jobs import Jobs
    from napari_sam.plugin.objects.label_layers import LabelLayers
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.propagation.object_planes import PlaneState
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Runner, Work

ACCEPT_FIRST = "Click an object and accept it first."
UNSAVED = "Accept the correction, or clear it, before you go to another plane."


class ThroughPlanes:
    """Follows the chosen objects, and changes what is accepted of them plane by plane.

    Parameters
    ----------
    session
        The image, the view and the output.
    runner
        Follows objects while it is idle.
    jobs
        Makes the segmenter.
    label_layers, objects
        The output and its objects.

    Attributes
    ----------
    changed
        Emitted when anything here changed.
    choice
        The objects, the axis and the planes.
    following
        The run that is under way.
    corrections
        Lets clicks correct the followed object.
    volume_view, tracks
        The result in 3-D, and as tracks through time.
    """

    changed = Signal()

    def __init__(
        self, session: Session, runner: Runner, jobs: Jobs, label_layers: LabelLayers, objects: Objects
    ) -> None:
        self._session, self._jobs = session, jobs
        self._label_layers, self._objects = label_layers, objects
        self.choice = PlaneChoice(session, objects)
        self.following = Following(session, runner, label_layers, objects)
        self.corrections = PlaneCorrections(session, objects, self.choice)
        self.volume_view = VolumeView(session, objects)
        self.tracks = ObjectTracks(session, runner, objects, self.choice)
        # The planes of the object that `next_doubtful` led to since they were propagated.
        self._seen: set[int] = set()
        self._label = 0
        self.choice.changed.connect(self._on_choice)
        self.following.changed.connect(self.changed.emit)
        self.volume_view.changed.connect(self.changed.emit)
        self.following.ended.connect(self._on_ended)
        session.image_changed.connect(self._on_image)
        session.viewer.dims.events.current_step.connect(self._on_plane)

    def actions(self, others: Mapping[str, Callable[[], None]]) -> dict[str, Callable[[], None]]:
        """Return the functions of the keys that do something else in this task, by their names in the preferences.

        Parameters
        ----------
        others
            What the keys do in the task One.
        """

        def accept() -> None:
            if not self.accept():
                others["accept"]()

        def next_candidate() -> None:
            if self._session.task == "planes" and self._session.current.is_as_accepted:
                others["clear"]()  # It was only looked at.
            if not self.next_doubtful():
                others["next_candidate"]()

        def undo() -> None:
            self.cancel()  # Or planes would be written that the undo no longer takes back.
            others["undo"]()

        return {"follow": self.follow, "accept": accept, "next_candidate": next_candidate, "undo": undo}

    def close(self) -> None:
        """Stop, and show planes again."""
        self._session.viewer.dims.events.current_step.disconnect(self._on_plane)
        self.following.drop()
        self.volume_view.close()
        self.choice.close()

    # -- following -----------------------------------------------------------------------------------------------------

    @property
    def why_not(self) -> str:
        """Why objects cannot be followed now; empty where they can."""
        session, choice = self._session, self.choice
        if session.image is None:
            return "There is no image yet: open one first."
        if session.image.ndim == 2 or (session.plane is not None and not choice.axes):
            return "This image has one plane."
        if not choice.labels:
            return ACCEPT_FIRST
        if choice.axis is None:
            return "The object lies across the axis: choose another one."
        return "Objects are being followed." if self.following.is_running else ""

    def follow(self) -> None:
        """Follow the chosen objects both ways, from their accepted planes."""
        session, journal, choice = self._session, self._objects.journal, self.choice
        why_not, axis, planes = self.why_not, choice.axis, choice.planes
        if why_not or journal is None or session.image is None or axis is None or planes is None:
            session.notify(why_not or ACCEPT_FIRST)
            return
        if session.must_wait:
            session.notify("An object is being written: follow it once it is.")
            return
        try:
            build = self._jobs.builder(session.image, session.channels)
        except NapariSamError as error:
            session.notify(str(error))
            return
        session.set_task("planes")
        self._seen.clear()
        session.set_status("")
        route = Route(tuple(choice.labels), axis.number, planes, session.overlap)
        self.following.start(build, session.image, journal.layer, route)

    def cancel(self) -> None:
        """Stop following; what was written stays."""
        self.following.cancel()

    def next_work(self) -> Work | None:
        """Return the next step of the run, or None."""
        return self.following.next_work()

    # -- looking through -----------------------------------------------------------------------------------------------

    def go_to(self, at: int) -> None:
        """Show a plane of the object."""
        session, shown = self._session, self.choice.object
        if shown is None or session.image is None:
            return
        plane, state = shown.stack.at(at), shown.states.get(at)
        self.volume_view.leave()
        if session.plane is None or session.plane.axes != plane.axes:
            self._objects.look_at(plane, _largest(shown.states.values()) if state is None else state.box)
            return
        self._step_to(plane)
        if state is not None and not adapters.view_of(session.viewer, session.image, plane).contains(state.box):
            self._objects.look_at(plane, state.box)

    def next_doubtful(self) -> bool:
        """Go to the plane that counts most and was not looked at; return whether this task is chosen at all."""
        session, shown = self._session, self.choice.object
        if session.task != "planes":
            return False
        if shown is None or not shown.propagated:
            session.notify("No plane was propagated yet: follow the object first.")
            return True
        if session.is_begun:
            session.notify(UNSAVED)
            return True
        if shown.label != self._label:
            self._label, self._seen = shown.label, set()
        state = shown.next_doubtful(self._seen)
        if state is not None:
            if state.at in self._seen:  # All were looked at: begin again.
                self._seen.clear()
            self._seen.add(state.at)
            self.go_to(state.at)
            session.set_status(f"Plane {state.at}: confidence {state.confidence:.2f}.")
        return True

    # -- accepting -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> PlaneState | None:
        """The first of the objects in the plane in view, or None where it has no mask there."""
        shown, at = self.choice.object, self.choice.at
        return None if shown is None or at is None else shown.states.get(at)

    def accept(self) -> bool:
        """Accept the plane in view as it is; return whether there was no draft to accept instead."""
        session = self._session
        if session.task != "planes" or session.is_begun or session.must_wait:
            return False
        if self.choice.object is None:
            return False
        if self.state is None:
            session.notify("The object has no mask in this plane: click it to add one.")
        else:
            self._set_accepted(True)
        return True

    def unlock(self) -> None:
        """Let the next propagation change the plane in view."""
        shown = self.choice.object
        if shown is not None and sum(state.is_accepted for state in shown.states.values()) < 2:
            self._session.notify("This is the only accepted plane: accept another one before you unlock it.")
            return
        self._set_accepted(False)

    @property
    def why_not_remove(self) -> str:
        """Why the object cannot be taken out of the plane in view; empty where it can."""
        shown, state = self.choice.object, self.state
        if shown is None or state is None:
            return self.why_not or "The object has no mask in this plane."
        if not any(other.is_accepted for other in shown.states.values() if other is not state):
            return "This is the only accepted plane: accept another one first, or delete the object."
        return ""

    def remove(self) -> None:
        """Take the object out of the plane in view, and out of the propagated planes behind it where it ends there.

        The planes that objects are followed through end before it, too.
        """
        session, shown, journal, at = self._session, self.choice.object, self._objects.journal, self.choice.at
        planes = self.choice.planes
        if self.why_not_remove or shown is None or journal is None or at is None or planes is None:
            session.notify(self.why_not_remove)
            return
        gone, others = shown.behind(at), [state.at for state in shown.states.values() if state.is_accepted]
        first, last = planes
        if max(others) <= at:
            last = max(at - 1, first)
        elif min(others) >= at:
            first = min(at + 1, last)
        removed = [shown.stack.at(each) for each in gone]

        def done(_: object) -> None:
            self._objects.modified.emit(journal.layer, [shown.label])
            count = len(removed)
            session.set_status(f"Label {shown.label} was removed from {count} plane{'s' if count > 1 else ''}.")

        self.choice.choose_planes(first, last)
        area = self._objects.area_of(journal, [shown.label])
        self._objects.act(journal, area, lambda log: [log.remove_parts(shown.label, removed)], done)

    def _set_accepted(self, is_accepted: bool) -> None:
        session, journal, at = self._session, self._objects.journal, self.choice.at
        if journal is None or at is None or session.image is None:
            return
        planes, area = {}, 0
        for label in self.choice.labels:
            found = self.choice.planes_of(label)
            state = None if found is None else found.states.get(at)
            if found is not None and state is not None and state.is_accepted != is_accepted:
                planes[label] = found.stack.at(at)
                area += int(np.prod(state.box.pixel_shape))
        if not planes:
            session.set_status(f"Plane {at} is {'accepted' if is_accepted else 'not accepted'} already.")
            return
        tick, what = session.tick(), "accepted: it stays as it is" if is_accepted else "not accepted any more"

        def done(layer: Labels) -> None:
            self._objects.note_commit(layer, tick)
            session.set_status(f"Plane {at} is {what}.")

        commit = PlaneAcceptance(planes, is_accepted, area, done, session.notify_error)
        self._label_layers.commit(session.image, journal.layer, commit)

    # -- following the viewer ------------------------------------------------------------------------------------------

    @property
    def hint(self) -> str:
        """What can be done next in this task; empty where a click is next, as in the task One."""
        shown = self.choice.object
        if self.volume_view.is_on:
            return "Drag to turn the objects"
        if self._session.is_begun or shown is None or not shown.propagated:
            return ""
        count, total = len(shown.doubtful), len(shown.states)
        if count == 0:
            return f"None of {total} planes is doubtful: N shows the one that counts most"
        are = "plane is" if total == 1 else f"planes {'is' if count == 1 else 'are'}"
        return f"{count} of {total} {are} doubtful: N jumps to the next"

    def _step_to(self, plane: Plane) -> None:
        """Show another plane of the same axes, and leave the camera alone."""
        viewer, image = self._session.viewer, self._session.image
        assert image is not None
        offset = viewer.dims.ndim - image.ndim
        point = world.to_world(viewer, image, np.array(plane.index, float))
        hidden = [axis for axis in range(image.ndim) if axis not in plane.axes]
        viewer.dims.set_point([axis + offset for axis in hidden], [float(point[axis]) for axis in hidden])

    def _on_ended(self, route: Route, written: set[int], is_done: bool) -> None:
        session, count = self._session, len(written)
        who = "The object was" if len(route.labels) == 1 else f"{len(route.labels)} objects were"
        if count == 0:
            text = "Nothing was found in other planes." if is_done else "Stopped before the first plane."
        else:
            text = f"{who} followed through {count} plane{'s' if count > 1 else ''}."
            text = text if is_done else f"Stopped. {text}"
        session.set_status(text)
        self.changed.emit()

    def _on_choice(self) -> None:
        self.changed.emit()

    def _on_plane(self, event: Any = None) -> None:
        if self._session.task == "planes":
            self.changed.emit()

    def _on_image(self) -> None:
        self.following.drop()
        self.volume_view.leave()
        self._seen.clear()
        self.choice.reset()


def _largest(states: Any) -> Any:
    return max(states, key=lambda state: state.area).box
