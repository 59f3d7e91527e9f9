"""TaughtImage: an image with the objects that its journal has, to teach a model from; nothing is exported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.arguments import path_argument, shown
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.prompts import Prompts
from napari_sam.core.rendering import Rendering
from napari_sam.errors import ImageError, LabelsError, NapariSamError
from napari_sam.files.paths import exists
from napari_sam.images.volume import Volume
from napari_sam.journal.discovery import FILES, find_journal, has_journal, journal_beside
from napari_sam.journal.image_identity import pixel_digest
from napari_sam.journal.journal import open_journal
from napari_sam.journal.objects import LabelledObject
from napari_sam.journal.reader import JournalReader
from napari_sam.journal.storage.complete_areas import CompleteArea, complete_areas
from napari_sam.labeled_planes import LabeledPlanes
from napari_sam.training.teaching.regions import Background, Region, TaughtPart, cut_regions

# Entries that a user makes where a mask was not right.
CORRECTIONS = ("correct", "merge", "split")
# Of one image, drawn at random: more teach little more in a few minutes, and would fill the memory.
MOST_PLANES = 64
# Of one image: reading the entries of so many takes some seconds.
MOST_OBJECTS = 3000


@dataclass(frozen=True, slots=True, eq=False)
class TaughtImage:
    """An image, and the objects that were accepted in it.

    Parameters
    ----------
    name
        What the user calls it.
    volume
        Its pixels.
    objects
        The objects.
    rendering
        How the model saw the pixels; by default as `Volume.rendering` says.
    complete
        Areas in which the user accepted every object.
    """

    name: str
    volume: Volume
    objects: Sequence[LabelledObject]
    rendering: Rendering | None = None
    complete: Sequence[CompleteArea] = ()

    @classmethod
    def of(cls, given: Any) -> TaughtImage:
        """Return the image of a journal.

        Parameters
        ----------
        given
            A `Segmenter` with a journal; the path of a journal, of the labels beside it, or of an image; or a pair of
            the journal's path and the image, a path or an array.

        Raises
        ------
        ImageError, LabelsError
            There is no journal, it is damaged, or its image is not there.
        """
        if isinstance(given, TaughtImage):
            return given
        if isinstance(given, LabeledPlanes):
            return cls._of_planes(given)
        if isinstance(given, tuple) and len(given) == 2:
            return cls._of_journal(open_journal(path_argument(given[0], "The journal", LabelsError)), given[1])
        if not isinstance(given, (str, Path)):
            raise LabelsError(
                f"A model is taught from journals, and {shown(given)} is none: give the path of a journal or of its "
                "image, or a Segmenter with a journal."
            )
        return cls._of_journal(open_journal(_journal_of(Path(given))), None)

    @classmethod
    def _of_planes(cls, planes: LabeledPlanes) -> TaughtImage:
        if planes.journal is None:
            raise LabelsError("This Segmenter has no journal, which teaching needs: give journal=True when it is made.")
        image = planes.journal.about.get("image")
        name = Path(str(image)).name if image else "image"
        objects = planes.journal.objects
        return cls(name, planes.volume, objects, _last_rendering(objects), planes.complete_areas)

    @classmethod
    def _of_journal(cls, journal: JournalReader, image: Any) -> TaughtImage:
        recorded = journal.about.get("image")
        if image is None and recorded is None:
            raise ImageError(
                f"The journal {journal.folder} is of an image that was never in a file: save the image, or teach in "
                "the window where it is open."
            )
        if image is None and "://" not in str(recorded) and not exists(Path(str(recorded))):
            raise ImageError(
                f"The image {recorded} of the journal {journal.folder} is not there any more: put it back, or give "
                "the journal and the image together."
            )
        made = next((part.made for each in journal.objects for part in each.parts if part.made), None)
        channels = made.channels if made is not None and made.channels else None
        volume = _opened(recorded if image is None else image, channels)
        digest = journal.about.get("pixels")
        if digest is not None and digest != pixel_digest(volume.array):
            raise ImageError(
                f"The pixels of {recorded if image is None else 'the image'} are not those that the journal "
                f"{journal.folder} is of: give the image that it is of."
            )
        name = Path(str(recorded)).name if recorded else journal.folder.name
        return cls(name, volume, journal.objects, _last_rendering(journal.objects), complete_areas(journal.folder))

    def parts(self, seed: int = 0) -> dict[Plane, list[TaughtPart]]:
        """Return the accepted objects of each plane, in the order in which they were accepted, and no propagated ones.

        Nobody has looked at a propagated mask by itself, so it would teach the model its own errors.
        """
        return self._parts_and_hidden(seed)[0]

    def _parts_and_hidden(self, seed: int) -> tuple[dict[Plane, list[TaughtPart]], dict[Plane, list[Mask]]]:
        """Return the parts, and the masks of each plane that teach nothing."""
        planes: dict[Plane, list[tuple[int, TaughtPart]]] = defaultdict(list)
        hidden: dict[Plane, list[Mask]] = defaultdict(list)
        for each in self._drawn(seed):
            for part in each.parts:
                entry = part.entry(part.number)
                origin = entry.of_object(part.label, part.plane)
                if origin.mask is None:
                    continue
                if origin.made is not None and origin.made.is_propagated:
                    hidden[part.plane].append(origin.mask)
                    continue
                is_corrected = entry.what in CORRECTIONS or _has_several(origin.prompts)
                taught = TaughtPart(each.label, origin.mask, origin.overlap, is_corrected)
                planes[part.plane].append((part.number, taught))
        parts = {
            plane: [taught for _, taught in sorted(found, key=lambda one: one[0])] for plane, found in planes.items()
        }
        return parts, hidden

    def _drawn(self, seed: int) -> Iterable[LabelledObject]:
        if len(self.objects) <= MOST_OBJECTS:
            return self.objects
        chosen = np.random.default_rng(seed).choice(len(self.objects), MOST_OBJECTS, replace=False)
        return [self.objects[int(at)] for at in sorted(chosen)]

    def regions(
        self, number: int, *, is_complete: bool, complete: Sequence[Box] = (), seed: int = 0
    ) -> Iterator[Region]:
        """Yield the regions of all planes with accepted objects, of many planes those of 64 that are drawn.

        Parameters
        ----------
        number
            Number of the image among those that teach.
        is_complete
            Whether all objects of these planes were accepted, so that the rest is background.
        complete
            Parts of each of these planes in which they were, besides those that the journal knows.
        seed
            Fixes which planes are drawn.
        """
        parts_of, hidden = self._parts_and_hidden(seed)
        planes = sorted(parts_of.items(), key=lambda one: (one[0].axes, one[0].index))
        if len(planes) > MOST_PLANES:
            chosen = np.random.default_rng(seed).choice(len(planes), MOST_PLANES, replace=False)
            planes = [planes[at] for at in sorted(chosen)]
        rendering = self.volume.rendering() if self.rendering is None else self.rendering
        for plane, parts in planes:
            boxes = [*complete, *(area.box for area in self.complete if area.plane == plane)]
            boxes = [Box.of_shape(plane.shape_in(self.volume.shape))] if is_complete else boxes
            is_whole = len(self.objects) <= MOST_OBJECTS  # Of more, some are left out here.
            background = Background(boxes, hidden[plane]) if is_whole else Background()
            yield from cut_regions(self.volume, plane, rendering, parts, background, image=number)


def _has_several(prompts: Prompts | None) -> bool:
    """Return whether a mask needed more than one prompt: what came after the first one was a correction."""
    return prompts is not None and len(prompts.points) + (prompts.box is not None) > 1


def taught_images(given: Any) -> list[TaughtImage]:
    """Return the images of one or several journals; see `TaughtImage.of`.

    Raises
    ------
    ImageError, LabelsError
        One of them cannot be used.
    """
    is_one = isinstance(given, (str, Path, LabeledPlanes, TaughtImage, tuple)) or not isinstance(given, Iterable)
    found = [TaughtImage.of(each) for each in ([given] if is_one else given)]
    if not found:
        raise LabelsError("There is nothing to teach from: give at least one journal.")
    return found


def _journal_of(path: Path) -> Path:
    """Return the journal that a path names: itself, that of labels, or that of an image.

    Raises
    ------
    ImageError, LabelsError
        There is none.
    """
    folder = path.parent if path.name in FILES else path
    if has_journal(folder):
        return folder
    if not exists(path):
        raise LabelsError(f"There is no journal {path}: check the path.")
    if has_journal(journal_beside(path)):
        return journal_beside(path)
    try:
        found = find_journal(Volume.of(path), path, None)
    except NapariSamError as error:
        raise LabelsError(f"{path} is neither a journal nor an image ({error}): check the path.") from error
    if not has_journal(found):
        raise LabelsError(
            f"There is no journal of {path}: accept objects in it first, or give the labels that it lies beside."
        )
    return found


def _opened(image: Any, channels: Sequence[int] | None) -> Volume:
    """Return an image with the channels that the model saw; those that it suggests where it has other ones by now."""
    try:
        return Volume.of(image, channels=channels)
    except ImageError:
        return Volume.of(image)


def _last_rendering(objects: Iterable[LabelledObject]) -> Rendering | None:
    """Return how the model saw the pixels when the first object with such a record was accepted."""
    return next(
        (part.made.rendering for each in objects for part in each.parts if part.made and part.made.rendering), None
    )
