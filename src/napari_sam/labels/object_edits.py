"""Edits of many objects: their masks are written with one read and one write of the labels around all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.errors import LabelsError
from napari_sam.labels.edit import LabelEdit, Readable, check_inside, check_label, check_overlap, fitting, within

# Pixels of a box whose labels are changed at once, which takes about 500 MB.
MAX_TOGETHER = 2**24
BLOCK = 2048


def plan_objects(
    labels: Readable, plane: Plane, masks: Sequence[Mask], numbers: Sequence[int], overlap: Overlap = "keep"
) -> tuple[LabelEdit, list[int | None], list[int]]:
    """Return the edit that writes masks as new objects, and the label and number of pixels of each; None and 0 of some.

    The labels are read once.

    Parameters
    ----------
    labels, plane
        The labels, which are not changed, and the plane.
    masks
        The masks in order of falling priority: a pixel of several belongs to the first of them.
    numbers
        As many free labels. The masks that get a pixel get them in order; where one does not fit into the type of the
        labels, the edit has a wider type.
    overlap
        As in `LabelArray.write`; "empty" leaves out masks that meet other labels or masks before them.

    Raises
    ------
    LabelsError
        There is no mask, one reaches outside the labels, or the labels cannot be read.
    """
    if not masks:
        raise LabelsError("There is no mask to accept: give at least one.")
    check_overlap(overlap)
    edges = np.array([mask.box.as_tuple() for mask in masks], np.int64)
    box = Box(*edges[:, :2].min(axis=0).tolist(), *edges[:, 2:].max(axis=0).tolist())
    check_inside(labels, plane, box)
    before = labels.read(plane, box)
    taken = before != 0 if overlap != "overwrite" else np.zeros(before.shape, bool)
    corners = edges - np.array([box.top, box.left] * 2, np.int64)
    owners, areas = _shared_out(taken, masks, corners, overlap)
    free = iter(numbers)
    given = [next(free) if area else None for area in areas]
    values = np.array([0, *(label or 0 for label in given)], np.int64)
    before = fitting(before, int(values.max()))
    after = np.where(owners > 0, values.astype(before.dtype)[owners], before)
    return LabelEdit(plane, box, before, after, int(values.max())), given, areas


def plan_parts(
    labels: Readable,
    plane: Plane,
    masks: Mapping[int, Mask],
    replaces: Mapping[int, Box],
    overlap: Overlap = "keep",
) -> tuple[LabelEdit | None, dict[int, int]]:
    """Return the edit that writes masks under labels of their own, and the number of pixels of each that gets any.

    The labels are read once, and once more where a mask gets no pixel. Without any, there is no edit.

    Parameters
    ----------
    labels, plane, overlap
        As in `plan_objects`.
    masks
        The mask of each label, in order of falling priority.
    replaces
        Box in which a mask takes the place of the pixels that have its label. Where nothing of the mask can be written,
        these stay.

    Raises
    ------
    LabelsError
        A mask reaches outside the labels, a label does not fit, or the labels cannot be read.
    """
    check_overlap(overlap)
    if not masks:
        return None, {}
    boxes = [box for label, mask in masks.items() for box in (mask.box, replaces.get(label)) if box is not None]
    box = reduce(Box.union, boxes)
    check_inside(labels, plane, box)
    before = labels.read(plane, box)
    for label in masks:
        check_label(label, before.dtype)
    cleared = before.copy()
    for label in masks.keys() & replaces.keys():
        inside = cleared[within(box, replaces[label])]
        inside[inside == label] = 0
    taken = cleared != 0 if overlap != "overwrite" else np.zeros(before.shape, bool)
    corners = np.array([mask.box.moved(-box.top, -box.left).as_tuple() for mask in masks.values()], np.int64)
    owners, areas = _shared_out(taken, [*masks.values()], corners, overlap)
    if not all(areas):
        some = {label: mask for (label, mask), area in zip(masks.items(), areas, strict=True) if area}
        return plan_parts(labels, plane, some, replaces, overlap)
    values = np.array([0, *masks], before.dtype)
    after = np.where(owners > 0, values[owners], cleared)
    return LabelEdit(plane, box, before, after, int(values.max())), dict(zip(masks, areas, strict=True))


def groups_of(masks: Sequence[Mask]) -> list[list[int]]:
    """Return the positions of masks in groups whose masks lie near each other, so that `plan_objects` reads little.

    Masks in a box of up to `MAX_TOGETHER` pixels are one group, and others one for each block of `BLOCK` x `BLOCK`
    pixels that their corners lie in, row by row. Within a group they stay in order.
    """
    if not masks:
        return []
    edges = np.array([mask.box.as_tuple() for mask in masks], np.int64)
    if (edges[:, 2:].max(axis=0) - edges[:, :2].min(axis=0)).prod() <= MAX_TOGETHER:
        return [list(range(len(masks)))]
    blocks, of = np.unique(edges[:, :2] // BLOCK, axis=0, return_inverse=True)
    order = np.argsort(of.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(of.reshape(-1), minlength=len(blocks)))
    return [group.tolist() for group in np.split(order, ends[:-1])]


def _shared_out(
    taken: NDArray[np.bool_], masks: Sequence[Mask], corners: NDArray[np.int64], overlap: Overlap
) -> tuple[NDArray[np.int32], list[int]]:
    """Return the mask, from 1 on, that each pixel of a box goes to, and how many pixels each mask gets.

    Parameters
    ----------
    taken
        Shape (rows, cols): the pixels that no mask gets; changed in place.
    masks, corners
        The masks, and their boxes in the pixels of this one, shape (n, 4).
    overlap
        As in `plan_objects`.
    """
    owners, areas = np.zeros(taken.shape, np.int32), []
    for number, (mask, (top, left, bottom, right)) in enumerate(zip(masks, corners.tolist(), strict=True), start=1):
        inside = taken[top:bottom, left:right]
        pixels = mask.pixels & ~inside
        area = int(np.count_nonzero(pixels))
        if area and overlap == "empty" and (mask.pixels & inside).any():
            area = 0
        if area:
            owners[top:bottom, left:right][pixels] = number
            inside |= pixels
        areas.append(area)
    return owners, areas
