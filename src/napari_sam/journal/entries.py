"""Entries: the operations of a journal, and the classes that they give to objects."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.masks import Provenance as Provenance
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError
from napari_sam.journal.packing.arrays import pack_bits, unpack_bits
from napari_sam.journal.packing.objects import PackedObjects
from napari_sam.journal.patches import Patch

# Turned by the golden ratio, no two of many hues come near each other.
GOLDEN_TURN = 0.618034

What = Literal[
    "accept",
    "accept_all",
    "accept_parts",
    "correct",
    "remove_parts",
    "merge",
    "split",
    "delete",
    "classify",
    "class",
    "set_parents",
    "undo",
    "redo",
]


@dataclass(frozen=True, slots=True)
class LabelClass:
    """A kind of object.

    Parameters
    ----------
    number
        Its value in semantic labels, from 1 on.
    name, color
        What the user calls it, and (red, green, blue) from 0 to 1.
    """

    number: int
    name: str
    color: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class PackedMask:
    """A mask as a journal keeps it; `mask` unpacks it.

    Parameters
    ----------
    box
        Half-open, whole level-0 pixels.
    bits
        Its pixels, see `pack_bits`.
    iou_prediction, stability_score
        As in `Mask`.
    """

    box: Box
    bits: str
    iou_prediction: float = float("nan")
    stability_score: float = float("nan")

    @classmethod
    def of(cls, mask: Mask) -> PackedMask:
        """Pack a mask; its logits are left out."""
        return cls(mask.box.rounded_out(), pack_bits(mask.pixels), mask.iou_prediction, mask.stability_score)

    @property
    def mask(self) -> Mask:
        """The mask, to the pixel; raises LabelsError where the journal is damaged."""
        try:
            pixels = unpack_bits(self.bits, self.box.pixel_shape)
        except ValueError as error:
            raise LabelsError(f"A mask of the journal is damaged ({error}): put the file back from a copy.") from error
        return Mask(self.box, pixels, self.iou_prediction, self.stability_score)


@dataclass(frozen=True, slots=True)
class MovedParts:
    """Whole parts of an object that an entry gave to another object, or took away.

    Parameters
    ----------
    label
        The object that had them.
    to
        The object that has them now; 0 where they were taken away.
    planes
        Their planes.
    """

    label: int
    to: int
    planes: tuple[Plane, ...]


@dataclass(frozen=True, slots=True)
class RemadePart:
    """A part of an object that an entry made of the pixels of other parts.

    Parameters
    ----------
    label
        The object that has it now.
    plane, accepted
        Where it is.
    """

    label: int
    plane: Plane
    accepted: PackedMask


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened to the objects of an image.

    Parameters
    ----------
    number
        Its place in the journal, from 1 on.
    what
        "accept" an object, "accept_all" of many new ones, "accept_parts" of many objects in one more plane, "correct"
        one (accept it again under its label), "remove_parts" of it, "merge" it with others, "split" it, "delete" it,
        "classify" it, define a "class", "set_parents" of objects, "undo" an earlier entry or "redo" it.
    time
        When it happened.
    label
        The object, for all but "accept_all", "accept_parts", "class", "set_parents", "undo" and "redo".
    plane, overlap, made
        Of all masks that were accepted.
    prompts
        Of the one mask that was accepted.
    accepted
        That mask, as it was before other labels were spared.
    patches
        Patches of the changed labels.
    areas
        By how many pixels each (label, patch) grew; of objects in `objects` that says it.
    label_class
        The class given to the objects (None takes it away), or the class defined.
    of
        The number of the entry that was undone or redone.
    group
        The number of the first entry of the same action, which is undone in one step; None for that one itself.
    objects
        The new objects of "accept_all", or the parts of "accept_parts".
    moved, remade
        What became of the parts of objects that were merged, split or partly removed.
    parents
        (object, parent) of "set_parents"; the parent is 0 for none.
    """

    number: int
    what: What
    time: datetime
    label: int | None = None
    plane: Plane | None = None
    overlap: Overlap = "keep"
    prompts: Prompts | None = None
    made: Provenance | None = None
    accepted: PackedMask | None = None
    patches: tuple[Patch, ...] = ()
    areas: tuple[tuple[int, int, int], ...] = ()
    label_class: LabelClass | None = None
    of: int | None = None
    group: int | None = None
    objects: PackedObjects | None = None
    moved: tuple[MovedParts, ...] = ()
    remade: tuple[RemadePart, ...] = ()
    parents: tuple[tuple[int, int], ...] = ()

    @property
    def labels(self) -> list[int]:
        """The objects that the entry is about."""
        if self.objects is not None:
            return [label for first, count in self.objects.labels for label in range(first, first + count)]
        named = [] if self.label is None else [self.label]
        moved = (label for parts in self.moved for label in (parts.label, parts.to) if label)
        children = (child for child, _ in self.parents)
        return list(dict.fromkeys([*named, *moved, *(part.label for part in self.remade), *children]))

    @property
    def is_propagated(self) -> bool:
        """Whether its masks were propagated; see `Provenance`."""
        return self.made is not None and self.made.is_propagated

    def of_object(self, label: int, plane: Plane | None = None) -> Entry:
        """Return the entry as if it were about this one of its objects only, without the patches; else itself.

        Parameters
        ----------
        label
            The object.
        plane
            The plane of its part, for entries that made parts in several.

        Raises
        ------
        LabelsError
            It has made other objects only.
        """
        if self.remade:
            return self._of_remade(label, plane)
        if self.objects is None:
            return self
        at = self.objects.at(label)
        if at is None:
            raise LabelsError(
                f"Entry {self.number} of the journal has no object {label}: put the file back from a copy."
            )
        accepted, prompts = PackedMask.of(self.objects.mask(at)), self.objects.prompts_at(at)
        return replace(
            self, what="accept", label=label, accepted=accepted, prompts=prompts, patches=(), areas=(), objects=None
        )

    @property
    def mask(self) -> Mask | None:
        """The mask that was accepted, to the pixel, or None."""
        return None if self.accepted is None else self.accepted.mask

    def _of_remade(self, label: int, plane: Plane | None) -> Entry:
        part = next((one for one in self.remade if one.label == label and one.plane == plane), None)
        if part is None:
            raise LabelsError(
                f"Entry {self.number} of the journal has no part of object {label}: put the file back from a copy."
            )
        return replace(
            self, what="accept", label=label, plane=plane, accepted=part.accepted, patches=(), moved=(), remade=()
        )


class AcceptedObjects(NamedTuple):
    """Objects that were written together.

    Parameters
    ----------
    entry
        The entry of the journal; None where nothing could be written.
    labels
        The label of each object that was given; None where nothing of it could be written.
    """

    entry: Entry | None
    labels: list[int | None]


def now() -> datetime:
    """Return the time in UTC, to the millisecond."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def class_named(classes: Sequence[LabelClass], name: str) -> LabelClass:
    """Return the class of a name as it is, or as it would be made.

    Raises
    ------
    LabelsError
        The name is empty.
    """
    known = next((kind for kind in classes if kind.name == name), None)
    if known is not None:
        return known
    number = max((kind.number for kind in classes), default=0) + 1
    return LabelClass(number, _checked_name(name), colorsys.hsv_to_rgb(number * GOLDEN_TURN % 1, 0.7, 1.0))


def defined_class(
    classes: Sequence[LabelClass], name: str, color: Sequence[float] | None, renamed: str | None
) -> LabelClass:
    """Return the class of a name with another color or name; see `Journal.define_class`.

    Raises
    ------
    LabelsError
        The name is empty or taken, or the color is not valid.
    """
    kind = class_named(classes, name)
    if renamed is not None and renamed != name and any(other.name == renamed for other in classes):
        raise LabelsError(f"There is a class {renamed!r} already: choose another name.")
    shade = kind.color if color is None else _checked_color(color)
    return LabelClass(kind.number, _checked_name(name if renamed is None else renamed), shade)


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise LabelsError(f"A class needs a name, and {name!r} is none: give it a word.")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise LabelsError(f"The name of the class {name!r} is damaged: give it another one.") from error
    return name


def _checked_color(color: Sequence[float]) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(value) for value in color)
    except (TypeError, ValueError):
        red = green = blue = -1.0
    if not all(0 <= value <= 1 for value in (red, green, blue)):
        raise LabelsError(f"{color!r} is not a color: give (red, green, blue) from 0 to 1.")
    return red, green, blue
