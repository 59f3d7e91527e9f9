"""Pixels that a file stores one after the other: mapped into memory, or decompressed up to a limit."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError

# Compressed pixels are decompressed at once, since no part of them can be found without the parts before it.
MAX_WHOLE_BYTES = 4 * 2**30
PART_BYTES = 2**24


class Stream(Protocol):
    """A file that can be read."""

    def read(self, size: int, /) -> bytes: ...


def mapped(path: Path, dtype: np.dtype[Any], shape: Sequence[int], offset: int) -> NDArray[Any]:
    """Return pixels that are read from the file when they are sliced.

    Parameters
    ----------
    path
        The file.
    dtype
        Type of the pixels as they are stored.
    shape
        Shape of the array, the axis whose pixels follow one another last.
    offset
        Bytes before the first pixel.

    Raises
    ------
    ImageError
        The file is shorter than its header says.
    """
    nbytes = _nbytes(path, dtype, shape)
    size = path.stat().st_size
    if offset < 0 or offset + nbytes > size:
        raise ImageError(
            f"{path} is cut off, since its header promises {offset + nbytes} bytes and it has {size}: copy it again."
        )
    return np.memmap(path, dtype, "r", offset, tuple(shape))


def decompressed(path: Path, stream: Stream, dtype: np.dtype[Any], shape: Sequence[int], advice: str) -> NDArray[Any]:
    """Read all pixels from a compressed stream, and not a byte more than the header promises.

    Parameters
    ----------
    path
        The file, for messages.
    stream
        Yields the pixels.
    dtype, shape
        As in `mapped`.
    advice
        What to do with a larger file, as the end of a sentence.

    Raises
    ------
    ImageError
        The pixels take more than 4 GiB, or the stream ends before.
    """
    nbytes = _nbytes(path, dtype, shape)
    check_whole_size(path, nbytes, advice)
    # Memory that no byte is written to takes no room, so a header that lies costs nothing.
    pixels, done = np.empty(nbytes, np.uint8), 0
    try:
        while done < nbytes and (part := stream.read(min(nbytes - done, PART_BYTES))):
            pixels[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise ImageError(f"{path} is damaged, since it cannot be decompressed ({error}): copy it again.") from error
    if done < nbytes:
        raise ImageError(
            f"{path} is cut off, since its header promises {nbytes} bytes of pixels and it has {done}: copy it again."
        )
    return pixels.view(dtype).reshape(tuple(shape))


def check_whole_size(path: Path, nbytes: int, advice: str) -> None:
    """Refuse compressed pixels that are too large to be read at once; see `decompressed`.

    Raises
    ------
    ImageError
        They take more than 4 GiB.
    """
    if nbytes > MAX_WHOLE_BYTES:
        raise ImageError(
            f"{path} is compressed and holds {nbytes / 2**30:.1f} GiB, which cannot be read in parts: {advice}."
        )


def _nbytes(path: Path, dtype: np.dtype[Any], shape: Sequence[int]) -> int:
    if not shape or any(length < 1 for length in shape):
        raise ImageError(f"{path} holds no pixels, since its shape is {tuple(shape)}: export it again.")
    return math.prod(int(length) for length in shape) * dtype.itemsize
