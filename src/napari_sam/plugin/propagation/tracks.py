"""ObjectTracks: objects that were followed through time, as a Tracks layer, with divisions that the user names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Tracks
from numpy.typing import NDArray

from napari_sam.errors import LabelsError
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.workers.runner import Work, apart

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_sam.journal.journal import Journal
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.objects.open_journal import OpenJournal
    from napari_sam.plugin.propagation.plane_choice import PlaneChoice
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Runner

NAME = "SAM tracks"


class ObjectTracks:
    """Makes and updates the layer of tracks.

    Divisions are in the journal, where exports find them, and in the graph of the Tracks layer.

    Parameters
    ----------
    session
        The image and the viewer.
    runner
        Measures the objects.
    objects
        The objects of the output.
    choice
        The axis of time.
    """

    def __init__(self, session: Session, runner: Runner, objects: Objects, choice: PlaneChoice) -> None:
        self._session, self._runner, self._objects, self._choice = session, runner, objects, choice
        self._layers: WeakKeyDictionary[Labels, Tracks] = WeakKeyDictionary()

    @property
    def why_not(self) -> str:
        """Why there can be no tracks now; empty where there can."""
        axis = self._choice.axis
        if not self._choice.labels:
            return "There is no object yet: click one and accept it first."
        if axis is None or not axis.is_time:
            return "Tracks need an axis of time, t."
        return "" if axis.number == 0 else "Tracks need time as the first axis of the image."

    def show(self) -> None:
        """Show all objects of the output as tracks."""
        journal, image, axis = self._objects.journal, self._session.image, self._choice.axis
        if self.why_not or journal is None or image is None or axis is None:
            self._session.notify(self.why_not)
            return
        shape, log, time = adapters.shape_of(image), journal.journal, axis.number

        def done(tracks: ObjectTrackData) -> None:
            self._show(journal, image, tracks)

        apart(self._runner)(Work(lambda _: track_data(log, shape, time), done, self._session.notify_error))

    def divide(self, labels: Sequence[int]) -> None:
        """Make the object that begins first the parent of the two others.

        Parameters
        ----------
        labels
            Three objects.
        """
        journal, axis = self._objects.journal, self._choice.axis
        try:
            if self.why_not or journal is None or axis is None:
                raise LabelsError(self.why_not)
            parent, first, second = self._family(labels, axis.number)
        except LabelsError as error:
            self._session.notify(str(error))
            return

        def done(_: object) -> None:
            self._session.set_status(f"Object {parent} divides into {first} and {second}.")
            self._objects.modified.emit(journal.layer, [first, second])
            self.show()

        self._objects.act(journal, 0, lambda log: [log.set_parents({first: parent, second: parent})], done)

    def _family(self, labels: Sequence[int], time: int) -> tuple[int, int, int]:
        """Return the parent and its two successors.

        Raises
        ------
        LabelsError
            These are not three objects, or a successor is there before the parent's last frame.
        """
        if len(labels) != 3:
            raise LabelsError("Select three objects in the table: one that divides, and the two that it becomes.")
        found = [row for label in labels if (row := self._objects.get(label)) is not None]
        frames = {row.label: [part.plane.index[time] for part in row.parts] for row in found}
        parent, *others = sorted(frames, key=lambda label: (min(frames[label]), label))
        for label in others:
            if min(frames[label]) <= max(frames[parent]):
                raise LabelsError(
                    f"Object {label} begins at {min(frames[label])} and object {parent} ends at {max(frames[parent])}: "
                    "what an object divides into must begin after its last frame."
                )
        return parent, others[0], others[1]

    def _show(self, journal: OpenJournal, image: Image, tracks: ObjectTrackData) -> None:
        viewer, labels = self._session.viewer, journal.layer
        if labels not in viewer.layers:
            return
        data, graph = tracks
        layer = self._layers.get(labels)
        if layer is None or layer not in viewer.layers:
            active = viewer.layers.selection.active
            layer = Tracks(data, graph=graph, name=NAME, **adapters.transform_of(image))
            self._layers[labels] = layer
            viewer.add_layer(layer)
            viewer.layers.selection.active = active  # The tool of the prompts stays active.
        else:
            layer.graph = {}  # It may name objects that are gone from the data.
            layer.data = data
            layer.graph = graph


class ObjectTrackData(NamedTuple):
    """What a Tracks layer shows.

    Parameters
    ----------
    data
        Shape (n, 1 + axes of the image): the label, then the middle of its pixels in each frame, in pixels.
    graph
        The parent of each object that comes from another one that is there.
    """

    data: NDArray[np.float64]
    graph: dict[int, list[int]]


def track_data(journal: Journal, shape: Sequence[int], time: int) -> ObjectTrackData:
    """Return the tracks of all objects of a journal.

    Parameters
    ----------
    journal
        The journal.
    shape
        Shape of the image.
    time
        Its axis of time.

    Returns
    -------
    ObjectTrackData
        The tracks, and which come from which.

    Raises
    ------
    LabelsError
        There is no object, or a mask cannot be read.
    """
    rows: list[NDArray[np.float64]] = []
    parents: dict[int, int] = {}
    labels: set[int] = set()
    for found in journal.objects:
        labels.add(found.label)
        if found.parent is not None:
            parents[found.label] = found.parent
        frames: dict[int, list[tuple[int, NDArray[np.float64]]]] = defaultdict(list)
        for part in found.parts:
            mask = part.accepted.mask
            at = np.array(part.plane.index, np.float64)
            at[list(part.plane.axes)] = [
                float(where.mean()) + start
                for where, start in zip(np.nonzero(mask.pixels), (mask.box.top, mask.box.left), strict=True)
            ]
            frames[part.plane.index[time]].append((part.area, at))
        rows += [np.array([found.label, *_middle(parts)]) for _, parts in sorted(frames.items())]
    if not rows:
        raise LabelsError("There is no object to make tracks of: accept one first.")
    graph = {child: [parent] for child, parent in parents.items() if parent in labels}
    return ObjectTrackData(np.array(rows, np.float64).reshape(-1, 1 + len(shape)), graph)


def _middle(parts: Iterable[tuple[int, NDArray[np.float64]]]) -> Any:
    """Return the middle of the parts of an object in one frame, which lie in several planes, by their areas."""
    areas, places = zip(*parts, strict=True)
    return np.average(places, axis=0, weights=np.maximum(areas, 1))
