"""PlaneCorrections: let a click on a plane correct the object that is followed, instead of beginning another one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import NapariSamError
from napari_sam.plugin.drafts import PickedObject
from napari_sam.plugin.layers.adapters import LayerPrompts, prompts_of

if TYPE_CHECKING:
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.objects.open_journal import OpenJournal
    from napari_sam.plugin.propagation.plane_choice import PlaneChoice
    from napari_sam.plugin.session import Session


class PlaneCorrections:
    """Takes up the followed object when the user prompts, so that accepting writes into it.

    Its mask in that plane becomes a prompt, too. Where it has none, it gets one.

    Parameters
    ----------
    session
        The drafts.
    objects
        The objects of the output.
    choice
        The objects that are followed.
    """

    def __init__(self, session: Session, objects: Objects, choice: PlaneChoice) -> None:
        self._session, self._objects, self._choice = session, objects, choice

    def take_up(self) -> None:
        """Let the draft that has just got its first prompts replace the object's mask in the plane in view."""
        session, journal, plane = self._session, self._objects.journal, self._session.plane
        draft = session.current
        if session.task != "planes" or draft.replaces is not None or draft.candidates is not None:
            return
        if journal is None or plane is None or session.image is None or session.prompts.count_of(draft.number) == 0:
            return
        layers = session.prompts
        prompts = prompts_of(layers.points, layers.shapes, session.image, plane, draft.number)
        label = self._label_for(journal, plane, _place_of(prompts))
        if label is None or prompts.is_empty:
            return
        try:
            picked = self._picked(journal, label, plane, _place_of(prompts))
        except NapariSamError as error:
            session.notify_error(error)
            return
        draft.replaces = picked
        if picked.hint is not None:
            # What is left where the user takes the click back: the mask as it is.
            draft.reopened = LayerPrompts(np.zeros((0, 2)), np.zeros(0, np.int64), None, picked.hint)

    def _label_for(self, journal: OpenJournal, plane: Plane, place: tuple[int, int]) -> int | None:
        """Return the followed object that prompts are about: that under them, else the nearest one, else the first."""
        labels = [label for label in self._choice.labels if self._goes_through(label, plane)]
        if len(labels) < 2:
            return labels[0] if labels else None
        row, col = place
        under = int(journal.target.read(plane, Box(row, col, row + 1, col + 1))[0, 0])
        if under in labels:
            return under
        parts = {label: found.part(plane) for label in labels if (found := self._objects.get(label)) is not None}
        boxes = {label: part.box for label, part in parts.items() if part is not None}
        return min(boxes, key=lambda label: math.dist(boxes[label].center, place), default=labels[0])

    def _goes_through(self, label: int, plane: Plane) -> bool:
        """Return whether a plane belongs to the stack that an object is followed through."""
        planes = self._choice.planes_of(label)
        return planes is not None and planes.stack.position_of(plane) is not None

    def _picked(self, journal: OpenJournal, label: int, plane: Plane, place: tuple[int, int]) -> PickedObject:
        found = self._objects.get(label)
        part = None if found is None else found.part(plane)
        if part is None:
            row, col = place
            return PickedObject(journal.layer, label, plane, Mask(Box(row, col, row, col), np.zeros((0, 0), bool)))
        picked, _ = self._objects.picked(journal, label, part)
        return replace(picked, hint=picked.mask)


def _place_of(prompts: LayerPrompts) -> tuple[int, int]:
    """Return the pixel that prompts lie on."""
    if len(prompts.points):
        row, col = prompts.points[0]
    else:
        box = prompts.box if prompts.mask is None else prompts.mask.box
        row, col = (0, 0) if box is None else (math.floor(at) for at in box.center)
    return round(row), round(col)
