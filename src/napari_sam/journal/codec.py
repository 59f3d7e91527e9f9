"""Entries as the JSON of a line, and back."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, get_args

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Overlap
from napari_sam.core.prompts import Prompts
from napari_sam.core.rendering import Rendering
from napari_sam.errors import one_line
from napari_sam.journal.entries import Entry, LabelClass, MovedParts, PackedMask, Provenance, RemadePart, What
from napari_sam.journal.packing.objects import MAX_OBJECTS, PackedMasks, PackedObjects, PackedPrompts
from napari_sam.journal.patches import Patch

Json = dict[str, Any]
PROMPT_ARRAYS = ("counts", "points", "signs", "boxed", "boxes", "masked")


def to_json(entry: Entry) -> Json:
    """Return an entry as plain data; what is not set is left out."""
    kind = entry.label_class
    data = {
        "n": entry.number,
        "what": entry.what,
        "time": entry.time.isoformat(timespec="milliseconds"),
        "label": entry.label,
        "plane": _plane_json(entry.plane),
        "overlap": entry.overlap if entry.accepted or entry.objects else None,
        "prompts": prompts_json(entry.prompts),
        "made": _made_json(entry.made),
        "mask": _mask_json(entry.accepted),
        "patches": [_patch_json(patch) for patch in entry.patches] or None,
        "areas": entry.areas or None,
        "class": None if kind is None else {"n": kind.number, "name": kind.name, "color": kind.color},
        "of": entry.of,
        "group": entry.group,
        "objects": None if entry.objects is None else _objects_json(entry.objects),
        "moved": [_moved_json(moved) for moved in entry.moved] or None,
        "remade": [_remade_json(part) for part in entry.remade] or None,
        "parents": entry.parents or None,
    }
    return {key: value for key, value in data.items() if value is not None}


def from_json(data: Json) -> Entry:
    """Return the entry that `to_json` was given.

    Raises
    ------
    ValueError
        The data is no entry.
    """
    try:
        return _entry(data)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{type(error).__name__} {one_line(error)}") from error


def prompts_json(prompts: Prompts | None) -> Json | None:
    """Return prompts as plain data."""
    if prompts is None:
        return None
    data: Json = {"points": prompts.points.tolist(), "labels": prompts.labels.astype(int).tolist()}
    if prompts.box is not None:
        data["box"] = [float(edge) for edge in prompts.box.as_tuple()]
    if prompts.mask is not None:
        data["mask"] = _mask_json(PackedMask.of(prompts.mask))
    return data


def _entry(data: Json) -> Entry:
    what, kind, made = data["what"], data.get("class"), data.get("made")
    if what not in get_args(What) or data.get("overlap", "keep") not in get_args(Overlap):
        raise ValueError(f"{what!r} with overlap {data.get('overlap')!r} is nothing that can happen")
    has_many = what in ("accept_all", "accept_parts")
    if has_many != ("objects" in data) or (has_many and "plane" not in data):
        raise ValueError(f"{what!r} has no plane, or other objects than it can have")
    return Entry(
        number=int(data["n"]),
        what=what,
        time=datetime.fromisoformat(data["time"]),
        label=None if data.get("label") is None else int(data["label"]),
        plane=None if data.get("plane") is None else plane_of(data["plane"]),
        overlap=data.get("overlap", "keep"),
        prompts=_prompts(data.get("prompts")),
        made=None if made is None else _made(made),
        accepted=_mask(data.get("mask")),
        patches=tuple(_patch(patch) for patch in data.get("patches", ())),
        areas=tuple((int(label), int(patch), int(delta)) for label, patch, delta in data.get("areas", ())),
        label_class=None if kind is None else LabelClass(int(kind["n"]), str(kind["name"]), _color(kind["color"])),
        of=data.get("of"),
        group=None if data.get("group") is None else int(data["group"]),
        objects=None if data.get("objects") is None else _objects(data["objects"]),
        moved=tuple(_moved(moved) for moved in data.get("moved", ())),
        remade=tuple(_remade(part) for part in data.get("remade", ())),
        parents=tuple((int(child), int(parent)) for child, parent in data.get("parents", ())),
    )


def _plane_json(plane: Plane | None) -> Json | None:
    return None if plane is None else {"axes": plane.axes, "index": plane.index}


def plane_of(data: Json) -> Plane:
    """Return the plane of a JSON object; raises ValueError, TypeError or KeyError where it is none."""
    row, col = data["axes"]
    plane = Plane((int(row), int(col)), tuple(int(at) for at in data["index"]))
    if not {*plane.axes} <= {*range(len(plane.index))} or plane.axes[0] == plane.axes[1] or min(plane.index) < 0:
        raise ValueError(f"{plane.index} along {plane.axes} is no plane")
    return plane


def _mask_json(mask: PackedMask | None) -> Json | None:
    if mask is None:
        return None
    data: Json = {"box": mask.box.as_tuple(), "bits": mask.bits}
    for name in ("iou_prediction", "stability_score"):
        if not math.isnan(value := getattr(mask, name)):
            data[name] = float(value)
    return data


def _mask(data: Json | None) -> PackedMask | None:
    if data is None:
        return None
    scores = [float(data.get(name, "nan")) for name in ("iou_prediction", "stability_score")]
    return PackedMask(box_of(data["box"]), str(data["bits"]), *scores)


def _patch_json(patch: Patch) -> Json:
    return {
        **(_plane_json(patch.plane) or {}),
        "box": patch.box.as_tuple(),
        "bits": patch.bits,
        "before": patch.before,
        "after": patch.after,
    }


def _patch(data: Json) -> Patch:
    before, after = (tuple(str(part) for part in data[name]) for name in ("before", "after"))
    return Patch(plane_of(data), box_of(data["box"]), str(data["bits"]), before, after)


def _prompts(data: Json | None) -> Prompts | None:
    if data is None:
        return None
    mask = _mask(data.get("mask"))
    box = None if data.get("box") is None else Box(*(float(edge) for edge in data["box"]))
    points = np.array(data["points"], np.float64).reshape(-1, 2)
    return Prompts(points, np.array(data["labels"], bool), box, None if mask is None else mask.mask)


def _moved_json(moved: MovedParts) -> Json:
    return {"label": moved.label, "to": moved.to, "planes": [_plane_json(plane) for plane in moved.planes]}


def _moved(data: Json) -> MovedParts:
    label, to = int(data["label"]), int(data["to"])
    if label < 1 or to < 0:
        raise ValueError(f"parts are moved from {label} to {to}")
    return MovedParts(label, to, tuple(plane_of(plane) for plane in data["planes"]))


def _remade_json(part: RemadePart) -> Json:
    return {"label": part.label, **(_plane_json(part.plane) or {}), "mask": _mask_json(part.accepted)}


def _remade(data: Json) -> RemadePart:
    accepted = _mask(data["mask"])
    if accepted is None or int(data["label"]) < 1:
        raise ValueError("a part has no mask or no label")
    return RemadePart(int(data["label"]), plane_of(data), accepted)


def _objects_json(objects: PackedObjects) -> Json:
    prompts = objects.prompts
    data: Json = {
        "labels": objects.labels,
        **_masks_json(objects.masks),
        "scores": objects.scores,
        "areas": objects.areas,
    }
    if prompts is not None:
        data["prompts"] = {name: getattr(prompts, name) for name in PROMPT_ARRAYS}
        if prompts.masks is not None:
            data["prompts"]["masks"] = _masks_json(prompts.masks)
    return data


def _objects(data: Json) -> PackedObjects:
    labels = tuple((int(first), int(count)) for first, count in data["labels"])
    masks, prompts = _masks(data), data.get("prompts")
    if any(first < 1 or count < 1 for first, count in labels) or sum(n for _, n in labels) != masks.count:
        raise ValueError("there are other labels than masks")
    if prompts is not None:
        shapes = prompts.get("masks")
        arrays = {name: str(prompts[name]) for name in PROMPT_ARRAYS}
        prompts = PackedPrompts(**arrays, masks=None if shapes is None else _masks(shapes))
    return PackedObjects(labels, masks, str(data["scores"]), str(data["areas"]), prompts)


def _masks_json(masks: PackedMasks) -> Json:
    return {"count": masks.count, "boxes": masks.boxes, "bits": masks.bits}


def _masks(data: Json) -> PackedMasks:
    count = int(data["count"])
    if not 0 < count <= MAX_OBJECTS:
        raise ValueError(f"{count} is no number of objects")
    return PackedMasks(count, str(data["boxes"]), str(data["bits"]))


def _made_json(made: Provenance | None) -> Json | None:
    if made is None:
        return None
    data: Json = {
        "model": made.model,
        "digest": made.model_digest,
        "level": made.level,
        "tile": None if made.tile is None else [float(edge) for edge in made.tile.as_tuple()],
        "downsample": made.downsample,
        "candidate": made.candidate,
        "channels": made.channels or None,
        "propagated": made.is_propagated or None,
    }
    if made.rendering is not None:
        look = made.rendering
        data |= {"limits": look.limits, "gamma": look.gamma, "colors": look.colors}
    return {key: value for key, value in data.items() if value is not None}


def _made(data: Json) -> Provenance:
    gamma, colors = data.get("gamma", 1.0), data.get("colors")
    rendering = None
    if "limits" in data:
        rendering = Rendering(
            tuple((float(low), float(high)) for low, high in data["limits"]),
            tuple(float(power) for power in gamma) if isinstance(gamma, list) else float(gamma),
            None if colors is None else tuple(_color(color) for color in colors),
        )
    return Provenance(
        model=data.get("model"),
        model_digest=data.get("digest"),
        level=data.get("level"),
        tile=None if data.get("tile") is None else Box(*(float(edge) for edge in data["tile"])),
        downsample=data.get("downsample"),
        candidate=data.get("candidate"),
        rendering=rendering,
        channels=tuple(int(channel) for channel in data.get("channels", ())),
        is_propagated=bool(data.get("propagated", False)),
    )


def _color(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def box_of(edges: Any) -> Box:
    """Return the box of a list of its edges; raises ValueError or TypeError where it is none."""
    top, left, bottom, right = (int(edge) for edge in edges)
    if min(top, left) < 0 or bottom < top or right < left:
        raise ValueError(f"({top}, {left}, {bottom}, {right}) is no box")
    return Box(top, left, bottom, right)
