"""NRRD: volumes for 3D Slicer and ITK, with the names of the classes as segments."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.exports.options import ExportOptions
from napari_sam.exports.orientation import Orientation
from napari_sam.exports.source import ExportSource
from napari_sam.exports.volumes.nifti import FILE_AXES, label_dtype, refusal_of_axes
from napari_sam.files.libraries import library

# Slicer lists every segment by name.
MAX_SEGMENTS = 1000


class Nrrd:
    """NRRD, compressed; see `ExportFormat`."""

    name = "NRRD"
    suffixes = (".nrrd",)
    holds = "pixels of all objects; of up to 1000 objects the names and classes as segments of 3D Slicer"
    loses = "scores; letters of names that are not ASCII"
    place = "the position in the body where the image states it; else pixel sizes and origin"
    library = ("nrrd", "pynrrd")

    def refusal(self, source: ExportSource) -> str | None:
        return refusal_of_axes(source, "NRRD")

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        nrrd = library("nrrd", "pynrrd", "NRRD")
        letters = [letter for letter in FILE_AXES if letter in source.axes]
        labels = source.whole(self.name).astype(label_dtype(source.extents.highest), copy=False)
        pixels = labels.transpose([source.axes.index(letter) for letter in letters])
        header = {**_place(source, letters), **_segments(source)}
        with path.open("wb") as file:
            nrrd.write(file, pixels, header, index_order="F")


def _place(source: ExportSource, letters: list[str]) -> dict[str, Any]:
    """Return the fields of position; axes that are none of space have no direction."""
    orientation = source.place.orientation or Orientation.of_calibration(source.place.calibration)
    is_volume = set("xyz") <= set(letters)
    # A flat image has a place in the plane only, unless it is a section through a body.
    rows = (
        [0, 1, 2]
        if is_volume or orientation.is_anatomical
        else [at for at, name in enumerate("xyz") if name in letters]
    )
    directions = [
        orientation.ras[rows, "xyz".index(letter)] if letter in "xyz" else np.full(len(rows), np.nan)
        for letter in letters
    ]
    fields: dict[str, Any] = {
        "kinds": ["domain" if letter in "xyz" else "time" if letter == "t" else "list" for letter in letters],
        "space directions": np.array(directions),
        "space origin": orientation.ras[rows, 3],
    }
    if orientation.is_anatomical:
        return {"space": "right-anterior-superior", **fields}
    return {"space dimension": len(rows), **fields, "space units": ["mm"] * len(rows)}


def _segments(source: ExportSource) -> dict[str, str]:
    """Return the names and colors of objects, as 3D Slicer reads them."""
    extents = source.extents
    fields: dict[str, str] = {}
    if len(extents) > MAX_SEGMENTS:
        return fields
    for number, label in enumerate(extents.labels.tolist()):
        kind = source.class_of(label)
        name = str(label) if kind is None else f"{label} {kind.name}"
        fields[f"Segment{number}_ID"] = f"object_{label}"
        fields[f"Segment{number}_Name"] = _ascii(name)
        fields[f"Segment{number}_LabelValue"] = str(label)
        fields[f"Segment{number}_Layer"] = "0"
        if kind is not None:
            fields[f"Segment{number}_Color"] = " ".join(f"{part:.4f}" for part in kind.color)
    return fields


def _ascii(name: str) -> str:
    """Return a name in the letters that a header may have."""
    plain = unicodedata.normalize("NFKD", " ".join(name.split()))
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).encode("ascii", "replace").decode()
