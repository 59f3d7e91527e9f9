"""Read objects from COCO files, and from those of SA-1B: polygons, run lengths and boxes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.errors import PromptError
from napari_sam.exchange.importing.imported_object import ImportedObject, mask_of_rings, union
from napari_sam.files.paths import shortened

MAX_LISTED = 4


def is_coco(data: Any) -> bool:
    """Return whether JSON has the form of COCO or SA-1B."""
    return isinstance(data, dict) and isinstance(data.get("annotations"), list)


def read_coco(data: Mapping[str, Any], path: Path, image: str | None, shape: tuple[int, int]) -> list[ImportedObject]:
    """Return the objects of one image.

    Parameters
    ----------
    data
        The content of the file.
    path
        The file, for messages.
    image
        Name of the image's file, which the file may hold among others; or None.
    shape
        Rows and columns of the image.

    Raises
    ------
    PromptError
        The file does not hold the image, is of another size, or is damaged.
    """
    wanted = _image_id(data, path, image, shape)
    names: dict[Any, str] = {
        _key(entry.get("id")): str(entry.get("name") or "") for entry in _entries(data.get("categories"))
    }
    names[None] = ""  # Of annotations without a category.
    found = []
    for number, entry in enumerate(data["annotations"]):
        if not isinstance(entry, dict) or (wanted is not None and entry.get("image_id") != wanted):
            continue
        try:
            mask = _mask_of(entry, shape)
            scores = [entry.get(key) for key in ("predicted_iou", "score")]
            score = next((float(value) for value in scores if isinstance(value, int | float)), float("nan"))
            stable = entry.get("stability_score")
            stability = float(stable) if isinstance(stable, int | float) else None
        except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise PromptError(
                f"Annotation {number} of {shortened(path)} is damaged ({error}): export the file again."
            ) from error
        if mask is not None:
            mask = replace(mask, iou_prediction=score)
            mask = mask if stability is None else replace(mask, stability_score=stability)
            found.append(ImportedObject(mask, class_name=names.get(_key(entry.get("category_id"))) or None))
    return found


def _entries(listed: Any) -> list[dict[str, Any]]:
    """Return the entries of a list of the file, which some programs leave empty by null."""
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _key(number: Any) -> Any:
    """Return a number by which entries name each other; None for what is none."""
    return number if isinstance(number, int | float | str) else None


def _image_id(data: Mapping[str, Any], path: Path, image: str | None, shape: tuple[int, int]) -> Any:
    """Return the number of the image in the file; None where the file is of one image only."""
    listed = data.get("images", [data["image"]] if isinstance(data.get("image"), dict) else [])
    entries = _entries(listed)
    stem = None if image is None else Path(image).name
    named = [entry for entry in entries if stem and Path(str(entry.get("file_name"))).name == stem]
    if not named and stem:
        named = [entry for entry in entries if Path(str(entry.get("file_name"))).stem == Path(stem).stem]
    chosen = named or entries
    if len(chosen) > 1:
        names = ", ".join(str(entry.get("file_name")) for entry in entries[:MAX_LISTED])
        more = f" and {len(entries) - MAX_LISTED} more" if len(entries) > MAX_LISTED else ""
        raise PromptError(f"{shortened(path)} holds {names}{more}, and {stem or 'the image'} is none: name it so.")
    if not chosen:
        return None
    sides = chosen[0].get("height"), chosen[0].get("width")
    if all(isinstance(side, int) for side in sides) and sides != shape:
        raise PromptError(
            f"{shortened(path)} is of an image of {sides[0]} x {sides[1]} pixels and this one has {shape[0]} x "
            f"{shape[1]}: give the image that it is of."
        )
    return chosen[0].get("id", chosen[0].get("image_id")) if "images" in data else None


def _mask_of(entry: Mapping[str, Any], shape: tuple[int, int]) -> Mask | None:
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, Mapping):
        return mask_of_runs(segmentation, shape)
    if segmentation:
        # COCO counts from the corner of the first pixel.
        rings = (np.reshape(np.asarray(ring, float), (-1, 2))[:, ::-1] - 0.5 for ring in segmentation)
        return union([mask_of_rings([ring], shape) for ring in rings])
    x, y, width, height = (float(value) for value in entry["bbox"])
    box = Box(round(y), round(x), round(y + height), round(x + width)).intersection(Box.of_shape(shape))
    return None if box.is_empty else Mask(box, np.ones(box.pixel_shape, bool))


def mask_of_runs(segmentation: Mapping[str, Any], shape: tuple[int, int]) -> Mask | None:
    """Return the mask of run lengths, column by column, as numbers or as the text of COCO's own code.

    Raises
    ------
    ValueError
        They are of another size, or not as long as the image.
    """
    rows, cols = (int(side) for side in segmentation["size"])
    if (rows, cols) != shape:
        raise ValueError(f"it is of {rows} x {cols} pixels and the image of {shape[0]} x {shape[1]}")
    counts = segmentation["counts"]
    lengths = np.array(list(_decoded(counts)) if isinstance(counts, str) else counts, np.int64)
    # Each is checked before their sum, which may be more than its type holds.
    is_odd = lengths.ndim != 1 or ((lengths < 0) | (lengths > rows * cols)).any()
    if is_odd or lengths.sum() != rows * cols:
        raise ValueError("its run lengths do not cover the image")
    ends = np.cumsum(lengths)
    starts, stops = ends[0::2][: len(ends[1::2])], ends[1::2]
    is_run = stops > starts
    starts, stops = starts[is_run], stops[is_run]
    if not len(starts):
        return None
    left, right = int(starts[0] // rows), int((stops[-1] - 1) // rows) + 1
    return Mask(
        Box(0, left, rows, right), _filled(starts - left * rows, stops - left * rows, rows, right - left)
    ).tightened()


def _filled(starts: NDArray[np.int64], stops: NDArray[np.int64], rows: int, cols: int) -> NDArray[np.bool_]:
    changes = np.zeros(rows * cols + 1, np.int8)
    changes[starts] += 1
    np.subtract.at(changes, stops, 1)
    return np.ascontiguousarray(np.cumsum(changes[:-1], dtype=np.int8).astype(bool).reshape(cols, rows).T)


def _decoded(text: str) -> Iterator[int]:
    """Yield the run lengths of COCO's text: five bits a letter, each number but the first two less one before it."""
    known: list[int] = []
    at = 0
    while at < len(text):
        value, shift, is_more = 0, 0, True
        while is_more:
            letter = ord(text[at]) - 48
            if not 0 <= letter < 64:
                raise ValueError("its run lengths hold a letter that is none of COCO's")
            value |= (letter & 0x1F) << shift
            is_more = bool(letter & 0x20)
            at, shift = at + 1, shift + 5
            if not is_more and letter & 0x10:
                value |= -1 << shift
        known.append(value + (known[-2] if len(known) > 2 else 0))
        yield known[-1]


def parsed(text: str, path: Path) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    PromptError
        It is no JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{shortened(path)} is no JSON ({error}): export it again.") from error


__all__: Sequence[str] = ("is_coco", "mask_of_runs", "parsed", "read_coco")
