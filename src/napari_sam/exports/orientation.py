"""Orientation: the position of a volume in the body, as NIfTI and NRRD state it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_sam.images.axes.units import MICROMETRES

if TYPE_CHECKING:
    from napari_sam.images.axes.calibration import Calibration
    from napari_sam.images.source import ImageSource
    from napari_sam.images.volume import Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True, slots=True, eq=False)
class Orientation:
    """Position of the voxels of a volume.

    Parameters
    ----------
    ras
        Shape (4, 4): takes (x, y, z, 1), the column, row and plane of a voxel's center, to millimeters to the right, to
        the front and to the head.
    header
        Header of the NIfTI file that the image is, of nibabel; or None.
    is_anatomical
        Whether the directions are those of a body, and not of a stage.
    codes
        What qform and sform of a NIfTI file without a header say of their coordinates; None for the usual ones.
    """

    ras: NDArray[np.float64]
    header: Any = None
    is_anatomical: bool = True
    codes: tuple[int, int] | None = None

    @property
    def is_of_header(self) -> bool:
        """Whether the position is the one that the header states: readers turn images, and keep the header."""
        return self.header is not None and np.allclose(self.ras, self.header.get_best_affine(), atol=1e-3)

    @classmethod
    def of_image(cls, image: Volume | ImageSource | None, path: Path | None) -> Self | None:
        """Return the orientation of an image, from its NIfTI file or what its reader found; None where neither is."""
        if path is not None and path.name.lower().endswith(NIFTI_SUFFIXES) and path.is_file():
            import nibabel

            file: Any = nibabel.load(path)
            if max(int(file.header["sform_code"]), int(file.header["qform_code"])) > 0:
                return cls(np.asarray(file.affine, float), file.header)
        # Readers of medical images know it, whatever the format.
        anatomy = None if image is None else image.anatomy
        return None if anatomy is None else cls(np.asarray(anatomy.ras, float))

    @classmethod
    def of_calibration(cls, calibration: Calibration | None) -> Self:
        """Return the orientation of an image that only has pixel sizes: its axes are those of the world."""
        matrix = np.eye(4)
        if calibration is not None:
            factor = MICROMETRES.get(calibration.unit or "", 1e3) / 1e3
            for at, letter in enumerate("xyz"):
                if letter in calibration.axes:
                    axis = calibration.axes.index(letter)
                    matrix[at, at] = factor * (1.0 if calibration.scale is None else calibration.scale[axis])
                    matrix[at, 3] = factor * calibration.starts[axis]
        return cls(matrix, is_anatomical=False)
