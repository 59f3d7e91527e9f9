"""The files of chunks: those of zarr arrays that are compressed as ours are, without zarr's event loop and threads.

A chunk of 512 x 512 labels takes a third of a millisecond to unpack and twice that to pack and write, and zarr about as
much again each time to get there, which is most of a click's cost where twenty or thirty chunks are small changes.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.stores.boxes import Region

if TYPE_CHECKING:
    import zarr

    ZarrArray = zarr.Array[Any]


def chunk_sides(array: ZarrArray) -> tuple[int, ...]:
    """Return the lengths of what is stored as one: the shard where there are shards, else the chunk."""
    return array.shards or array.chunks


def name_of(array: ZarrArray, whole: Region) -> str:
    """Return what a chunk is called: its path where it is a file, else its key in the store."""
    index = tuple(at.start // side for at, side in zip(whole, chunk_sides(array), strict=True))
    parts = (getattr(array.store, "root", ""), array.path, array.metadata.encode_chunk_key(index))
    return "/".join(str(part) for part in parts if part)


def codec_of(array: ZarrArray) -> Any:
    """Return what packs the chunks of an array where they are files of plain numbers under Zstandard, else None."""
    from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
    from zarr.codecs import BytesCodec, ZstdCodec
    from zarr.storage import LocalStore

    codecs: Sequence[Any] = getattr(array.metadata, "codecs", ())
    if not isinstance(array.store, LocalStore) or [type(codec) for codec in codecs] != [BytesCodec, ZstdCodec]:
        return None
    plain, packed = codecs
    native = plain.endian is None or plain.endian.value == sys.byteorder
    return Zstd(packed.level, packed.checksum) if native else None


def read_file(array: ZarrArray, whole: Region, codec: Any) -> NDArray[Any]:
    """Read a chunk; one that was never written is all fill.

    Raises
    ------
    Exception
        The file cannot be read, or does not hold what it should.
    """
    lengths = tuple(slice(at.stop - at.start) for at in whole)
    block = np.empty(array.chunks, array.dtype)
    try:
        packed = Path(name_of(array, whole)).read_bytes()
    except FileNotFoundError:
        block[...] = array.fill_value
    else:
        codec.decode(packed, out=block)
    return block[lengths]


@dataclass(frozen=True, slots=True)
class Staged:
    """A chunk that is on the disk but not in its place yet.

    Parameters
    ----------
    path
        Its place.
    beside
        Where it is; None for one that is all fill, which has no file.
    """

    path: Path
    beside: Path | None

    def commit(self) -> None:
        """Put it in its place, which takes no space."""
        if self.beside is None:
            self.path.unlink(missing_ok=True)
        else:
            self.beside.replace(self.path)

    def discard(self) -> None:
        """Remove what was not put in its place."""
        if self.beside is not None:
            with suppress(OSError):
                self.beside.unlink(missing_ok=True)


def stage_file(array: ZarrArray, whole: Region, block: NDArray[Any], codec: Any) -> Staged:
    """Write a chunk beside its place.

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
        beside.write_bytes(codec.encode(np.ascontiguousarray(full)))
    except OSError:
        Staged(path, beside).discard()
        raise
    return Staged(path, beside)


def remove_leftovers(array: ZarrArray, whole: Region) -> None:
    """Remove what a program that was killed left beside the place of a chunk."""
    path = Path(name_of(array, whole))
    for left in path.parent.glob(f"{path.name}.*.partial"):
        with suppress(OSError):
            left.unlink()
