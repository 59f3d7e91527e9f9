"""COCO and SA-1B: run lengths with categories and scores, as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from napari_sam.exports.instances.run_lengths import RunLengths, run_lengths
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource, PlaneLabels

Json = dict[str, Any]
# The category of objects without a class.
NO_CLASS = "object"


class Coco:
    """Annotations of COCO; see `ExportFormat`."""

    name = "COCO"
    suffixes = (".json", ".coco.json")
    holds = (
        "pixels of all objects as compressed run lengths, with holes; category, score and box; an image for each plane"
    )
    loses = "colors of classes"
    place = "pixels"
    library = None

    def refusal(self, source: ExportSource) -> str | None:
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        images: list[Json] = []
        annotations: list[Json] = []
        numbers = _category_numbers(source)
        for plane in source.planes():
            images.append(_image_of(plane, len(images) + 1))
            for runs in run_lengths(plane):
                kind = source.class_of(runs.label)
                annotation: Json = {"id": len(annotations) + 1, "image_id": len(images), "iscrowd": 0}
                annotation["category_id"] = numbers[NO_CLASS if kind is None else kind.name]
                annotation |= {**_pixels(plane, runs), "object": runs.label}
                if (score := _scores(plane, runs.label)[0]) is not None:
                    annotation["score"] = score
                annotations.append(annotation)
        if not images:
            rows, cols = (source.shape[axis] for axis in source.plane_axes)
            images.append({"id": 1, "file_name": source.name, "width": cols, "height": rows})
        categories = [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()]
        _write(path, {"images": images, "annotations": annotations, "categories": categories})


class Sa1b:
    """The JSON of Segment Anything's automatic masks; see `ExportFormat`."""

    name = "SA-1B"
    suffixes = (".sa1b.json",)
    holds = "pixels of all objects as compressed run lengths, predicted IoU, stability and the prompted points"
    loses = "classes"
    place = "pixels"
    library = None

    def refusal(self, source: ExportSource) -> str | None:
        if any(source.shape[axis] > 1 for axis in source.other_axes):
            return "The JSON of SA-1B is of one plane, and the labels have several: export .json, as COCO."
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        annotations = []
        for plane in source.planes():
            for runs in run_lengths(plane):
                iou, stability = _scores(plane, runs.label)
                annotations.append(
                    {
                        "id": runs.label,
                        **_pixels(plane, runs),
                        "predicted_iou": iou,
                        "stability_score": stability,
                        "point_coords": _points(plane, runs.label),
                        "crop_box": [0, 0, plane.shape[1], plane.shape[0]],
                    }
                )
        rows, cols = (source.shape[axis] for axis in source.plane_axes)
        image = {"image_id": 1, "width": cols, "height": rows, "file_name": source.name}
        _write(path, {"image": image, "annotations": annotations})


def _category_numbers(source: ExportSource) -> dict[str, int]:
    """Return the number of each category by its name: those of the classes, and one more for objects without any."""
    labels = source.extents.labels.tolist()
    kinds = {kind.number: kind.name for label in labels if (kind := source.class_of(label)) is not None}
    numbers = {name: number for number, name in sorted(kinds.items())}
    if NO_CLASS not in numbers and (not numbers or any(source.class_of(label) is None for label in labels)):
        numbers[NO_CLASS] = max(numbers.values(), default=0) + 1
    return numbers


def _image_of(plane: PlaneLabels, number: int) -> Json:
    rows, cols = plane.shape
    return {"id": number, "file_name": plane.source.name, "width": cols, "height": rows, **plane.position}


def _pixels(plane: PlaneLabels, runs: RunLengths) -> Json:
    segmentation = {"size": list(plane.shape), "counts": runs.text}
    return {"segmentation": segmentation, "area": runs.area, "bbox": list(runs.box)}


def _scores(plane: PlaneLabels, label: int) -> tuple[float | None, float | None]:
    part = plane.source.part_of(label, plane.plane)
    if part is None:
        return None, None
    scores = (part.iou_prediction, part.stability_score)
    iou, stability = (round(score, 6) if math.isfinite(score) else None for score in scores)
    return iou, stability


def _points(plane: PlaneLabels, label: int) -> list[list[float]]:
    """Return the points on an object that it was prompted by, (x, y)."""
    part = plane.source.part_of(label, plane.plane)
    prompts = None if part is None else part.prompts
    if prompts is None:
        return []
    return [[float(col), float(row)] for (row, col), sign in zip(prompts.points, prompts.labels, strict=True) if sign]


def _write(path: Path, data: Json) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(data, file, ensure_ascii=False, allow_nan=False)
