"""CompleteArea: parts of planes in which a user accepted every object, in a file beside the journal's database."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import LabelsError
from napari_sam.files.outputs import replacing

AREAS = "complete.json"


@dataclass(frozen=True, slots=True)
class CompleteArea:
    """A part of a plane that has no object without a label, so that the rest of it is background.

    Parameters
    ----------
    plane
        The plane.
    box
        The part of it.
    """

    plane: Plane
    box: Box


def complete_areas(folder: Path) -> list[CompleteArea]:
    """Return the areas that were marked in the journal of a folder.

    Raises
    ------
    LabelsError
        The file is damaged.
    """
    try:
        text = (folder / AREAS).read_text()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _damaged(folder, str(error.strerror)) from error
    try:
        return [_area(one) for one in json.loads(text)["areas"]]
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(folder, "it has another form") from error


def write_complete_areas(folder: Path, areas: Iterable[CompleteArea]) -> None:
    """Write the areas of a journal; each of them once.

    Raises
    ------
    OutputError
        The disk is full or refuses.
    """
    said = [
        {"axes": list(one.plane.axes), "index": list(one.plane.index), "box": list(one.box.as_tuple())}
        for one in dict.fromkeys(areas)
    ]
    with replacing(folder / AREAS) as path:
        path.write_text(json.dumps({"areas": said}, indent=1) + "\n")


def _area(said: dict[str, Any]) -> CompleteArea:
    row, col = (int(axis) for axis in said["axes"])
    top, left, bottom, right = (float(edge) for edge in said["box"])
    return CompleteArea(Plane((row, col), tuple(int(at) for at in said["index"])), Box(top, left, bottom, right))


def _damaged(folder: Path, reason: str) -> LabelsError:
    return LabelsError(f"{folder / AREAS} cannot be read ({reason}): delete it, and mark the complete regions again.")
