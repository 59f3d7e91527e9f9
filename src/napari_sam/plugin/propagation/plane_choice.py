"""PlaneChoice: which objects are followed, along which axis, and through which planes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from psygnal import Signal

from napari_sam.images.axes.letters import letters_of
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.propagation.object_planes import ObjectPlanes, Propagated
from napari_sam.propagation.plane_stack import PlaneStack

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.core.geometry import Plane
    from napari_sam.journal.objects import LabelledObject, Part
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.session import Session

# Objects go on along the first of these that the image has.
USUAL = "zt"


class FollowedAxis(NamedTuple):
    """An axis along which objects can be followed.

    Parameters
    ----------
    number
        The axis of the image.
    name
        What the user sees.
    length
        Number of planes.
    """

    number: int
    name: str
    length: int

    @property
    def is_time(self) -> bool:
        """Whether its planes are points in time."""
        return self.name == "t"


@dataclass(slots=True)
class _Read:
    """What was read of the objects: their labels, and the plane and the planes of the first one."""

    labels: list[int]
    plane: Plane | None
    object: ObjectPlanes | None = None


class PlaneChoice:
    """The objects that are followed: those that are selected in the table, else the one that was changed last.

    Parameters
    ----------
    session
        The image and the view.
    objects
        The objects of the output.

    Attributes
    ----------
    changed
        Emitted when something else is chosen, or the objects changed.
    """

    changed = Signal()

    def __init__(self, session: Session, objects: Objects) -> None:
        self._session, self._objects = session, objects
        self._selected: tuple[int, ...] = ()
        self._axis: int | None = None
        self._planes: tuple[int, int] | None = None
        self._propagated = Propagated()
        # What was read of the objects since they changed.
        self._read: _Read | None = None
        objects.changed.connect(self._on_objects)

    def close(self) -> None:
        """Stop following the objects."""
        self._objects.changed.disconnect(self._on_objects)

    # -- choices -------------------------------------------------------------------------------------------------------

    def select(self, labels: Sequence[int]) -> None:
        """Follow these objects; without any, the one that was changed last."""
        if tuple(labels) != self._selected:
            self._selected = tuple(labels)
            self.forget()

    def choose_axis(self, number: int) -> None:
        """Follow objects along an axis, through all of its planes."""
        self._axis, self._planes = number, None
        self.forget()

    def choose_planes(self, first: int, last: int) -> None:
        """Follow objects through some planes only, both included."""
        self._planes = min(first, last), max(first, last)
        self.forget()

    def reset(self) -> None:
        """Forget the choices: another image is shown."""
        self._selected, self._axis, self._planes = (), None, None
        self.forget()

    def forget(self) -> None:
        """Read the object again when it is asked for."""
        self._read = None
        self.changed.emit()

    # -- what is chosen ------------------------------------------------------------------------------------------------

    @property
    def labels(self) -> list[int]:
        """The objects that are followed."""
        return self._known.labels

    @property
    def axes(self) -> list[FollowedAxis]:
        """The axes along which the planes of the objects follow each other, the usual one first."""
        image, plane = self._session.image, self.plane
        return [] if image is None or plane is None else axes_through(image, plane)

    @property
    def axis(self) -> FollowedAxis | None:
        """The axis that is chosen, or the usual one; None where the image has a single plane."""
        axes = self.axes
        return next((axis for axis in axes if axis.number == self._axis), axes[0] if axes else None)

    @property
    def planes(self) -> tuple[int, int] | None:
        """The first and the last plane that are chosen, or None without an axis."""
        axis = self.axis
        if axis is None:
            return None
        first, last = self._planes or (0, axis.length - 1)
        return min(first, axis.length - 1), min(last, axis.length - 1)

    @property
    def plane(self) -> Plane | None:
        """The plane that the first object was accepted in last; without an object, the plane in view."""
        return self._known.plane or self._session.plane

    @property
    def object(self) -> ObjectPlanes | None:
        """The first of the objects, plane by plane, or None."""
        known = self._known
        if known.object is None and known.labels:
            known.object = self.planes_of(known.labels[0])
        return known.object

    @property
    def at(self) -> int | None:
        """Position of the plane in view along the axis, or None where another stack is in view."""
        plane, shown = self._session.plane, self.object
        return None if plane is None or shown is None else shown.stack.position_of(plane)

    def planes_of(self, label: int) -> ObjectPlanes | None:
        """Return an object, plane by plane, or None without an axis."""
        journal, found, axis, image = self._objects.journal, self._objects.get(label), self.axis, self._session.image
        if journal is None or found is None or axis is None or image is None:
            return None
        is_propagated = self._propagated.of(journal.journal, label)
        plane = _accepted_plane(found, is_propagated)
        if axis.number in plane.axes:
            return None
        stack = PlaneStack.of(adapters.shape_of(image), plane, axis.number)
        return ObjectPlanes.of(found, stack, is_propagated, self.planes)

    @property
    def _known(self) -> _Read:
        if self._read is None:
            self._read = self._look()
        return self._read

    def _look(self) -> _Read:
        journal = self._objects.journal
        if journal is None:
            return _Read([], None)
        labels = [label for label in self._selected if label in journal.rows]
        if not labels:
            labels = [found.label for found in journal.rows.view.ordered("changed", True)[:1]]
        found = journal.rows.get(labels[0]) if labels else None
        if found is None:
            return _Read([], None)
        return _Read(labels, _accepted_plane(found, self._propagated.of(journal.journal, found.label)))

    def _on_objects(self, _: Sequence[int] | None) -> None:
        self.forget()


def _accepted_plane(found: LabelledObject, is_propagated: Callable[[Part], bool]) -> Plane:
    """Return the plane that an object was accepted in last."""
    return next((part.plane for part in reversed(found.parts) if not is_propagated(part)), found.plane)


def axes_through(image: Image, plane: Plane) -> list[FollowedAxis]:
    """Return the axes along which planes of an image follow each other, the usual one first."""
    shape, letters = adapters.shape_of(image), letters_of(image.axis_labels, image.ndim)
    axes = [
        FollowedAxis(number, letters[number] if letters else str(number), length)
        for number, length in enumerate(shape)
        if number not in plane.axes and length > 1 and not (letters and letters[number] == "c")
    ]
    return sorted(axes, key=lambda axis: (axis.name not in USUAL, USUAL.find(axis.name), axis.number))
