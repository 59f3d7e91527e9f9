"""Proposals: masks that may be objects, with their scores, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """Proposals of one plane.

    Parameters
    ----------
    boxes
        Shape (n, 4), int64: (top, left, bottom, right), half-open, in level-0 pixels.
    scores, stability
        Shape (n,), float32: the confidence that a proposal is an object, and its stability score, 0 to 1.
    areas
        Shape (n,), int64: number of pixels.
    points
        Shape (n, 2), float64: the point that was prompted, (row, col).
    levels
        Shape (n,), int8: level of the tile that was decoded.
    bits
        The packed pixels of all masks, one after the other, uint8; each begins at a whole byte.
    ends
        Shape (n,), int64: where the bits of each mask end.
    descriptors
        Shape (n, width), float16: what the model sees of each; see `DescriptorLayout`. The width is 0 where nothing is
        described.
    """

    boxes: NDArray[np.int64]
    scores: NDArray[np.float32]
    stability: NDArray[np.float32]
    areas: NDArray[np.int64]
    points: NDArray[np.float64]
    levels: NDArray[np.int8]
    bits: NDArray[np.uint8]
    ends: NDArray[np.int64]
    descriptors: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(
        cls,
        masks: Sequence[Mask],
        points: NDArray[np.float64],
        level: int,
        descriptors: NDArray[np.float16] | None = None,
    ) -> Proposals:
        """Return masks with their scores as proposals.

        Parameters
        ----------
        masks
            Tight masks that are not empty; `iou_prediction` is the score.
        points
            Shape (n, 2): the prompted points.
        level
            Level of the tile.
        descriptors
            Shape (n, width): what the model sees of each. By default nothing is described.
        """
        packed = [np.packbits(mask.pixels) for mask in masks]
        return cls(
            np.array([mask.box.as_tuple() for mask in masks], np.int64).reshape(-1, 4),
            np.array([mask.iou_prediction for mask in masks], np.float32),
            np.array([mask.stability_score for mask in masks], np.float32),
            np.array([mask.area for mask in masks], np.int64),
            np.asarray(points, np.float64).reshape(-1, 2),
            np.full(len(masks), level, np.int8),
            np.concatenate([np.zeros(0, np.uint8), *packed]),
            np.cumsum([len(one) for one in packed], dtype=np.int64),
            np.zeros((len(masks), 0), np.float16) if descriptors is None else descriptors,
        )

    @classmethod
    def none(cls) -> Proposals:
        """Return no proposals."""
        return cls.of([], np.zeros((0, 2)), 0)

    @classmethod
    def joined(cls, parts: Sequence[Proposals]) -> Proposals:
        """Return all proposals of several tiles, in their order."""
        parts = [part for part in parts if len(part)] or [cls.none()]
        arrays = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        starts = np.cumsum([0, *(len(part.bits) for part in parts[:-1])])
        arrays["ends"] = [ends + start for ends, start in zip(arrays["ends"], starts, strict=True)]
        return cls(**{name: np.concatenate(values) for name, values in arrays.items()})

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by their names, as they are stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def diameters(self) -> NDArray[np.float64]:
        """Diameter of the circle of each one's area, in pixels."""
        return np.asarray(2 * np.sqrt(self.areas / np.pi), np.float64)

    def taken(self, chosen: NDArray[np.intp]) -> Proposals:
        """Return some of the proposals, in the order of their numbers."""
        parts = [self._bits_of(int(i)) for i in chosen]
        values = {name: array[chosen] for name, array in self.arrays.items() if name not in ("bits", "ends")}
        bits = np.concatenate([np.zeros(0, np.uint8), *parts])
        return Proposals(**values, bits=bits, ends=np.cumsum([len(part) for part in parts], dtype=np.int64))

    def box(self, i: int) -> Box:
        """Return the box of a proposal."""
        top, left, bottom, right = (int(edge) for edge in self.boxes[i])
        return Box(top, left, bottom, right)

    def pixels(self, i: int) -> NDArray[np.bool_]:
        """Return the pixels of a proposal in its box."""
        top, left, bottom, right = (int(edge) for edge in self.boxes[i])
        shape = bottom - top, right - left
        return np.unpackbits(self._bits_of(i), count=shape[0] * shape[1]).view(bool).reshape(shape)

    def unpacked(self, chosen: NDArray[np.intp]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return the pixels of some proposals in their boxes, one after the other.

        Parameters
        ----------
        chosen
            Their numbers.

        Returns
        -------
        pixels : numpy.ndarray
            Shape (m,): the rows of the first box, then, after up to 7 pixels that are False, those of the next one.
        starts : numpy.ndarray
            Shape (n + 1,): where the pixels of each one begin, and where the last ones end.
        """
        begins = np.where(chosen > 0, self.ends[chosen - 1], 0)
        counts = self.ends[chosen] - begins
        starts = np.concatenate([[0], np.cumsum(counts)])
        where = np.repeat(begins - starts[:-1], counts) + np.arange(int(starts[-1]))
        return np.unpackbits(self.bits[where]).view(bool), 8 * starts

    def mask(self, i: int) -> Mask:
        """Return a proposal as a mask."""
        return Mask(self.box(i), self.pixels(i), float(self.scores[i]), float(self.stability[i]))

    def _bits_of(self, i: int) -> NDArray[np.uint8]:
        return self.bits[self.ends[i - 1] if i else 0 : self.ends[i]]
