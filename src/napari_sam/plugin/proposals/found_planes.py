"""FoundPlanes: the proposals of one plane or of several ones, numbered from the first plane to the last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane

if TYPE_CHECKING:
    from napari_sam.core.masks import Mask
    from napari_sam.everything.found import FoundObjects
    from napari_sam.everything.options import FilterOptions


class FoundPlanes:
    """What was found in planes, one after the other; further tiles and planes leave the earlier numbers as they are.

    Parameters
    ----------
    parts
        The proposals of each plane, in the order in which the planes were searched.

    Attributes
    ----------
    parts
        As given.
    """

    def __init__(self, parts: Sequence[FoundObjects]) -> None:
        self.parts = tuple(parts)
        self._starts = np.cumsum([0, *map(len, self.parts)])
        self._at = {part.plane: at for at, part in enumerate(self.parts)}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def planes(self) -> list[Plane]:
        """The planes, in the order in which they were searched."""
        return [part.plane for part in self.parts]

    @cached_property
    def boxes(self) -> NDArray[np.int64]:
        """Shape (n, 4): (top, left, bottom, right) of each proposal, half-open, in pixels."""
        return self._joined([part.boxes for part in self.parts], np.zeros((0, 4), np.int64))

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """Shape (n,): the confidence that each proposal is an object, 0 to 1."""
        return self._joined([part.scores for part in self.parts], np.zeros(0, np.float32))

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Shape (n,): number of pixels of each proposal."""
        return self._joined([part.areas for part in self.parts], np.zeros(0, np.int64))

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """Shape (n, 2): the point (row, col) that led to each proposal."""
        return self._joined([part.proposals.points for part in self.parts], np.zeros((0, 2)))

    def part_of(self, number: int) -> tuple[FoundObjects, int]:
        """Return the plane's proposals that a number belongs to, and its number there."""
        at = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self.parts[at], number - int(self._starts[at])

    def mask(self, number: int) -> Mask:
        """Return a proposal as a mask with its scores."""
        part, at = self.part_of(number)
        return part.mask(at)

    def place_of(self, number: int) -> tuple[Plane, Box]:
        """Return the plane and the box of a proposal."""
        part, at = self.part_of(number)
        return part.plane, part.proposals.box(at)

    def on(self, plane: Plane) -> FoundObjects | None:
        """Return the proposals of a plane, or None where it was not searched."""
        at = self._at.get(plane)
        return None if at is None else self.parts[at]

    def among(self, plane: Plane, numbers: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return those of some numbers that lie in a plane, as the numbers that they have there; the order stays."""
        at = self._at[plane]
        first, last = self._starts[at : at + 2]
        return np.asarray(numbers[(numbers >= first) & (numbers < last)] - first, np.intp)

    def number(self, plane: Plane, at: int) -> int:
        """Return the number of a proposal of a plane."""
        return int(self._starts[self._at[plane]]) + at

    def select(self, options: FilterOptions | None = None) -> NDArray[np.intp]:
        """Return the numbers of the proposals that count, best first; see `FoundObjects.select`."""
        chosen = [part.select(options) + start for part, start in zip(self.parts, self._starts, strict=False)]
        if len(chosen) == 1:
            return np.asarray(chosen[0], np.intp)
        numbers: NDArray[np.intp] = self._joined(chosen, np.zeros(0, np.intp))
        return numbers[np.argsort(-self.scores[numbers], kind="stable")]

    @staticmethod
    def _joined(arrays: list[NDArray[Any]], none: NDArray[Any]) -> NDArray[Any]:
        return arrays[0] if len(arrays) == 1 else np.concatenate([none, *arrays])
