"""DICOM segmentations: a segment for each object of a DICOM image, beside which PACS and viewers show it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, LabelsError, OutputError, first_line
from napari_sam.exports.extents import compact
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource
from napari_sam.files.libraries import library
from napari_sam.images.dicom.series import frames_in_order, frames_of_files
from napari_sam.images.files.inner_names import split_name

# Segments are numbered by 16 bits.
MAX_SEGMENTS = 2**16 - 1
# Number of the new series, beyond those of a scanner.
SERIES_NUMBER = 1000
# Code, scheme and meaning of what a segment is, whose kind nobody states.
STRUCTURE = ("123037004", "SCT", "Anatomical Structure")
ARTIFICIAL_INTELLIGENCE = ("123110", "DCM", "Artificial Intelligence")


class DicomSegmentation:
    """A segmentation of a DICOM image; see `ExportFormat`."""

    name = "DICOM segmentation"
    suffixes = (".dcm",)
    holds = "pixels of all objects as segments, with label, class and color; patient and study of the image"
    loses = "scores"
    place = "frame of reference, position and planes of the DICOM image that the labels are of"
    library = ("highdicom", "highdicom")

    def refusal(self, source: ExportSource) -> str | None:
        if not source.place.dicom:
            return "A DICOM segmentation is of a DICOM image, and this is none: export .nii.gz or .nrrd."
        if not set(source.axes) <= set("zyx"):
            return f"A DICOM segmentation has the axes x, y and z, and the labels {source.axes}: export .ome.zarr."
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        highdicom = library("highdicom", "highdicom", self.name)
        labels, numbers = compact(source.whole(self.name))
        if not 0 < len(labels) <= MAX_SEGMENTS:
            raise LabelsError(
                f"A DICOM segmentation holds 1 to {MAX_SEGMENTS} objects, and there are {len(labels)}: choose others."
            )
        order = [source.axes.index(letter) for letter in "zyx" if letter in source.axes]
        planes = numbers.transpose(order).reshape(-1, *(source.shape[axis] for axis in order[-2:]))
        try:
            datasets, planes = _source_images(source, planes)
            made = highdicom.seg.Segmentation(
                source_images=datasets,
                pixel_array=planes.astype(np.uint8 if len(labels) < 2**8 else np.uint16),
                segmentation_type="BINARY",
                segment_descriptions=_segments(highdicom, source, labels),
                series_instance_uid=highdicom.UID(),
                series_number=SERIES_NUMBER,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="napari-sam",
                manufacturer_model_name="napari-sam",
                software_versions=version("napari-sam"),
                device_serial_number="0",
                series_description="napari-sam",
            )
            made.save_as(path)
        except (ImageError, LabelsError, OSError):
            raise
        except Exception as error:  # It raises many kinds for images that lack what the standard asks for.
            raise OutputError(
                f"The DICOM image does not say what a segmentation of it needs ({first_line(error)}): export .nii.gz."
            ) from error


def _source_images(source: ExportSource, planes: NDArray[Any]) -> tuple[list[Any], NDArray[Any]]:
    """Return the files of the image without their pixels, and the planes in the order of their frames."""
    import pydicom

    files = source.place.dicom
    order = frames_of_files(files) if len(files) > 1 else frames_in_order(*split_name(files[0]))[2]
    if len(order.frames) > 1 or len(order.frames[0]) != len(planes):
        raise LabelsError("The labels are not of the planes of the DICOM image: name the image that they are of.")
    frames = order.frames[0]
    paths = list(dict.fromkeys(frame.path for frame in frames))
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    if len(paths) == len(frames):
        return datasets, planes
    return datasets, planes[np.argsort([frame.number for frame in frames])]


def _segments(highdicom: Any, source: ExportSource, labels: NDArray[np.int64]) -> list[Any]:
    """Return the description of each segment."""
    code = highdicom.sr.CodedConcept
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="napari-sam", family=code(*ARTIFICIAL_INTELLIGENCE), version=version("napari-sam")
    )
    found = []
    for number, label in enumerate(labels.tolist(), 1):
        kind = source.class_of(label)
        color = None if kind is None else [round(255 * part) for part in kind.color]
        found.append(
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=str(label) if kind is None else f"{label} {kind.name}"[:64],
                segmented_property_category=code(*STRUCTURE),
                segmented_property_type=code(*STRUCTURE),
                algorithm_type="SEMIAUTOMATIC",
                algorithm_identification=algorithm,
                tracking_uid=highdicom.UID(),
                tracking_id=str(label),
                display_color=None if color is None else highdicom.color.CIELabColor.from_rgb(*color),
            )
        )
    return found
