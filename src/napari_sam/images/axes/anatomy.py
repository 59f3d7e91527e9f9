"""Anatomy: the position of the voxels of a medical image in the body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = tuple[float, float, float, float]
# From left, posterior, superior (DICOM, ITK) to right, anterior, superior (NIfTI), and back.
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Position of the voxels of an image in the body.

    Parameters
    ----------
    affine
        Rows of a matrix that takes (x, y, z, 1), the column, row and plane of a voxel's center, to millimeters to the
        left, to the back and to the head of the patient (LPS), as in DICOM.
    """

    affine: tuple[Row, Row, Row]

    @classmethod
    def of(cls, affine: Any) -> Anatomy | None:
        """Return the position of an affine matrix of shape (4, 4) or (3, 4), in LPS; None where it is singular."""
        rows = np.asarray(affine, float)[:3]
        if not np.isfinite(rows).all() or abs(np.linalg.det(rows[:, :3])) < 1e-12:
            return None
        first, second, third = (tuple(map(float, row)) for row in rows)
        return cls((first, second, third))  # type: ignore[arg-type]

    @classmethod
    def of_ras(cls, affine: Any) -> Anatomy | None:
        """Return the position of an affine matrix to right, anterior and superior, as in NIfTI."""
        return cls.of(FLIP @ np.vstack([np.asarray(affine, float)[:3], [0, 0, 0, 1]]))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine matrix, shape (4, 4), in LPS."""
        return np.array([*self.affine, (0, 0, 0, 1)], float)

    @property
    def ras(self) -> NDArray[np.float64]:
        """The affine matrix, shape (4, 4), to right, anterior and superior."""
        return FLIP @ self.matrix

    def grid(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the step and the first position along the planes, rows and columns, in millimeters.

        Steps are negative where an axis runs against the direction in which it is shown: columns and rows to the left
        and to the back, planes to the head. The head is at the top where rows run along the body. Of an oblique image,
        each axis counts along the direction of the body that it is nearest to.
        """
        matrix = self.matrix
        steps, starts = [], []
        for axis, along in enumerate(nearest_directions(matrix)):
            sign = -1.0 if axis == 1 and along == 2 else 1.0
            column = matrix[:3, axis]
            steps.append(float(np.copysign(np.linalg.norm(column), sign * column[along])))
            starts.append(float(sign * matrix[along, 3]))
        return tuple(reversed(steps)), tuple(reversed(starts))


def nearest_directions(matrix: NDArray[np.float64]) -> Sequence[int]:
    """Return the direction of the body, 0 to 2, that each of x, y and z is nearest to, all different."""
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    shares = np.abs(matrix[:3, :3]) / lengths
    return max(permutations(range(3)), key=lambda order: sum(shares[along, axis] for axis, along in enumerate(order)))
