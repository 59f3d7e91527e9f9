"""LabelEdit: a change of the labels in one box, planned and checked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol, get_args

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap, paste
from napari_sam.errors import LabelsError, one_line
from napari_sam.labels.regions import wider

# Labels are long runs: harder packing gains nothing.
PACKING_LEVEL = 1


class Readable(Protocol):
    """Labels that an edit is planned for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    def read(self, plane: Plane, box: Box) -> NDArray[Any]:
        """Return a copy of the labels of a box, shape (rows, cols); raises LabelsError where they cannot be read."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LabelEdit:
    """A change of the labels in one box.

    Parameters
    ----------
    plane
        Plane of the box.
    box
        Half-open, whole pixels of the plane.
    before, after
        Shape (rows, cols): the labels of the box before and after the change. Both have one integer type; where it is
        wider than that of the labels, these are widened when the edit is written.
    label
        The label that the change is about, or the highest of several new ones; 0 for another change of several.
    highest_before
        The highest label in use before the change, where it is known.
    """

    plane: Plane
    box: Box
    before: NDArray[Any]
    after: NDArray[Any]
    label: int = 0
    highest_before: int | None = None

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Shape (rows, cols), bool: the pixels that differ."""
        changed: NDArray[np.bool_] = self.before != self.after
        return changed

    @property
    def changes_nothing(self) -> bool:
        """Whether no pixel differs."""
        return bool(np.array_equal(self.before, self.after))

    @property
    def area(self) -> int:
        """Number of pixels of the box that have the label after the change."""
        return int(np.count_nonzero(self.after == self.label))

    @property
    def written_box(self) -> Box:
        """The smallest box around the pixels of `area`."""
        return Mask(self.box, self.after == self.label).tightened().box

    def pack(self) -> bytes:
        """Return the edit as bytes, compressed; see `unpack`."""
        header = {
            "axes": self.plane.axes,
            "index": self.plane.index,
            "box": [int(edge) for edge in self.box.as_tuple()],
            "dtype": self.before.dtype.str,
            "label": int(self.label),
            "highest": self.highest_before,
        }
        pixels = self.before.tobytes() + self.after.tobytes()
        return json.dumps(header).encode() + b"\n" + imagecodecs.zstd_encode(pixels, level=PACKING_LEVEL)

    @classmethod
    def unpack(cls, packed: bytes, shape: Sequence[int]) -> LabelEdit:
        """Return the edit that `pack` packed.

        Parameters
        ----------
        packed
            The bytes.
        shape
            Of the labels; an edit that reaches outside them is refused before memory is taken for it.

        Raises
        ------
        ValueError
            The bytes are no edit of labels of this shape.
        """
        header, _, pixels = packed.partition(b"\n")
        try:
            said = json.loads(header)
            plane, box = Plane(tuple(said["axes"]), tuple(said["index"])), Box(*said["box"])
            dtype, label, highest = np.dtype(said["dtype"]), int(said["label"]), said["highest"]
            if not contains(shape, plane, box) or dtype.kind not in "ui":
                raise ValueError("it is not of these labels")
            values = np.empty((2, *box.pixel_shape), dtype)
            raw: Any = values.reshape(-1).view(np.uint8)
            if len(imagecodecs.zstd_decode(pixels, out=raw)) != len(raw):
                raise ValueError("it holds too few labels")
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"it is no edit of labels ({one_line(error)})") from error
        return cls(plane, box, values[0], values[1], label, highest)


def plan_edit(
    labels: Readable,
    plane: Plane,
    mask: Mask,
    label: int,
    overlap: Overlap = "keep",
    *,
    replaces: Sequence[Box] = (),
    widens: bool = False,
) -> LabelEdit:
    """Return the edit that writes a mask; the labels are read once and not changed.

    Parameters
    ----------
    labels
        The labels.
    plane, mask, label, overlap
        See `LabelArray.write`.
    replaces
        Boxes, whole pixels of the plane, in which the mask replaces the pixels that have its label.
    widens
        Whether a label that does not fit into the type of the labels is planned in a wider type, rather than refused.

    Raises
    ------
    LabelsError
        The mask is empty or reaches outside the labels, nothing of it may be written, the label does not fit, or the
        labels cannot be read.
    """
    if mask.area == 0:
        raise LabelsError("The mask is empty, so there is nothing to accept: move or add a prompt.")
    check_overlap(overlap)
    check_label(label)
    box = reduce(Box.union, replaces, mask.box)
    check_inside(labels, plane, box, mask.box)
    before = labels.read(plane, box)
    if not widens:
        check_label(label, before.dtype)
    before = fitting(before, label)
    after = before.copy()
    for replaced in replaces:
        inside = after[within(box, replaced)]
        inside[inside == label] = 0
    if not paste(after[within(box, mask.box)], mask, label, overlap).any():
        raise _nothing_written(overlap)
    return LabelEdit(plane, box, before, after, label)


def plan_removal(labels: Readable, plane: Plane, box: Box, label: int) -> LabelEdit:
    """Return the edit that removes a label from a box; the labels are read once and not changed.

    Raises
    ------
    LabelsError
        The labels cannot be read.
    """
    before = labels.read(plane, box)
    return LabelEdit(plane, box, before, np.where(before == label, before.dtype.type(0), before))


def plan_pixels(
    labels: Readable,
    plane: Plane,
    box: Box,
    where: NDArray[np.bool_],
    values: NDArray[Any],
    expected: NDArray[Any] | None = None,
) -> LabelEdit:
    """Return the edit that gives values to single pixels of a box; the labels are read once and not changed.

    Parameters
    ----------
    labels, plane, box
        The labels and the box.
    where
        Shape (rows, cols), bool: the n pixels.
    values
        Shape (n,): their new labels, in row order.
    expected
        Shape (n,): a pixel that holds another label than this one stays as it is. By default all are changed.

    Raises
    ------
    LabelsError
        The box reaches outside the labels, or these cannot be read.
    """
    if not contains(labels.shape, plane, box):
        raise LabelsError(f"A box at {box.as_tuple()} reaches outside the labels of shape {tuple(labels.shape)}.")
    before = fitting(labels.read(plane, box), int(values.max(initial=0)))
    after = before.copy()
    # Positions are found once, since an index of booleans is counted at every use.
    at = np.flatnonzero(where)
    if expected is not None:
        held = before.reshape(-1)[at] == expected
        if not held.all():
            at, values = at[held], values[held]
    after.reshape(-1)[at] = values
    return LabelEdit(plane, box, before, after)


def plan_undo(labels: Readable, edit: LabelEdit) -> LabelEdit:
    """Return the edit that takes another one back; pixels that were changed again since stay as they are.

    Raises
    ------
    LabelsError
        The labels cannot be read.
    """
    where = edit.changed
    return plan_pixels(labels, edit.plane, edit.box, where, edit.before[where], edit.after[where])


def check_overlap(overlap: Overlap) -> None:
    """Refuse a policy that does not exist.

    Raises
    ------
    LabelsError
        It is another one.
    """
    if overlap not in get_args(Overlap):
        raise LabelsError(f"The overlap policy {overlap!r} does not exist: use {' or '.join(get_args(Overlap))}.")


def check_label(label: int, dtype: np.dtype[Any] | None = None) -> None:
    """Refuse what is no label, or does not fit into a type.

    Raises
    ------
    LabelsError
        It is none, or does not fit.
    """
    if not isinstance(label, (int, np.integer)) or label < 1:
        raise LabelsError(f"A label is a whole number from 1 on, and {label!r} is none: 0 is background.")
    if dtype is not None and label > (limit := np.iinfo(dtype).max):
        raise LabelsError(
            f"Label {label} does not fit into {dtype} labels (1 to {limit}): use labels of a larger type."
        )


def check_inside(labels: Readable, plane: Plane, box: Box, shown: Box | None = None) -> None:
    """Refuse a box that reaches outside the labels; raises LabelsError, which shows `shown` in its place."""
    if not contains(labels.shape, plane, box):
        raise LabelsError(
            f"The mask at {(shown or box).as_tuple()} reaches outside the labels of shape {tuple(labels.shape)}: "
            "use labels of the image's shape."
        )


def contains(shape: Sequence[int], plane: Plane, box: Box) -> bool:
    """Return whether labels of a shape have a plane, and a box lies in it."""
    return len(plane.index) == len(shape) and Box.of_shape(plane.shape_in(shape)).contains(box)


def within(whole: Box, box: Box) -> tuple[slice, slice]:
    """Return where a box lies in an array of another box."""
    return box.moved(-whole.top, -whole.left).slices


def fitting(values: NDArray[Any], label: int) -> NDArray[Any]:
    """Return values in a type that can hold a label."""
    return values.astype(wider(values.dtype)) if label > np.iinfo(values.dtype).max else values


def _nothing_written(overlap: Overlap) -> LabelsError:
    if overlap == "empty":
        return LabelsError(
            "A part of the mask belongs to another object, and only empty places may be written to: choose another "
            "candidate, or the policy 'keep' or 'overwrite'."
        )
    return LabelsError(
        "Every pixel of the mask belongs to other objects already: choose another candidate, or undo one of them."
    )
