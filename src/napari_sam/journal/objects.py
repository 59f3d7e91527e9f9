"""Objects: what the entries of a journal so far have made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError
from napari_sam.journal.entries import Entry, LabelClass, PackedMask, Provenance


@dataclass(frozen=True, slots=True)
class Part:
    """The pixels of an object in one plane.

    Parameters
    ----------
    plane
        The plane.
    box
        Box around its pixels: no pixel of the object that the journal knows lies outside.
    area
        Number of its pixels.
    number
        The entry that accepted it.
    iou_prediction, stability_score
        As in `Mask`.
    entry
        Reads the entry of a number.
    label
        The label under which that entry accepted it: another one than that of the object where objects were merged or
        split.
    says_propagated
        Whether its row says that it was propagated; rows of earlier versions do not.
    """

    plane: Plane
    box: Box
    area: int
    number: int
    iou_prediction: float = field(compare=False)
    stability_score: float = field(compare=False)
    entry: Callable[[int], Entry] = field(compare=False, repr=False)
    label: int
    says_propagated: bool = field(default=False, compare=False, repr=False)

    @property
    def is_propagated(self) -> bool:
        """Whether it was propagated, and nobody has accepted it in its own plane; see `Provenance`."""
        return self.says_propagated or ((made := self.made) is not None and made.is_propagated)

    @property
    def accepted(self) -> PackedMask:
        """The mask as it was accepted, before other labels were spared; read at every call."""
        accepted = self._origin.accepted
        if accepted is None:
            raise LabelsError(f"Entry {self.number} of the journal has no mask: put the file back from a copy.")
        return accepted

    @property
    def prompts(self) -> Prompts | None:
        """The prompts of the mask; read at every call."""
        return self._origin.prompts

    @property
    def made(self) -> Provenance | None:
        """How the mask was made; read at every call."""
        return self._origin.made

    @property
    def overlap(self) -> Overlap:
        """What happened to other labels there; read at every call."""
        return self._origin.overlap

    @property
    def _origin(self) -> Entry:
        return self.entry(self.number).of_object(self.label, self.plane)


@dataclass(frozen=True, slots=True)
class LabelledObject:
    """An object of the table.

    Parameters
    ----------
    label
        Its value in the labels.
    parts
        One for each plane, the one that was accepted last at the end.
    created, changed
        When it was accepted first, and last.
    label_class
        Its class, or None.
    parent
        The object that it comes from by division, or None.
    """

    label: int
    parts: tuple[Part, ...]
    created: datetime
    changed: datetime
    label_class: LabelClass | None = None
    parent: int | None = None

    @property
    def area(self) -> int:
        """Number of pixels, of all planes."""
        return sum(part.area for part in self.parts)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes in which it is, the one that was accepted last at the end."""
        return tuple(part.plane for part in self.parts)

    @property
    def plane(self) -> Plane:
        """The plane that was accepted last; the properties below are of it."""
        return self.parts[-1].plane

    @property
    def box(self) -> Box:
        """Box around its pixels."""
        return self.parts[-1].box

    @property
    def prompts(self) -> Prompts | None:
        """What it was segmented by; read at every call."""
        return self.parts[-1].prompts

    @property
    def mask(self) -> Mask:
        """The mask as it was accepted; read and unpacked at every call."""
        return self.parts[-1].accepted.mask

    @property
    def iou_prediction(self) -> float:
        """The decoder's estimate of the mask's IoU, or NaN."""
        return self.parts[-1].iou_prediction

    @property
    def stability_score(self) -> float:
        """As in `Mask`."""
        return self.parts[-1].stability_score

    def part(self, plane: Plane) -> Part | None:
        """Return its pixels in a plane, or None."""
        return next((part for part in self.parts if part.plane == plane), None)

    def with_part(self, part: Part) -> LabelledObject:
        """Return it with a part put at the end, in the place of that of the same plane."""
        return replace(self, parts=(*(old for old in self.parts if old.plane != part.plane), part))
