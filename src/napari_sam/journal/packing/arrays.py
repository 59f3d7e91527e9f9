"""Bits and whole numbers as text, packed by zlib, in base 85."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Packed runs are short already, and packing harder takes three times as long.
LEVEL = 1
DTYPES = ("|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8")
# Bytes that a text may unpack to: a mask of 131 072 x 131 072 pixels. One that claims more is damaged.
MAX_UNPACKED = 2**31


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
