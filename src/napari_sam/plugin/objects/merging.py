"""ObjectMerging: merge objects of the output, and split them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari_sam.journal.entries import Entry
from napari_sam.journal.objects import LabelledObject

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.journal.journal import Journal
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.session import Session


class ObjectMerging:
    """Merges and splits objects; one undo takes each of it back.

    Parameters
    ----------
    session
        The plane in view, and the draft whose mask can be split off.
    objects
        The objects of the output.
    """

    def __init__(self, session: Session, objects: Objects) -> None:
        self._session, self._objects = session, objects

    def merge(self, labels: Sequence[int]) -> None:
        """Make one object of several; the first one keeps its label."""
        listed = ", ".join(map(str, labels)) if len(labels) < 6 else str(len(labels))
        self._run(labels, lambda log: log.merge(labels), lambda _: f"Objects {listed} are label {labels[0]} now.")

    def split_plane(self, label: int) -> None:
        """Make an object of its own of what an object has in the plane in view."""
        plane = self._session.plane
        if plane is not None:
            self._split(label, lambda log: log.split(label, [{plane: None}]))

    def split_onwards(self, label: int) -> None:
        """Make an object of its own of what an object has in the plane in view and in those behind it."""
        planes = self._onwards(label)
        self._split(label, lambda log: log.split(label, [dict.fromkeys(planes)]))

    def split_mask(self, label: int) -> None:
        """Make an object of its own of the pixels of an object that the mask of the current draft covers."""
        session, candidates = self._session, self._session.candidates
        if candidates is not None:
            mask = session.mask_of(session.current)
            self._split(label, lambda log: log.split(label, [{candidates.plane: mask}]))

    def split_regions(self, label: int) -> None:
        """Make objects of their own of the connected regions of an object."""
        self._split(label, lambda log: log.split_regions(label))

    def why_not_merge(self, labels: Sequence[int]) -> str:
        """Return why objects cannot be merged, or nothing."""
        return "" if len(labels) > 1 else "Select two or more objects in the table first."

    def why_not_split_plane(self, label: int) -> str:
        """Return why the plane in view cannot be split off, or nothing."""
        found, plane = self._objects.get(label), self._session.plane
        if found is None or plane is None or found.part(plane) is None:
            return "Go to a plane in which the object is first."
        return "" if len(found.parts) > 1 else "The object is in this plane only."

    def why_not_split_onwards(self, label: int) -> str:
        """Return why the planes from the one in view on cannot be split off, or nothing."""
        found, planes = self._objects.get(label), self._onwards(label)
        if found is None or not planes:
            return "Go to a plane before the end of the object first."
        return "" if len(planes) < len(found.parts) else "Go to a plane behind the beginning of the object first."

    def why_not_split_mask(self, label: int) -> str:
        """Return why the shown mask cannot be split off, or nothing."""
        found, candidates = self._objects.get(label), self._session.candidates
        if candidates is None:
            return "Click or draw over the part that is to be split off first, so that a mask is shown."
        has_part = found is not None and found.part(candidates.plane) is not None
        return "" if has_part else "The object is not in the plane of the mask."

    def _onwards(self, label: int) -> list[Plane]:
        found, plane = self._objects.get(label), self._session.plane
        if found is None or plane is None:
            return []
        return [one for one in found.planes if one.axes == plane.axes and one.position >= plane.position]

    def _split(self, label: int, split: Callable[[Journal], Entry]) -> None:
        def status(entry: Entry) -> str:
            new = entry.labels[1:]
            return (
                f"A part of object {label} is label {new[0]} now."
                if len(new) == 1
                else (f"Object {label} is {len(new) + 1} objects now.")
            )

        self._run([label], split, status)

    def _run(self, labels: Sequence[int], change: Callable[[Journal], Entry], status: Callable[[Entry], str]) -> None:
        objects = self._objects
        journal = objects.journal
        known: list[LabelledObject] = [found for label in labels if (found := objects.get(label)) is not None]
        if journal is None or len(known) < len(labels):
            return

        def done(entries: Sequence[Entry]) -> None:
            changed = [label for entry in entries for label in entry.labels]
            self._session.set_status(status(entries[0]))
            objects.modified.emit(journal.layer, changed)

        objects.act(journal, objects.area_of(journal, labels), lambda log: [change(log)], done)
