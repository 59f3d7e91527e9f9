"""Read areas from ImageJ's ROI files with roifile."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import PromptError, first_line
from napari_sam.exchange.importing.imported_object import ImportedObject, mask_of_rings
from napari_sam.files.libraries import library
from napari_sam.files.paths import shortened

MAX_BYTES = 2**30
# Kinds that enclose an area; points and lines are none.
AREAS = ("RECT", "OVAL", "POLYGON", "FREEHAND", "TRACED")


def read_rois(path: Path, shape: tuple[int, int]) -> tuple[list[ImportedObject], int]:
    """Return the areas of an ROI file or a zip of them, and how many ROIs are none or lie outside.

    Raises
    ------
    PromptError
        roifile is missing, or the file is damaged or unpacks to more than a gibibyte.
    """
    roifile = library("roifile", "roifile", f"The file {shortened(path)}", PromptError)
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                    raise PromptError(f"{shortened(path)} unpacks to more than a gibibyte: save fewer ROIs in it.")
        read = roifile.roiread(path)
        rois = read if isinstance(read, list) else [read]
        found = [one for roi in rois if (one := _object_of(roi, shape)) is not None]
    except PromptError:
        raise
    except Exception as error:  # The library raises many kinds for damaged files.
        raise PromptError(f"{shortened(path)} cannot be read as ROIs ({first_line(error)}): save it again.") from error
    return found, len(rois) - len(found)


def _object_of(roi: Any, shape: tuple[int, int]) -> ImportedObject | None:
    if not roi.composite and roi.roitype.name not in AREAS:
        return None
    paths = roi.coordinates(multi=True)
    # ImageJ counts from the corner of the first pixel.
    rings = [np.asarray(corners, float)[:, ::-1] - 0.5 for corners in paths]
    mask = mask_of_rings(rings, shape)
    if mask is None:
        return None
    # ImageJ counts planes from 1, and 0 is any.
    at = {"z": int(roi.z_position), "t": int(roi.t_position)}
    return ImportedObject(mask, plane=tuple((name, value - 1) for name, value in at.items() if value > 0))
