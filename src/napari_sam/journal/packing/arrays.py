"""Bits and whole numbers as text, packed by zlib, in base 85."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Packed runs are short already, and packing harder takes three times as long.
LEVEL = 1
DTYPES = ("|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8")
# Bytes that a text may unpack to: a mask of 131 072 x 131 072 pixels. One that claims more is damaged.
MAX_UNPACKED = 2**31
# Bytes above which numpy is quicker than the standard library: 15 times at 100 kB.
SHORT = 512
# In the order of the values of the digits, as in `base64.b85encode`.
DIGITS = np.frombuffer(
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~", np.uint8
)
VALUES = np.full(256, 85, np.uint8)
VALUES[DIGITS] = np.arange(85)


def pack_bits(pixels: NDArray[np.bool_]) -> str:
    """Return booleans of any shape as text."""
    return pack_bytes(np.packbits(pixels).tobytes())


def unpack_bits(text: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the booleans of a shape (rows, cols) that `pack_bits` was given.

    Raises
    ------
    ValueError
        The text holds another number of them.
    """
    count = shape[0] * shape[1]
    raw = np.frombuffer(unpack_bytes(text, -(-count // 8)), np.uint8)
    return np.unpackbits(raw, count=count).view(bool).reshape(shape)


def pack_values(values: NDArray[Any]) -> list[str]:
    """Return whole numbers of shape (n,) as the name of their type, their runs, and how long those are, as text."""
    plain = values.astype(values.dtype.newbyteorder("<"), copy=False)
    firsts, lengths = runs(plain)
    return [plain.dtype.str, pack_bytes(firsts.tobytes()), pack_bytes(lengths.astype("<u4").tobytes())]


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
    repeats = np.frombuffer(unpack_bytes(lengths, most=4 * count), "<u4")
    dtype = np.dtype(name)
    values = np.frombuffer(unpack_bytes(firsts, len(repeats) * dtype.itemsize), dtype)
    if int(repeats.sum(dtype=np.int64)) != count:
        raise ValueError("its pixels have another number than its box")
    return np.repeat(values, repeats)


def runs(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the first value of each run of equal ones in an array of shape (n,), and how long the runs are."""
    if len(values) == 0:
        return values, np.zeros(0, np.intp)
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return values[starts], np.diff(starts, append=len(values))


def pack_array(values: NDArray[Any]) -> str:
    """Return numbers of any shape as text; their type is not noted."""
    return pack_bytes(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())


def unpack_array(text: str, dtype: str, *shape: int) -> NDArray[Any]:
    """Return the numbers of a little-endian type and a shape that `pack_array` was given; they are read-only.

    Raises
    ------
    ValueError
        The text holds another number of them.
    """
    raw = unpack_bytes(text, math.prod(shape) * np.dtype(dtype).itemsize)
    return np.frombuffer(raw, dtype).reshape(shape)


def pack_bytes(raw: bytes) -> str:
    """Return bytes as text."""
    packed = zlib.compress(raw, LEVEL)
    return base64.b85encode(packed).decode("ascii") if len(packed) <= SHORT else _encoded(packed)


def unpack_bytes(text: str, length: int | None = None, most: int | None = None) -> bytes:
    """Return the bytes that `pack_bytes` was given, of which no more than claimed are ever made.

    Parameters
    ----------
    text
        The text.
    length
        Their number.
    most
        The highest number that they may have, where it is not known: a multiple of 4.

    Raises
    ------
    ValueError
        The text is damaged, or holds another number of bytes.
    """
    limit = min((most if length is None else length) or 0, MAX_UNPACKED)
    try:
        unpacker = zlib.decompressobj()
        packed = base64.b85decode(text) if len(text) <= SHORT else _decoded(text)
        raw = unpacker.decompress(packed, limit + 1)
    except (zlib.error, binascii.Error) as error:
        raise ValueError(f"its pixels cannot be unpacked ({error})") from error
    if len(raw) > limit or (length is not None and len(raw) != length) or (most is not None and len(raw) % 4):
        raise ValueError("its pixels have another number than its box")
    return raw


def _encoded(raw: bytes) -> str:
    """Return bytes in base 85."""
    padding = -len(raw) % 4
    words = np.frombuffer(raw + bytes(padding), ">u4").astype(np.uint32)
    digits = np.empty((len(words), 5), np.uint8)
    for place in reversed(range(5)):
        words, digits[:, place] = np.divmod(words, np.uint32(85))
    text = DIGITS[digits].tobytes()
    return text[: len(text) - padding].decode("ascii")


def _decoded(text: str) -> bytes:
    """Return the bytes of a text in base 85; raises ValueError where it is none."""
    padding = -len(text) % 5
    digits = VALUES[np.frombuffer(text.encode("ascii") + b"~" * padding, np.uint8)].reshape(-1, 5)
    words = np.zeros(len(digits), np.uint64)
    for place in range(5):
        words = words * np.uint64(85) + digits[:, place]
    if int(digits.max(initial=0)) == 85 or int(words.max(initial=0)) >= 2**32:
        raise ValueError("its pixels are not in base 85")
    raw = words.astype(">u4").tobytes()
    return raw[: len(raw) - padding]
