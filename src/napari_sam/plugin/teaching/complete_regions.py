"""CompleteRegions: regions of the image in which the user accepted every object, marked in the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import LabelsError, NapariSamError, PromptError
from napari_sam.journal.storage.complete_areas import CompleteArea, complete_areas, write_complete_areas
from napari_sam.plugin.inference.region import draw_region, drawn_parts
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.workers.runner import Work

if TYPE_CHECKING:
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Runner

Change = Callable[[Sequence[CompleteArea]], list[CompleteArea]]


class CompleteRegions:
    """Marks regions of the plane in view, and keeps them beside the journal of the image.

    Parameters
    ----------
    session
        The image.
    runner
        Reads and writes the marks, in a thread that waits for no model.
    objects
        The objects of the image, with their journal.

    Attributes
    ----------
    changed
        Emitted when others are marked.
    areas
        What is marked in the image, as far as it is known.
    """

    changed = Signal()

    def __init__(self, session: Session, runner: Runner, objects: Objects) -> None:
        self._session, self._runner, self._objects = session, runner, objects
        self.areas: list[CompleteArea] = []
        self._folder: Path | None = None
        objects.changed.connect(self._follow)
        session.image_changed.connect(self._follow)

    @property
    def text(self) -> str:
        """How many regions of the plane in view are marked, in a few words."""
        count = len(self._here())
        return "Regions" if not count else f"{count} region{'' if count == 1 else 's'}"

    def mark_drawn(self) -> None:
        """Mark the rectangles that are drawn in the plane in view."""
        session = self._session
        image, plane = session.image, session.plane
        if image is None or plane is None:
            return
        boxes = [part.box for part in drawn_parts(session, image, plane) if part.pixels.all()]
        if not boxes:
            session.notify_error(PromptError("No rectangle is drawn in this plane: draw one around the region first."))
            return
        self._mark(plane, boxes)

    def mark_plane(self) -> None:
        """Mark the whole plane in view."""
        plane, image = self._session.plane, self._session.image
        if plane is not None and image is not None:
            self._mark(plane, [Box.of_shape(plane.shape_in(adapters.shape_of(image)))])

    def unmark_plane(self) -> None:
        """Forget the marks of the plane in view."""
        plane = self._session.plane
        self._change(lambda areas: [one for one in areas if one.plane != plane])

    def draw(self) -> None:
        """Let the user draw a rectangle."""
        draw_region(self._session)

    def _mark(self, plane: Plane, boxes: Sequence[Box]) -> None:
        self._change(lambda areas: [*areas, *(CompleteArea(plane, box) for box in boxes)])

    def _here(self) -> list[CompleteArea]:
        return [area for area in self.areas if area.plane == self._session.plane]

    def _follow(self, _: object = None) -> None:
        """Read the marks of another journal."""
        journal = self._objects.journal
        folder = None if journal is None else journal.folder
        if folder == self._folder:
            return
        self._folder, self.areas = folder, []
        if folder is None:
            self.changed.emit()
        else:
            self._do(folder, lambda: complete_areas(folder))

    def _change(self, change: Change) -> None:
        journal = self._objects.journal
        if journal is None or journal.folder is None:
            reason = "Accept objects first" if journal is None else "Save the labels first, since they are in memory"
            self._session.notify_error(LabelsError(f"{reason}: the marks are kept beside their journal."))
            return
        folder = journal.folder

        def changed() -> list[CompleteArea]:
            areas = change(complete_areas(folder))
            write_complete_areas(folder, areas)
            return complete_areas(folder)

        self._do(folder, changed)

    def _do(self, folder: Path, act: Callable[[], list[CompleteArea]]) -> None:
        def done(areas: list[CompleteArea]) -> None:
            if folder == self._folder:
                self.areas = areas
                self.changed.emit()

        self._runner.submit_apart(Work(lambda _: act(), done, self._on_error))

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, NapariSamError):
            self._session.notify_error(error)
        else:
            raise error
