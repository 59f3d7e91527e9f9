"""PackedObjects: masks, scores and prompts of many objects as text, which is unpacked once one of them is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError
from napari_sam.journal.packing.arrays import (
    MAX_UNPACKED,
    pack_array,
    pack_bits,
    pack_bytes,
    unpack_array,
    unpack_bits,
    unpack_bytes,
)
from napari_sam.labels.object_edits import groups_of

# Objects of one entry; one that claims more is damaged.
MAX_OBJECTS = 2**24

Runs = tuple[tuple[int, int], ...]
"""Whole numbers in order, as the first and the length of each run of consecutive ones."""


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object that is to be written together with others.

    Parameters
    ----------
    mask
        Its mask, with its scores.
    prompts
        What it was segmented by, or None.
    """

    mask: Mask
    prompts: Prompts | None = None


def written_in_groups(
    objects: Sequence[NewObject], write: Callable[[Sequence[NewObject]], Sequence[int | None]]
) -> list[int | None]:
    """Write objects that lie near each other together, and return the label of each one, or None.

    Parameters
    ----------
    objects
        The objects, in order of falling priority.
    write
        Writes some of them and returns their labels.
    """
    labels: list[int | None] = [None] * len(objects)
    for group in groups_of([each.mask for each in objects]):
        for at, label in zip(group, write([objects[at] for at in group]), strict=True):
            labels[at] = label
    return labels


@dataclass(frozen=True)
class PackedMasks:
    """Boxes and pixels of many masks.

    Parameters
    ----------
    count
        Their number.
    boxes
        Edges of the boxes, all tops first.
    bits
        Their pixels, those of each mask from a whole byte on.
    """

    count: int
    boxes: str
    bits: str

    @classmethod
    def of(cls, masks: Sequence[Mask]) -> PackedMasks:
        """Pack masks; scores and logits are left out."""
        edges = np.array([mask.box.as_tuple() for mask in masks], "<i8").reshape(-1, 4)
        return cls(
            len(masks), pack_array(edges.T), pack_bytes(b"".join(np.packbits(m.pixels).tobytes() for m in masks))
        )

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """Shape (n, 4): top, left, bottom and right of each box; raises ValueError where they are damaged."""
        edges = unpack_array(self.boxes, "<i8", 4, self.count).T
        low, high = edges[:, :2], edges[:, 2:]
        if self.count and (low.min() < 0 or (high < low).any() or high.max() >= MAX_UNPACKED):
            raise ValueError("a box is none")
        return edges

    def box(self, at: int) -> Box:
        """Return the box of a mask."""
        return Box(*self.edges[at].tolist())

    def pixels(self, at: int) -> NDArray[np.bool_]:
        """Return the pixels of a mask; raises ValueError where they are damaged."""
        raw, starts = self._content
        shape = self.box(at).pixel_shape
        return np.unpackbits(raw[starts[at] : starts[at + 1]], count=shape[0] * shape[1]).astype(bool).reshape(shape)

    @cached_property
    def _content(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The packed pixels, and where those of each mask start and the last ones end."""
        lengths = (self.edges[:, 2:] - self.edges[:, :2]).prod(axis=1) + 7 >> 3
        if lengths.sum(dtype=float) > MAX_UNPACKED:
            raise ValueError("its masks have more pixels than any")
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return np.frombuffer(unpack_bytes(self.bits, int(starts[-1])), np.uint8), starts


@dataclass(frozen=True)
class PackedPrompts:
    """Prompts of many objects, each of which may have none.

    Parameters
    ----------
    counts
        Number of points of each object; -1 where its prompts are not known.
    points, signs
        All points and their labels.
    boxed, boxes
        Which objects have a box, and these boxes.
    masked, masks
        Which objects have a mask prompt, and these masks; None where none has.
    """

    counts: str
    points: str
    signs: str
    boxed: str
    boxes: str
    masked: str
    masks: PackedMasks | None = None

    @classmethod
    def of(cls, prompts: Sequence[Prompts | None]) -> PackedPrompts:
        """Pack prompts."""
        known = [one for one in prompts if one is not None]
        boxes = [one.box.as_tuple() for one in known if one.box is not None]
        masks = [one.mask for one in known if one.mask is not None]
        return cls(
            pack_array(np.array([-1 if one is None else len(one.points) for one in prompts], "<i8")),
            pack_array(np.concatenate([np.zeros((0, 2)), *(one.points for one in known)])),
            pack_bits(np.concatenate([np.zeros(0, bool), *(one.labels for one in known)])),
            pack_bits(np.array([one is not None and one.box is not None for one in prompts], bool)),
            pack_array(np.array(boxes, float).reshape(-1, 4)),
            pack_bits(np.array([one is not None and one.mask is not None for one in prompts], bool)),
            PackedMasks.of(masks) if masks else None,
        )


@dataclass(frozen=True)
class PackedObjects:
    """New objects that one entry made together.

    Parameters
    ----------
    labels
        Their labels.
    masks
        Their masks as they were accepted, before other labels were spared.
    scores
        iou_prediction and stability_score of each mask.
    areas
        Number of pixels that each object got.
    prompts
        Their prompts; None where no prompts are known.
    """

    labels: Runs
    masks: PackedMasks
    scores: str
    areas: str
    prompts: PackedPrompts | None = None

    @classmethod
    def of(cls, objects: Sequence[NewObject], labels: Sequence[int | None], areas: Sequence[int]) -> PackedObjects:
        """Pack those of some objects that have a label, with the number of pixels that each got."""
        written = [at for at, label in enumerate(labels) if label is not None]
        masks, prompts = [objects[at].mask for at in written], [objects[at].prompts for at in written]
        scores = np.array([(mask.iou_prediction, mask.stability_score) for mask in masks], "<f8").reshape(-1, 2)
        return cls(
            runs_of([label for label in labels if label is not None]),
            PackedMasks.of(masks),
            pack_array(scores.T),
            pack_array(np.array([areas[at] for at in written], "<i8")),
            None if all(one is None for one in prompts) else PackedPrompts.of(prompts),
        )

    def __len__(self) -> int:
        return self.masks.count

    def at(self, label: int) -> int | None:
        """Return the position of a label, or None."""
        before = 0
        for first, count in self.labels:
            if first <= label < first + count:
                return before + int(label) - first
            before += count
        return None

    def mask(self, at: int) -> Mask:
        """Return the mask at a position, to the pixel; raises LabelsError where the journal is damaged."""
        with _damage_told():
            return Mask(self.masks.box(at), self.masks.pixels(at), *self._scores[at].tolist())

    def prompts_at(self, at: int) -> Prompts | None:
        """Return the prompts at a position, or None; raises LabelsError where the journal is damaged."""
        with _damage_told():
            return None if self.prompts is None else self._prompts.prompts(at)

    def table(self) -> tuple[list[list[int]], list[int], list[list[float]]]:
        """Return box, area and scores of each object; raises LabelsError where the journal is damaged."""
        with _damage_told():
            areas = unpack_array(self.areas, "<i8", len(self))
            return self.masks.edges.tolist(), areas.tolist(), self._scores.tolist()

    @cached_property
    def _scores(self) -> NDArray[np.float64]:
        return unpack_array(self.scores, "<f8", 2, len(self)).T

    @cached_property
    def _prompts(self) -> _Prompts:
        assert self.prompts is not None
        return _Prompts(self.prompts, len(self))


class _Prompts:
    """The arrays of packed prompts; raises ValueError where they are damaged.

    Parameters
    ----------
    packed, count
        The prompts, and for how many objects they are.
    """

    def __init__(self, packed: PackedPrompts, count: int) -> None:
        self._counts = unpack_array(packed.counts, "<i8", count)
        if count and not -1 <= self._counts.min() <= self._counts.max() < MAX_UNPACKED:
            raise ValueError("a number of points is none")
        self._points_end, self._boxes_end, self._masks_end = (
            np.cumsum(number)
            for number in (
                np.maximum(self._counts, 0),
                unpack_bits(packed.boxed, (1, count))[0],
                unpack_bits(packed.masked, (1, count))[0],
            )
        )
        points, boxes, masks = (
            int(end[-1]) if count else 0 for end in (self._points_end, self._boxes_end, self._masks_end)
        )
        self._points = unpack_array(packed.points, "<f8", points, 2)
        self._signs = unpack_bits(packed.signs, (1, points))[0]
        self._boxes = unpack_array(packed.boxes, "<f8", boxes, 4)
        self._masks = packed.masks
        if masks != (0 if packed.masks is None else packed.masks.count):
            raise ValueError("there is another number of mask prompts than it says")

    def prompts(self, at: int) -> Prompts | None:
        """Return the prompts of an object, or None."""
        if self._counts[at] < 0:
            return None
        points = self._of(self._points_end, at)
        boxes, masks = self._of(self._boxes_end, at), self._of(self._masks_end, at)
        mask = None
        if masks.start < masks.stop:
            assert self._masks is not None
            mask = Mask(self._masks.box(masks.start), self._masks.pixels(masks.start))
        box = Box(*self._boxes[boxes.start].tolist()) if boxes.start < boxes.stop else None
        return Prompts(self._points[points].copy(), self._signs[points].copy(), box, mask)

    @staticmethod
    def _of(ends: NDArray[Any], at: int) -> slice:
        return slice(int(ends[at - 1]) if at > 0 else 0, int(ends[at]))


@contextmanager
def _damage_told() -> Iterator[None]:
    """Turn what shows that packed objects are damaged into an error that says so."""
    try:
        yield
    except ValueError as error:
        raise LabelsError(
            f"The objects of an entry of the journal are damaged ({error}): put the file back from a copy."
        ) from error


def runs_of(numbers: Sequence[int]) -> Runs:
    """Return whole numbers in order as runs of consecutive ones."""
    values = np.asarray(numbers, np.int64)
    if len(values) == 0:
        return ()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values) != 1) + 1])
    lengths = np.diff(starts, append=len(values))
    return tuple(zip(values[starts].tolist(), lengths.tolist(), strict=True))
