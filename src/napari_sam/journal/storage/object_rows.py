"""Rows of objects: their text in the table, which is changed as text where an object gets one part more."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from napari_sam.core.geometry import Plane
from napari_sam.journal.codec import box_of, plane_of
from napari_sam.journal.entries import Entry, LabelClass
from napari_sam.journal.objects import LabelledObject, Part

# An object may have thousands of parts, so what changes one of them does not parse the others.
_BEGIN = re.compile(r'\{"created":"([^"]+)","changed":"([^"]+)","class":(null|\d+),(?:"parent":(\d+),)?"parts":\[')
_AREA = re.compile(r'"area":(-?\d+)')
_PART = '{"axes":'
_END = "]}"


def to_content(found: LabelledObject) -> str:
    """Return an object as the text of its row."""
    number = None if found.label_class is None else found.label_class.number
    begin = _begin(_time_text(found.created), _time_text(found.changed), number, found.parent)
    return f"{begin}{','.join(_text_of(part, found.label) for part in found.parts)}{_END}"


def with_part(label: int, content: str, part: Part, changed: datetime) -> str | None:
    """Return the text of an object that gets a part at the end; None where it has one in that plane already."""
    begin = _BEGIN.match(content)
    if begin is None or not content.endswith(_END) or has_plane(content, part.plane):
        return None
    first = _with_changed(begin, _time_text(changed))
    return f"{first}{content[begin.end() : -len(_END)]},{_text_of(part, label)}{_END}"


def has_plane(content: str, plane: Plane) -> bool:
    """Return whether the text of an object has a part in a plane."""
    return f"{{{_place_text(plane)}," in content


def changed_of(content: str) -> str:
    """Return when an object was changed last, as its text says it; raises ValueError where it is none."""
    begin = _BEGIN.match(content)
    if begin is None:
        raise ValueError("it is no object")
    return begin[2]


def without_last_part(content: str, changed: str) -> str:
    """Return what `with_part` was given; raises ValueError where that cannot be.

    Parameters
    ----------
    content
        What it has returned.
    changed
        When the object was changed last before; see `changed_of`.
    """
    begin, last = _BEGIN.match(content), content.rfind(f",{_PART}")
    if begin is None or last < begin.end():
        raise ValueError("there is no part more than one")
    first = _with_changed(begin, changed)
    return f"{first}{content[begin.end() : last]}{_END}"


def row_of(label: int, content: str) -> tuple[Any, ...]:
    """Return the row of an object in the table."""
    begin = content.index("[") + 1
    kind = json.loads(f"{content[:begin]}{_END}")
    last = json.loads(content[content.rindex(_PART) : -len(_END)])
    area = sum(map(int, _AREA.findall(content, begin)))
    hidden = [at for axis, at in enumerate(last["index"]) if axis not in last["axes"]]
    place = " ".join(f"{at:012d}" for at in hidden)
    return label, kind["class"], area, last["iou"], place, kind["changed"], content, zlib.crc32(content.encode())


def new_contents(entry: Entry) -> Iterator[tuple[int, int, float, str]]:
    """Yield label, area, predicted IoU and the text of the row of each object that an entry has made with others.

    Raises
    ------
    LabelsError
        The journal is damaged.
    """
    if entry.objects is None or entry.plane is None:
        return
    number, time = None if entry.label_class is None else entry.label_class.number, _time_text(entry.time)
    begin, place = _begin(time, time, number), _place_text(entry.plane)
    end = _end_of(entry.is_propagated)
    for label, box, area, scores in zip(entry.labels, *entry.objects.table(), strict=True):
        yield label, area, scores[0], f"{begin}{_part_text(place, box, (area, entry.number), scores)}{end}{_END}"


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
    parts = tuple(_part_of(label, part, entry) for part in data["parts"])
    if not parts:
        raise ValueError("there are no pixels")
    kind = None if data["class"] is None else class_of(int(data["class"]))
    created, changed = (datetime.fromisoformat(data[name]) for name in ("created", "changed"))
    parent = data.get("parent")
    return LabelledObject(int(label), parts, created, changed, kind, None if parent is None else int(parent))


def part_in(label: int, content: str, plane: Plane, entry: Callable[[int], Entry]) -> Part | None:
    """Return the part of an object in a plane, or None, without parsing the others; errors as in `from_content`."""
    begin = content.find(f"{{{_place_text(plane)},")
    return None if begin < 0 else _part_of(label, json.loads(content[begin : content.index("}", begin) + 1]), entry)


def _part_of(label: int, data: dict[str, Any], entry: Callable[[int], Entry]) -> Part:
    return Part(
        plane_of(data),
        box_of(data["box"]),
        int(data["area"]),
        int(data["n"]),
        math.nan if data["iou"] is None else float(data["iou"]),
        math.nan if data["stability"] is None else float(data["stability"]),
        entry,
        int(data.get("of", label)),
        data.get("propagated") == 1,
    )


def _with_changed(begin: re.Match[str], changed: str) -> str:
    """Return the JSON of an object up to its first part, with another time of its last change."""
    _, _, kind, parent = begin.groups()
    return _begin(begin[1], changed, None if kind == "null" else int(kind), None if parent is None else int(parent))


def _begin(created: str, changed: str, kind: int | None, parent: int | None = None) -> str:
    """Return the JSON of an object up to its first part; made by hand, which is ten times as fast as `json.dumps`."""
    number = "null" if kind is None else kind
    origin = "" if parent is None else f'"parent":{parent},'
    return f'{{"created":"{created}","changed":"{changed}","class":{number},{origin}"parts":['


def _time_text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")


def _place_text(plane: Plane) -> str:
    return json.dumps({"axes": plane.axes, "index": plane.index}, separators=(",", ":"))[1:-1]


def _text_of(part: Part, label: int) -> str:
    """Return the JSON of a part of the object of a label."""
    text = _part_text(
        _place_text(part.plane),
        [int(edge) for edge in part.box.as_tuple()],
        (int(part.area), part.number),
        (float(part.iou_prediction), float(part.stability_score)),
    )
    origin = "" if part.label == label else f',"of":{part.label}'
    return f"{text}{origin}{_end_of(part.says_propagated)}"


def _end_of(is_propagated: bool) -> str:
    """Return the end of the JSON of a part; without what it says, an entry would be read for each part."""
    return ',"propagated":1}' if is_propagated else "}"


def _part_text(place: str, box: Sequence[int], numbers: tuple[int, int], scores: Sequence[float]) -> str:
    """Return the JSON of a part without its end."""
    top, left, bottom, right = box
    area, entry = numbers
    return (
        f'{{{place},"box":[{top},{left},{bottom},{right}],"area":{area},"n":{entry},"iou":{_score(scores[0])},'
        f'"stability":{_score(scores[1])}'
    )


def _score(value: float) -> str:
    return repr(value) if math.isfinite(value) else "null"
