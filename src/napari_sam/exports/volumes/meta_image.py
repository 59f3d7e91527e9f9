"""MetaImage: volumes for ITK and its programs, compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.exports.options import ExportOptions
from napari_sam.exports.orientation import Orientation
from napari_sam.exports.source import ExportSource
from napari_sam.exports.volumes.nifti import FILE_AXES, label_dtype, refusal_of_axes
from napari_sam.files.libraries import library
from napari_sam.images.axes.anatomy import FLIP

COMPRESSION_LEVEL = 4


class MetaImage:
    """MetaImage, compressed; see `ExportFormat`."""

    name = "MetaImage"
    suffixes = (".mha",)
    holds = "pixels of all objects"
    loses = "classes and scores"
    place = "the position in the body where the image states it; else pixel sizes and origin, in millimeters"
    library = ("SimpleITK", "SimpleITK")

    def refusal(self, source: ExportSource) -> str | None:
        if "c" in source.axes:
            return "MetaImage has the axes x, y, z and time, and the labels have channels: export .ome.zarr."
        return refusal_of_axes(source, "MetaImage")

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        itk = library("SimpleITK", "SimpleITK", "MetaImage")
        letters = [letter for letter in FILE_AXES if letter in source.axes]
        labels = source.whole(self.name).astype(label_dtype(source.extents.highest), copy=False)
        pixels = labels.transpose([source.axes.index(letter) for letter in reversed(letters)])
        if "z" not in letters and ("t" in letters or _orientation(source).is_anatomical):
            pixels = np.expand_dims(pixels, -3)  # Time is the fourth axis, and a section through a body has a depth.
        image = itk.GetImageFromArray(np.ascontiguousarray(pixels), isVector=False)
        _set_place(image, source)
        writer = itk.ImageFileWriter()
        writer.SetImageIO("MetaImageIO")
        writer.SetFileName(str(path))
        writer.SetUseCompression(True)
        writer.SetCompressionLevel(COMPRESSION_LEVEL)
        writer.Execute(image)


def _orientation(source: ExportSource) -> Orientation:
    return source.place.orientation or Orientation.of_calibration(source.place.calibration)


def _set_place(image: Any, source: ExportSource) -> None:
    """Set the steps, the first position and the directions, to the left, to the back and to the head."""
    orientation = _orientation(source)
    # The axes of a microscope's image are those of the file, and not those of a body.
    matrix = FLIP @ orientation.ras if orientation.is_anatomical else orientation.ras
    count = image.GetDimension()
    steps, starts, directions = np.ones(count), np.zeros(count), np.eye(count)
    space = min(count, 3)
    steps[:space] = np.linalg.norm(matrix[:3, :3], axis=0)[:space]
    starts[:space] = matrix[:space, 3]
    directions[:space, :space] = matrix[:space, :space] / steps[:space]
    if "t" in source.axes and source.scale is not None:
        steps[3] = abs(source.scale[source.axes.index("t")])
    image.SetSpacing(steps.tolist())
    image.SetOrigin(starts.tolist())
    image.SetDirection(directions.ravel().tolist())
