"""Headers of DICOM files: what they say about pixels, place and time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, first_line

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
# What has pixels that are no image of its own.
NO_IMAGES = {
    WHOLE_SLIDE: "a whole slide in tiles: convert it to OME-TIFF or OME-Zarr, for example with bioformats2raw",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation: convert it to NIfTI, for example with 3D Slicer or highdicom",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map: convert it to NIfTI, for example with 3D Slicer or highdicom",
}


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of a DICOM file.

    Parameters
    ----------
    path
        The file.
    number
        Number of the frame in the file, counted from 0.
    position
        Center of its first pixel in millimeters to left, posterior and superior; or None.
    order
        What puts frames at one position into the order of time.
    """

    path: Path
    number: int
    position: tuple[float, float, float] | None
    order: tuple[float, ...]


def read_header(path: Path) -> Any:
    """Return the header of a DICOM file without its pixels.

    Raises
    ------
    ImageError
        It is no DICOM file, damaged, or holds no image.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        # Large elements, such as tables and pixels of icons, stay in the file.
        dataset = pydicom.dcmread(path, stop_before_pixels=True, defer_size=2**16)
        kind, sides = str(dataset.get("SOPClassUID", "")), (dataset.get("Rows"), dataset.get("Columns"))
    except InvalidDicomError as error:
        raise ImageError(f"{path} does not begin like a DICOM file: copy or export it again.") from error
    except Exception as error:  # pydicom raises many kinds for damaged headers.
        raise ImageError(f"{path} has a damaged header ({first_line(error)}): copy or export it again.") from error
    if kind in NO_IMAGES:
        raise ImageError(f"{path} is {NO_IMAGES[kind]}.")
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise ImageError(f"{path} is a DICOM file without an image: give one of the images of its study.")
    return dataset


def frames_of(path: Path, dataset: Any) -> list[Frame]:
    """Return the frames of a file, each with its own position where the file states them."""
    count = int(dataset.get("NumberOfFrames") or 1)
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])[:count]
    order = _order_of(dataset)
    if len(groups) == count and count > 1:
        return [
            Frame(path, number, _position(_first(group, "PlanePositionSequence")), (number,))
            for number, group in enumerate(groups)
        ]
    position = _position(dataset) if count == 1 else None
    return [Frame(path, number, position, (*order, number)) for number in range(count)]


def directions_of(dataset: Any) -> NDArray[np.float64] | None:
    """Return the unit vectors along a row and down a column, shape (2, 3); None where the file has none."""
    holder = _shared(dataset, "PlaneOrientationSequence")
    values = numbers_in(holder, "ImageOrientationPatient", 6)
    if values is None:
        return None
    along = np.reshape(values, (2, 3))
    lengths = np.linalg.norm(along, axis=1)
    is_frame = (lengths > 0).all() and abs(along[0] @ along[1]) < 1e-2 * lengths.prod()
    return along / lengths[:, None] if is_frame else None


def pixel_spacing(dataset: Any) -> tuple[float, float] | None:
    """Return the distance of rows and of columns in millimeters, or None."""
    holder = _shared(dataset, "PixelMeasuresSequence")
    for source, key in ((holder, "PixelSpacing"), (dataset, "PixelSpacing"), (dataset, "ImagerPixelSpacing")):
        found = numbers_in(source, key, 2)
        if found is not None and min(found) > 0:
            return found[0], found[1]
    regions = list(dataset.get("SequenceOfUltrasoundRegions") or [])
    # Centimeters are number 3 of the units; several regions can differ.
    sizes_of_regions = {
        (abs(float(region.get("PhysicalDeltaY", 0))), abs(float(region.get("PhysicalDeltaX", 0))))
        for region in regions
        if region.get("PhysicalUnitsXDirection") == 3 and region.get("PhysicalUnitsYDirection") == 3
    }
    if len(sizes_of_regions) == 1 and min(sizes := sizes_of_regions.pop()) > 0:
        return 10 * sizes[0], 10 * sizes[1]
    return None


def plane_distance(dataset: Any) -> float | None:
    """Return the distance of neighboring planes that a file states, in millimeters, or None."""
    holder = _shared(dataset, "PixelMeasuresSequence")
    for source, key in ((holder, "SpacingBetweenSlices"), (dataset, "SpacingBetweenSlices")):
        found = numbers_in(source, key, 1)
        if found is not None and found[0]:
            return abs(found[0])
    return None


def value_scale(dataset: Any) -> tuple[float, float]:
    """Return slope and intercept of the values, 1 and 0 where the file has none."""
    holder = _shared(dataset, "PixelValueTransformationSequence")
    slope = numbers_in(holder, "RescaleSlope", 1) or numbers_in(dataset, "RescaleSlope", 1)
    intercept = numbers_in(holder, "RescaleIntercept", 1) or numbers_in(dataset, "RescaleIntercept", 1)
    return (slope[0] if slope else 1.0), (intercept[0] if intercept else 0.0)


def window_of(dataset: Any) -> tuple[float, float] | None:
    """Return the lowest and the highest value of the first window, or None."""
    holder = _shared(dataset, "FrameVOILUTSequence")
    for source in (holder, dataset):
        centers, widths = (numbers_in(source, key, None) for key in ("WindowCenter", "WindowWidth"))
        if centers and widths and widths[0] > 1:
            low = centers[0] - 0.5 - (widths[0] - 1) / 2
            return low, low + widths[0] - 1
    return None


def numbers_in(dataset: Any, key: str, count: int | None) -> tuple[float, ...] | None:
    """Return the numbers of an element, or None where it is missing, damaged or has another number of them."""
    if dataset is None:
        return None
    try:
        value = dataset.get(key)
        values = tuple(float(each) for each in (value if isinstance(value, Sequence | np.ndarray) else [value]))
    except Exception:  # pydicom raises many kinds for damaged values.
        return None
    if not all(map(math.isfinite, values)) or (count is not None and len(values) != count):
        return None
    return values


def _shared(dataset: Any, name: str) -> Any:
    """Return what the frames of an enhanced file have in common; that of its first frame where they have it each."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        found = _first(_first(dataset, groups), name)
        if found is not None:
            return found
    return dataset


def _first(dataset: Any, name: str) -> Any:
    entries = None if dataset is None else dataset.get(name)
    return entries[0] if entries else None


def _position(dataset: Any) -> tuple[float, float, float] | None:
    found = numbers_in(dataset, "ImagePositionPatient", 3)
    return None if found is None else (found[0], found[1], found[2])


def _order_of(dataset: Any) -> tuple[float, ...]:
    keys = ("TemporalPositionIdentifier", "TriggerTime", "AcquisitionNumber", "AcquisitionTime", "EchoTime")
    found = (numbers_in(dataset, key, 1) for key in (*keys, "InstanceNumber"))
    return tuple(0.0 if value is None else value[0] for value in found)
