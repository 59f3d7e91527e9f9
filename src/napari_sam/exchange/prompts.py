"""Read and write prompt files: the prompts of many objects as CSV or GeoJSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from skimage.measure import find_contours

from napari_sam.core.masks import Mask
from napari_sam.errors import OutputError, PromptError
from napari_sam.exchange.object_prompts import ObjectPrompts, Point
from napari_sam.exchange.prompts_csv import format_csv, parse_csv
from napari_sam.exchange.prompts_geojson import format_geojson, parse_geojson
from napari_sam.files.outputs import replacing
from napari_sam.files.paths import read_text, shortened
from napari_sam.images.axes.georeference import Georeference
from napari_sam.journal.objects import LabelledObject

SUFFIXES = (".csv", ".geojson", ".json")


def read_prompts(
    path: Path, place: Georeference | None = None, axes: tuple[str, str] = ("y", "x")
) -> list[ObjectPrompts]:
    """Read the prompts of many objects; see `parse_csv` and `parse_geojson` for what may be in the file.

    Parameters
    ----------
    path
        Ends in .csv, .geojson or .json.
    place
        Where the image lies, for GeoJSON.
    axes
        Names of the axes that are the rows and columns of the planes, for CSV.

    Returns
    -------
    list of ObjectPrompts
        One for each plane of each object, in the order in which the file names them first.

    Raises
    ------
    PromptError
        The file is missing, of another form, holds no prompts, or lies in another reference system than the image.
    """
    path = Path(path)
    check_prompt_file(path)
    text = read_text(path, "prompt file", PromptError)
    is_csv = path.suffix.lower() == ".csv"
    objects = parse_csv(text, path.name, axes) if is_csv else parse_geojson(text, path.name, place)
    if not objects:
        raise PromptError(f"{shortened(path)} holds no prompts: give it at least one point, box or polygon.")
    return objects


def write_prompts(path: Path, objects: Sequence[ObjectPrompts], place: Georeference | None = None) -> None:
    """Write the prompts of many objects; polygons go into GeoJSON only.

    Parameters
    ----------
    path
        Ends in .csv, .geojson or .json; replaced if it exists.
    objects
        In any order.
    place
        Where the image lies, for GeoJSON.

    Raises
    ------
    PromptError, OutputError
        The ending is unknown, a polygon cannot go into the file, or it cannot be written.
    """
    check_prompt_file(path)
    is_csv = path.suffix.lower() == ".csv"
    if is_csv and any(one.polygons for one in objects):
        raise OutputError(f"{path.name} cannot hold the shapes of mask prompts: let the name end in .geojson.")
    text = format_csv(objects) if is_csv else format_geojson(objects, place)
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8", newline="")


def check_prompt_file(path: Path) -> None:
    """Refuse a name that does not say which form the file has.

    Raises
    ------
    PromptError
        Its ending is unknown.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise PromptError(f"{shortened(path.name)} is no prompt file: let its name end in {', '.join(SUFFIXES)}.")


def prompts_of(objects: Iterable[LabelledObject]) -> list[ObjectPrompts]:
    """Return the prompts of the objects of a journal, one for each plane; the mask stands for prompts that are unknown.

    Mask prompts become the outlines of their parts.
    """
    found = []
    for one in objects:
        for part in one.parts:
            plane, prompts = part.plane, part.prompts
            mask = part.accepted.mask if prompts is None else prompts.mask
            points = () if prompts is None else tuple((float(row), float(col)) for row, col in prompts.points)
            box = None if prompts is None or prompts.box is None else prompts.box.as_tuple()
            found.append(
                ObjectPrompts(
                    name=str(one.label),
                    points=points,
                    labels=() if prompts is None else tuple(bool(label) for label in prompts.labels),
                    box=box,
                    polygons=() if mask is None else outlines(mask),
                    plane=plane.position or None,
                    class_name=None if one.label_class is None else one.label_class.name,
                )
            )
    return found


def outlines(mask: Mask) -> tuple[tuple[Point, ...], ...]:
    """Return the outer outline of each part of a mask as corners (row, col), through the pixels' outer centres."""
    top, left = mask.box.top, mask.box.left
    found = []
    for line in find_contours(np.pad(mask.pixels, 1).astype(float), 0.5):
        corners = line[:-1] + np.array([top - 1, left - 1])
        # Around holes the object lies on the other side, and the signed area is of the other sign.
        rows, cols = corners.T
        area = np.sum(rows * np.roll(cols, -1) - cols * np.roll(rows, -1))
        if area < 0 and len(corners) >= 3:
            found.append(tuple((float(row), float(col)) for row, col in corners))
    return tuple(found)
