"""Objects: what the entries of a journal so far have made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError
from napari_sam.journal.codec import box_of, plane_of
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
    """

    plane: Plane
    box: Box
    area: int
    number: int
    iou_prediction: float = field(compare=False)
    stability_score: float = field(compare=False)
    entry: Callable[[int], Entry] = field(compare=False, repr=False)

    @property
    def accepted(self) -> PackedMask:
        """The mask as it was accepted, before other labels were spared; read at every call."""
        accepted = self.entry(self.number).accepted
        if accepted is None:
            raise LabelsError(f"Entry {self.number} of the journal has no mask: put the file back from a copy.")
        return accepted

    @property
    def prompts(self) -> Prompts | None:
        """The prompts of the mask; read at every call."""
        return self.entry(self.number).prompts

    @property
    def made(self) -> Provenance | None:
        """How the mask was made; read at every call."""
        return self.entry(self.number).made

    @property
    def overlap(self) -> Overlap:
        """What happened to other labels there; read at every call."""
        return self.entry(self.number).overlap


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
    """

    label: int
    parts: tuple[Part, ...]
    created: datetime
    changed: datetime
    label_class: LabelClass | None = None

    @property
    def area(self) -> int:
        """Number of pixels, of all planes."""
        return sum(part.area for part in self.parts)

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


def to_content(found: LabelledObject) -> str:
    """Return an object as the text of its row."""
    begin = _begin(found.created, found.changed, found.label_class)
    parts = (
        _part_text(
            _place_text(part.plane),
            [int(edge) for edge in part.box.as_tuple()],
            (int(part.area), part.number),
            (float(part.iou_prediction), float(part.stability_score)),
        )
        for part in found.parts
    )
    return f"{begin}{','.join(parts)}]}}"


def new_contents(entry: Entry) -> Iterator[tuple[int, int, float, str]]:
    """Yield label, area, predicted IoU and the text of the row of each object that an entry has made with others.

    Raises
    ------
    LabelsError
        The journal is damaged.
    """
    if entry.objects is None or entry.plane is None:
        return
    begin, place = _begin(entry.time, entry.time, entry.label_class), _place_text(entry.plane)
    for label, box, area, scores in zip(entry.labels, *entry.objects.table(), strict=True):
        yield label, area, scores[0], f"{begin}{_part_text(place, box, (area, entry.number), scores)}]}}"


def from_content(
    label: int, content: str, class_of: Callable[[int], LabelClass | None], entry: Callable[[int], Entry]
) -> LabelledObject:
    """Return the object that `to_content` was given; raises ValueError, TypeError or LookupError where it is none.

    Parameters
    ----------
    label, content
        The object, and the text of its row.
    class_of
        Returns the class of a number, or None.
    entry
        Reads the entry of a number.
    """
    data = json.loads(content)
    make = partial(Part, entry=lambda number: entry(number).of_object(label))
    parts = tuple(
        make(
            plane_of(part),
            box_of(part["box"]),
            int(part["area"]),
            int(part["n"]),
            math.nan if part["iou"] is None else float(part["iou"]),
            math.nan if part["stability"] is None else float(part["stability"]),
        )
        for part in data["parts"]
    )
    if not parts:
        raise ValueError("there are no pixels")
    kind = None if data["class"] is None else class_of(int(data["class"]))
    created, changed = (datetime.fromisoformat(data[name]) for name in ("created", "changed"))
    return LabelledObject(int(label), parts, created, changed, kind)


def _begin(created: datetime, changed: datetime, kind: LabelClass | None) -> str:
    """Return the JSON of an object up to its first part; made by hand, which is ten times as fast as `json.dumps`."""
    times = (time.isoformat(timespec="milliseconds") for time in (created, changed))
    number = "null" if kind is None else kind.number
    return '{{"created":"{}","changed":"{}","class":{},"parts":['.format(*times, number)


def _place_text(plane: Plane) -> str:
    return json.dumps({"axes": plane.axes, "index": plane.index}, separators=(",", ":"))[1:-1]


def _part_text(place: str, box: Sequence[int], numbers: tuple[int, int], scores: Sequence[float]) -> str:
    top, left, bottom, right = box
    area, entry = numbers
    return (
        f'{{{place},"box":[{top},{left},{bottom},{right}],"area":{area},"n":{entry},"iou":{_score(scores[0])},'
        f'"stability":{_score(scores[1])}}}'
    )


def _score(value: float) -> str:
    return repr(value) if math.isfinite(value) else "null"
