"""Extents: where each object of a label image lies, found in one pass over its blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.labels.regions import Region

# Sides of the boxes in which objects are read together.
TILE = 1024
# A table of so many labels takes no time, however small the block.
SMALL = 2**16


@dataclass(frozen=True, slots=True, eq=False)
class Extents:
    """The bounding boxes of objects.

    Parameters
    ----------
    labels
        Shape (n,), int64, ascending.
    starts, stops
        Shape (n, axes): half-open.
    areas
        Shape (n,): number of pixels.
    """

    labels: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    areas: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def highest(self) -> int:
        """The highest label, 0 where there is none."""
        return int(self.labels.max(initial=0))

    def at(self, chosen: NDArray[Any]) -> Extents:
        """Return some of the objects, by their places or by a mask."""
        return Extents(self.labels[chosen], self.starts[chosen], self.stops[chosen], self.areas[chosen])


def find_extents(blocks: Iterable[tuple[Region, NDArray[Any]]], ndim: int) -> Extents:
    """Return where the objects of blocks lie.

    Parameters
    ----------
    blocks
        Regions that do not overlap, with their labels; 0 is background.
    ndim
        Number of axes.
    """
    parts = [_in_block(region, block) for region, block in blocks]
    rows = np.concatenate([np.zeros((0, 2 + 2 * ndim), np.int64), *parts])
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    labels, first = np.unique(rows[:, 0], return_index=True)
    if not len(labels):
        empty = np.zeros((0, ndim), np.int64)
        return Extents(labels, empty, empty, labels)
    return Extents(
        labels,
        np.minimum.reduceat(rows[:, 2 : 2 + ndim], first),
        np.maximum.reduceat(rows[:, 2 + ndim :], first),
        np.add.reduceat(rows[:, 1], first),
    )


def compact(block: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Return the labels of a block, and the block with each label replaced by its place among them, from 1 on."""
    foreground = np.maximum(block, 0)
    highest = int(foreground.max(initial=0))
    if highest <= block.size + SMALL:
        # Ten times as fast as sorting, where the labels are not far apart.
        is_used = np.zeros(highest + 1, bool)
        is_used[foreground] = True
        is_used[0] = False
        return np.flatnonzero(is_used), np.where(foreground > 0, np.cumsum(is_used)[foreground], 0)
    values, places = np.unique(foreground, return_inverse=True)
    has_background = int(values[0] == 0)
    return values[has_background:].astype(np.int64), places.reshape(block.shape) + (1 - has_background)


def _in_block(region: Region, block: NDArray[Any]) -> NDArray[np.int64]:
    """Return label, area, start and stop of the objects of a block."""
    if not block.any():
        return np.zeros((0, 2 + 2 * block.ndim), np.int64)
    labels, numbers = compact(block)
    areas = np.bincount(numbers.ravel(), minlength=len(labels) + 1)[1:]
    origin = np.array([at.start for at in region])
    boxes = [[(at.start, at.stop) for at in found] for found in ndimage.find_objects(numbers, len(labels))]
    edges = np.array(boxes, np.int64).reshape(len(labels), block.ndim, 2)
    return np.column_stack([labels, areas, edges[..., 0] + origin, edges[..., 1] + origin])


def grouped(extents: Extents, max_pixels: int) -> list[NDArray[np.intp]]:
    """Return groups of objects that lie near each other, so that each can be read at once.

    Parameters
    ----------
    extents
        The objects.
    max_pixels
        Largest box around a group; one object may be larger.
    """
    if not len(extents):
        return []
    tiles = (extents.starts + extents.stops) // (2 * TILE)
    order = np.lexsort(tiles.T[::-1])
    groups: list[list[int]] = []
    low = high = np.zeros(extents.starts.shape[1], np.int64)
    for at in order.tolist():
        start, stop = extents.starts[at], extents.stops[at]
        around = np.minimum(low, start), np.maximum(high, stop)
        if groups and np.prod((around[1] - around[0]).astype(float)) <= max_pixels:
            groups[-1].append(at)
            low, high = around
        else:
            groups.append([at])
            low, high = start, stop
    return [np.array(group) for group in groups]
