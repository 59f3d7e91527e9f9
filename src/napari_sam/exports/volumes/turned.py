"""Turned labels: the voxels of a volume in the order of its file, where a reader has turned the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.exports.source import ExportSource
from napari_sam.images.lazy.read_in_parts import ReadInParts

# How far a voxel may be from where it should be, in voxels: files state positions as single-precision numbers.
TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Turn:
    """How the axes of a file run along those of labels; x, y and z are numbered from 0.

    Parameters
    ----------
    order
        For each axis of the file, that of the labels.
    is_reversed
        Whether they run against each other.
    """

    order: tuple[int, ...]
    is_reversed: tuple[bool, ...]

    @property
    def is_none(self) -> bool:
        """Whether both have the same axes."""
        return self.order == (0, 1, 2) and not any(self.is_reversed)


def turn_between(
    labels: NDArray[np.float64], lengths: Sequence[int], file: NDArray[np.float64], file_lengths: Sequence[int]
) -> Turn | None:
    """Return how a file has to be turned to lie as labels do; None where the two are different grids.

    Parameters
    ----------
    labels, file
        The affine matrices of both, shape (4, 4): they take (x, y, z, 1) to the same world.
    lengths, file_lengths
        Numbers of voxels along x, y and z.
    """
    index = np.linalg.inv(file) @ labels
    linear = np.rint(index[:3, :3])
    is_turn = (np.abs(linear).sum(0) == 1).all() and (np.abs(linear).sum(1) == 1).all()
    if not is_turn or np.abs(index[:3, :3] - linear).max() * max(lengths) > 1:
        return None
    order = [int(axis) for axis in np.abs(linear).argmax(1)]
    is_reversed = [bool(linear[at, axis] < 0) for at, axis in enumerate(order)]
    starts = [lengths[axis] - 1 if back else 0 for axis, back in zip(order, is_reversed, strict=True)]
    is_same_place = np.abs(index[:3, 3] - starts).max() < TOLERANCE * max(lengths)
    if [lengths[axis] for axis in order] != list(file_lengths) or not is_same_place:
        return None
    return Turn(tuple(order), tuple(is_reversed))


def turned(source: ExportSource, turn: Turn) -> Any:
    """Return an array of the labels of a volume (planes, rows, columns) in the order of the file, read in parts."""
    lengths = source.shape[::-1]

    def read(parts: tuple[slice, ...]) -> NDArray[Any]:
        region: list[slice] = [slice(None)] * 3
        for part, axis, back in zip(parts[::-1], turn.order, turn.is_reversed, strict=True):
            length = lengths[axis]
            region[2 - axis] = slice(length - part.stop, length - part.start) if back else part
        block = source.read(tuple(region))
        block = block.transpose([2 - axis for axis in turn.order[::-1]])
        return np.asarray(block[tuple(slice(None, None, -1 if back else None) for back in turn.is_reversed[::-1])])

    shape = tuple(lengths[axis] for axis in turn.order[::-1])
    return ReadInParts(shape, source.dtype, (1, *shape[1:]), read)
