"""TeachingMaterial: the images that a model is to learn from, with the number of their objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_sam.errors import NapariSamError
from napari_sam.journal.storage.complete_areas import complete_areas
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.workers.runner import Work
from napari_sam.training.teaching.journals import MOST_OBJECTS, TaughtImage

if TYPE_CHECKING:
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Runner


@dataclass(frozen=True, slots=True)
class ObjectCount:
    """How many objects there are to learn from.

    Parameters
    ----------
    objects
        All of them.
    corrected
        Those that the user corrected.
    """

    objects: int = 0
    corrected: int = 0

    @property
    def text(self) -> str:
        """The numbers in words."""
        return f"{self.objects} object{'' if self.objects == 1 else 's'}, {self.corrected} corrected"


class TeachingMaterial:
    """The objects of the image in the window, and of images that the user adds.

    Parameters
    ----------
    session
        The image.
    runner
        Reads the journals, in a thread that waits for no model.
    objects
        The objects of the image.

    Attributes
    ----------
    changed
        Emitted when there are other images or objects.
    added
        Paths of the images and journals that were added.
    count
        The number of objects, as far as it is known.
    """

    changed = Signal()

    def __init__(self, session: Session, runner: Runner, objects: Objects) -> None:
        self._session, self._runner, self._objects = session, runner, objects
        self.added: list[Path] = []
        self.count = ObjectCount()
        self._is_counting = self._is_outdated = False
        objects.changed.connect(self.outdate)
        session.image_changed.connect(self.outdate)

    @property
    def has_image(self) -> bool:
        """Whether the image in the window has objects."""
        return self._session.image is not None and len(self._objects.rows) > 0

    def outdate(self, _: object = None) -> None:
        """Count anew when the number is asked for."""
        self._is_outdated = True
        self.changed.emit()

    def add(self, path: Path) -> None:
        """Add an image that has a journal, or a journal; says why where it cannot be used."""

        def check(_: object) -> TaughtImage:
            return TaughtImage.of(path)

        def done(_: TaughtImage) -> None:
            if path not in self.added:
                self.added.append(path)
            self.outdate()

        self._runner.submit_apart(Work(check, done, self._session.notify_error))

    def clear(self) -> None:
        """Learn from the image in the window only."""
        self.added.clear()
        self.outdate()

    def count_again(self) -> None:
        """Count the objects in the background, if they may have changed."""
        if self._is_counting or not self._is_outdated:
            return
        self._is_counting, self._is_outdated = True, False
        images = self.images()

        def done(count: ObjectCount) -> None:
            self._is_counting, self.count = False, count
            self.changed.emit()

        def failed(error: Exception) -> None:
            self._is_counting = False
            self._session.notify_error(error)

        self._runner.submit_apart(Work(lambda _: _counted(images()), done, failed))

    def images(self) -> Callable[[], Sequence[TaughtImage]]:
        """Return what gives the images, in any thread; all that it needs of the layers is taken here.

        Raises
        ------
        ImageError
            The layer's pixels are no image.
        """
        paths, own, journal = tuple(self.added), self._own(), self._objects.journal
        folder = None if journal is None else journal.folder

        def given() -> list[TaughtImage]:
            complete = [] if folder is None else complete_areas(folder)
            return [*([] if own is None else [replace(own, complete=complete)]), *map(TaughtImage.of, paths)]

        return given

    def _own(self) -> TaughtImage | None:
        """Return the image in the window as the model sees it, or None where it has no objects."""
        image, journal = self._session.image, self._objects.journal
        if image is None or journal is None or not self.has_image:
            return None
        try:
            shown = adapters.shown(self._session.channels or [image], self._session.viewer)
            rendering = shown.volume.rendering(shown.limits, shown.gamma)
        except NapariSamError:
            return None
        return TaughtImage(image.name, shown.volume, journal.rows.view, rendering)


def _counted(images: Sequence[TaughtImage]) -> ObjectCount:
    objects = corrected = 0
    for image in images:
        parts = [part for found in image.parts().values() for part in found]
        # Of very many objects, only some are looked at.
        objects += len(image.objects) if len(image.objects) > MOST_OBJECTS else len({part.label for part in parts})
        corrected += len({part.label for part in parts if part.is_corrected})
    return ObjectCount(objects, corrected)
