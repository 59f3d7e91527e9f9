"""ImageJ ROIs: outlines in a zip for the ROI manager."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.exports.options import ExportOptions
from napari_sam.exports.polygons.coordinates import Coordinates
from napari_sam.exports.polygons.objects import ObjectPolygon, object_polygons
from napari_sam.exports.source import ExportSource
from napari_sam.files.libraries import library

# Commands of a path: go to a point, draw a line to one, and close the ring.
MOVE, LINE, CLOSE = 0, 1, 4
# A zip counts the bytes of a name by 16 bits, and a disk mostly by 8 when it is unpacked.
MAX_CLASS_LETTERS = 50


class ImagejRois:
    """A zip of ROIs for ImageJ and Fiji; see `ExportFormat`."""

    name = "ImageJ ROIs"
    suffixes = (".zip",)
    holds = "outlines, composite where an object has holes or parts; class as name and color, plane"
    loses = "scores"
    place = "pixels"
    library = ("roifile", "roifile")

    def refusal(self, source: ExportSource) -> str | None:
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        roifile = library("roifile", "roifile", "A zip of ROIs")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for found in object_polygons(source, options, Coordinates()):
                name = _name_of(found)
                file.writestr(f"{name}.roi", _roi(roifile, found, name).tobytes())


def _roi(roifile: Any, found: ObjectPolygon, name: str) -> Any:
    rings = [ring for part in found.outline.polygons for ring in part]
    whole = all(np.array_equal(ring, np.round(ring)) for ring in rings)
    points = np.concatenate(rings)
    roi = roifile.ImagejRoi.frompoints(points.astype(np.int64) if whole and len(rings) == 1 else points, name=name)
    roi.roitype = roifile.ROI_TYPE.POLYGON
    if len(rings) > 1:
        roi.roitype, roi.subtype = roifile.ROI_TYPE.RECT, roifile.ROI_SUBTYPE.UNDEFINED
        roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings]).astype(np.float32)
        roi.shape_roi_size = len(roi.multi_coordinates)
        roi.integer_coordinates = roi.subpixel_coordinates = None
        roi.n_coordinates = 0
        roi.options &= ~roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
        low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
        roi.left, roi.top, roi.right, roi.bottom = (int(edge) for edge in (*low, *high))
    position = found.plane.position
    if len(position) == 1 and "c" not in position:
        roi.position = next(iter(position.values())) + 1
    for letter, at in position.items():
        setattr(roi, f"{letter}_position", at + 1)
    if found.label_class is not None:
        roi.stroke_color = bytes([255, *(round(255 * part) for part in found.label_class.color)])
    return roi


def _path(ring: Any) -> Any:
    moves = np.column_stack([np.full(len(ring), LINE), ring]).astype(np.float64)
    moves[0, 0] = MOVE
    return np.append(moves.ravel(), CLOSE)


def _name_of(found: ObjectPolygon) -> str:
    """Return a name that is also one of a file."""
    position = "".join(f"-{letter}{at:04d}" for letter, at in found.plane.position.items())
    kind = "" if found.label_class is None else f" {found.label_class.name[:MAX_CLASS_LETTERS]}"
    return f"{found.label:05d}{position}" + "".join(
        "_" if letter in '/\\:*?"<>|' or not letter.isprintable() else letter for letter in kind
    )
