"""Patches: the pixels that one operation changed, and the way back.

Pixels are text: bits and whole numbers, packed by zlib.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.labels.array import LabelSink
from napari_sam.labels.edit import LabelEdit, plan_pixels

# Packed runs are short already, and packing harder takes three times as long.
LEVEL = 1
DTYPES = ("|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8")
# Bytes that a text may unpack to: a mask of 131 072 x 131 072 pixels. One that claims more is damaged.
MAX_UNPACKED = 2**31


@dataclass(frozen=True, slots=True)
class Patch:
    """The pixels of a box that an entry changed, with what they held before and after.

    Parameters
    ----------
    plane, box
        Where; the box is tight around them.
    bits
        Which, see `pack_bits`.
    before, after
        Their labels in row order, see `pack_values`.
    """

    plane: Plane
    box: Box
    bits: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    @classmethod
    def of(cls, edit: LabelEdit) -> Patch | None:
        """Pack the pixels that an edit changes; None where it changes none."""
        changed = Mask(edit.box.rounded_out(), edit.changed).tightened()
        if changed.box.is_empty:
            return None
        inside = changed.box.moved(-edit.box.top, -edit.box.left).slices
        before, after = (tuple(pack_values(values[inside][changed.pixels])) for values in (edit.before, edit.after))
        return cls(edit.plane, changed.box, pack_bits(changed.pixels), before, after)

    def values(self) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[Any]]:
        """Return which pixels of the box changed, shape (rows, cols), and their labels before and after, shape (n,)."""
        where = unpack_bits(self.bits, self.box.pixel_shape)
        count = int(np.count_nonzero(where))
        return where, unpack_values(self.before, count), unpack_values(self.after, count)

    def reversed(self) -> Patch:
        """Return the way back."""
        return replace(self, before=self.after, after=self.before)


def put_patch(target: LabelSink, patch: Patch, *, always: bool = False) -> None:
    """Change the pixels of a patch that hold what they held before it, or all of them: one read, one write.

    Pixels that were changed by other hands since stay as they are. Doing it twice changes nothing more, which is what
    makes an interrupted write safe to do again.

    Raises
    ------
    LabelsError
        The labels are of another shape, or cannot be read or written to.
    """
    shape = tuple(target.shape)
    if len(patch.plane.index) != len(shape) or not Box.of_shape(patch.plane.shape_in(shape)).contains(patch.box):
        raise LabelsError(f"The journal reaches outside the labels of shape {shape}: give the labels that it is of.")
    try:
        where, before, after = patch.values()
    except ValueError as error:
        raise LabelsError(f"An entry of the journal is damaged ({error}): put the file back from a copy.") from error
    with target.exclusive():
        edit = plan_pixels(target, patch.plane, patch.box, where, after, None if always else before)
        if not edit.changes_nothing:
            target.apply(edit)


def area_changes(edit: LabelEdit, area: int) -> tuple[tuple[int, int, int], ...]:
    """Return by how many pixels an edit of one label makes labels grow, as (label, 0, pixels) each.

    0 is the number of the only patch.

    Parameters
    ----------
    edit
        The edit, whose box holds all pixels that the label had in the plane.
    area
        How many those were.
    """
    label, before, after = edit.label, edit.before, edit.after
    own = int(np.count_nonzero(after == label)) - area
    firsts, lengths = runs(before[before != after])
    labels, of = np.unique(firsts, return_inverse=True)
    counts = np.bincount(of, lengths, len(labels)).astype(int)
    lost = zip(labels.tolist(), counts.tolist(), strict=True)
    return ((label, 0, own), *((other, 0, -count) for other, count in lost if other not in (0, label)))


def pack_bits(pixels: NDArray[np.bool_]) -> str:
    """Return booleans of any shape as text."""
    return _packed(np.packbits(pixels).tobytes())


def unpack_bits(text: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the booleans of a shape (rows, cols) that `pack_bits` was given.

    Raises
    ------
    ValueError
        The text holds another number of them.
    """
    count = shape[0] * shape[1]
    raw = np.frombuffer(_unpacked(text, -(-count // 8)), np.uint8)
    return np.unpackbits(raw, count=count).astype(bool).reshape(shape)


def pack_values(values: NDArray[Any]) -> list[str]:
    """Return whole numbers of shape (n,) as the name of their type, their runs, and how long those are, as text."""
    plain = values.astype(values.dtype.newbyteorder("<"), copy=False)
    firsts, lengths = runs(plain)
    return [plain.dtype.str, _packed(firsts.tobytes()), _packed(lengths.astype("<u4").tobytes())]


def unpack_values(packed: tuple[str, ...], count: int) -> NDArray[Any]:
    """Return the whole numbers, shape (count,), that `pack_values` was given.

    Raises
    ------
    ValueError
        They are of an unknown type, or another number of them is there.
    """
    name, firsts, lengths = packed
    if name not in DTYPES:
        raise ValueError(f"{name!r} is no type of labels")
    repeats = np.frombuffer(_unpacked(lengths, most=4 * count), "<u4")
    dtype = np.dtype(name)
    values = np.frombuffer(_unpacked(firsts, len(repeats) * dtype.itemsize), dtype)
    if int(repeats.sum(dtype=np.int64)) != count:
        raise ValueError("its pixels have another number than its box")
    return np.repeat(values, repeats)


def runs(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the first value of each run of equal ones in an array of shape (n,), and how long the runs are."""
    if len(values) == 0:
        return values, np.zeros(0, np.intp)
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return values[starts], np.diff(starts, append=len(values))


def _packed(raw: bytes) -> str:
    return base64.b85encode(zlib.compress(raw, LEVEL)).decode("ascii")


def _unpacked(text: str, length: int | None = None, most: int | None = None) -> bytes:
    """Unpack `length` bytes, or up to `most`: of a line that claims more, no more is ever made."""
    limit = min((most if length is None else length) or 0, MAX_UNPACKED)
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(base64.b85decode(text), limit + 1)
    except (zlib.error, binascii.Error) as error:
        raise ValueError(f"its pixels cannot be unpacked ({error})") from error
    if len(raw) > limit or (length is not None and len(raw) != length) or (most is not None and len(raw) % 4):
        raise ValueError("its pixels have another number than its box")
    return raw
