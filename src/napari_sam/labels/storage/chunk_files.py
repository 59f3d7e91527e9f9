"""Chunk files of zarr arrays compressed by Zstandard alone, read and written without zarr's event loop and threads.

Decompressing, compressing and writing 512 x 512 labels takes about 1 ms, through zarr 3 to 5 ms. One object may change
thirty chunks, a few at each level.
"""

from __future__ import annotations

import glob
import os
import re
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_sam.labels.regions import Region

if TYPE_CHECKING:
    import zarr

    ZarrArray = zarr.Array[Any]

# A chunk that is being written: by `stage_file`, or by zarr, which leaves out what follows the last dot.
HALF = re.compile(r"(c|\d+)(\.\d+)*\.([0-9a-f]{8}|[0-9a-f]{32})\.partial")
# Metadata that zarr is writing.
HALF_METADATA = re.compile(r"(zarr|\.z(array|group|attrs|metadata))\.[0-9a-f]{32}\.partial")


def chunk_sides(array: ZarrArray) -> tuple[int, ...]:
    """Return the lengths of the unit that is stored as one file: the shard, or the chunk where there are no shards."""
    return array.shards or array.chunks


def name_of(array: ZarrArray, whole: Region) -> str:
    """Return the path of a chunk that is a file, or else its key in the store."""
    index = tuple(at.start // side for at, side in zip(whole, chunk_sides(array), strict=True))
    parts = (getattr(array.store, "root", ""), array.path, array.metadata.encode_chunk_key(index))
    return "/".join(str(part) for part in parts if part)


def zstd_level(array: ZarrArray) -> int | None:
    """Return the Zstandard level of an array whose chunks are local files compressed by nothing else, or None."""
    from zarr.codecs import BytesCodec, ZstdCodec
    from zarr.storage import LocalStore

    codecs: Sequence[Any] = getattr(array.metadata, "codecs", ())
    if not isinstance(array.store, LocalStore) or [type(codec) for codec in codecs] != [BytesCodec, ZstdCodec]:
        return None
    plain, packed = codecs
    native = plain.endian is None or plain.endian.value == sys.byteorder
    return int(packed.level) if native and not packed.checksum else None


def read_file(array: ZarrArray, whole: Region) -> NDArray[Any]:
    """Read a chunk; one that was never written holds the fill value.

    Raises
    ------
    Exception
        The file cannot be read, or does not hold what it should.
    """
    lengths = tuple(at.stop - at.start for at in whole)
    try:
        packed = Path(name_of(array, whole)).read_bytes()
    except FileNotFoundError:
        return np.full(lengths, array.fill_value, array.dtype)
    block = np.empty(array.chunks, array.dtype)
    raw: Any = block.reshape(-1).view(np.uint8)
    # Into a buffer of the right length, whatever length the file claims.
    if len(imagecodecs.zstd_decode(packed, out=raw)) != len(raw):
        raise ValueError("it holds too few labels")
    return block[tuple(slice(length) for length in lengths)]


@dataclass(frozen=True, slots=True)
class Staged:
    """A chunk that was written to a temporary file.

    Parameters
    ----------
    path
        Its final path.
    beside
        The temporary file; None for a chunk of fill values, which has no file.
    """

    path: Path
    beside: Path | None

    def commit(self) -> None:
        """Move it to its final path, which takes no space on the disk."""
        if self.beside is None:
            self.path.unlink(missing_ok=True)
        else:
            self.beside.replace(self.path)

    def discard(self) -> None:
        """Remove the temporary file."""
        if self.beside is not None:
            with suppress(OSError):
                self.beside.unlink(missing_ok=True)


def stage_file(array: ZarrArray, whole: Region, block: NDArray[Any], level: int) -> Staged:
    """Write a chunk to a temporary file beside its final path.

    Raises
    ------
    OSError
        The disk is full, or refuses; nothing is left behind.
    """
    path = Path(name_of(array, whole))
    if (block == array.fill_value).all():
        return Staged(path, None)
    full = block
    if block.shape != array.chunks:
        full = np.full(array.chunks, array.fill_value, array.dtype)
        full[tuple(slice(length) for length in block.shape)] = block
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(imagecodecs.zstd_encode(full.tobytes(), level=level))
    except OSError:
        Staged(path, beside).discard()
        raise
    return Staged(path, beside)


def remove_leftovers(array: ZarrArray, whole: Region) -> None:
    """Remove the temporary files of a chunk that a killed program left; needs exclusive access."""
    path = Path(name_of(array, whole))
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
        _remove_half(left)


def remove_all_leftovers(array: ZarrArray) -> None:
    """Remove all temporary files of chunks that killed programs left in an array; needs exclusive access."""
    root = getattr(array.store, "root", None)
    if root is not None:
        for folder, _, names in os.walk(Path(root) / array.path):
            for name in names:
                _remove_half(Path(folder, name))


def remove_metadata_leftovers(folder: Path) -> None:
    """Remove the temporary metadata files that killed programs left in an array or group; needs exclusive access."""
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            _remove_half(folder / name)


def _remove_half(file: Path) -> None:
    if HALF.fullmatch(file.name) or HALF_METADATA.fullmatch(file.name):
        with suppress(OSError):
            file.unlink()
