"""Chunks of zarr arrays: list them, and read or write many at once, with the values to restore after a failure."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.labels.regions import Region, intersection, relative
from napari_sam.labels.storage.chunk_files import Staged, chunk_sides, read_file, stage_file, zstd_level

if TYPE_CHECKING:
    from napari_sam.labels.storage.chunk_files import ZarrArray

BATCH_BYTES = 2**24


@dataclass(frozen=True, slots=True, eq=False)
class ChunkWrite:
    """Values for a region that lies in one chunk.

    Parameters
    ----------
    level
        Index of the array in a list of levels.
    region
        Box of that array, inside one chunk.
    values
        New values, with the shape of the region.
    """

    level: int
    region: Region
    values: NDArray[Any]


Rebuild = Callable[[int, Region, Exception], NDArray[Any]]
"""Return a substitute for a chunk that cannot be read, from level, region and error; it may raise instead."""

Known = dict[tuple[int, ...], NDArray[Any]]
"""Whole chunks in memory, by `key_of`."""


def key_of(level: int, whole: Region) -> tuple[int, ...]:
    """Return the key of a chunk in `Known`."""
    return (level, *(at.start for at in whole))


def chunks_under(array: ZarrArray, region: Region) -> Iterator[Region]:
    """Yield the regions of the whole chunks that a region meets, cut at the array's edge."""
    sides = chunk_sides(array)
    for index in product(*(range(at.start // n, -(-at.stop // n)) for at, n in zip(region, sides, strict=True))):
        yield _chunk(array, index)


def split(array: ZarrArray, level: int, region: Region, values: NDArray[Any]) -> Iterator[ChunkWrite]:
    """Cut the values of a region at the borders of chunks."""
    for whole in chunks_under(array, region):
        part = intersection(whole, region)
        yield ChunkWrite(level, part, values[relative(part, region)])


def batch_length(array: ZarrArray) -> int:
    """Return how many chunks of an array may be in memory together."""
    return max(1, BATCH_BYTES // int(np.prod(chunk_sides(array), dtype=np.int64) * np.dtype(array.dtype).itemsize))


def read(wholes: Sequence[tuple[ZarrArray, Region]]) -> list[Any]:
    """Read whole chunks and return the block, or the error, of each."""
    plain = [zstd_level(array) is not None for array, _ in wholes]
    others = [
        array.async_array.getitem(region) for (array, region), fast in zip(wholes, plain, strict=True) if not fast
    ]
    by_zarr = iter(_together(others))
    return [
        _attempt(array, region) if fast else next(by_zarr) for (array, region), fast in zip(wholes, plain, strict=True)
    ]


def write(writes: Sequence[tuple[ZarrArray, Region, NDArray[Any]]]) -> None:
    """Write whole chunks."""
    staged = stage(writes)
    for chunk in staged:
        chunk.commit()


def stage(writes: Sequence[tuple[ZarrArray, Region, NDArray[Any]]]) -> list[Staged]:
    """Write whole chunks to temporary files, or to their final place where `zstd_level` is None.

    zarr's own write of several chunks fails at the first one while the others go on in the background, where they
    would undo what is put back; here all have ended before an error is raised.
    """
    staged, slow = [], []
    try:
        for array, region, block in writes:
            if (level := zstd_level(array)) is not None:
                staged.append(stage_file(array, region, block, level))
            else:
                slow.append((array, region, block))
        for result in _together([array.async_array.setitem(region, block) for array, region, block in slow]):
            if isinstance(result, Exception):
                raise result
    except Exception:
        for chunk in staged:
            chunk.discard()
        raise
    return staged


def _attempt(array: ZarrArray, region: Region) -> NDArray[Any] | Exception:
    try:
        return read_file(array, region)
    except Exception as error:
        return error


def apply(
    levels: Sequence[ZarrArray],
    writes: Sequence[ChunkWrite],
    way_back: list[ChunkWrite],
    rebuild: Rebuild,
    known: Known | None = None,
) -> None:
    """Write into chunks, at most once into each; a chunk that has the values already is not written.

    All new chunks are on the disk before the first one replaces an old one, so a full disk changes nothing. That holds
    for chunks that are plain files; those of other stores and codecs are written one batch after the other.

    Parameters
    ----------
    levels
        The arrays.
    writes
        New values.
    way_back
        The writes that restore the old values are appended to it, each before its chunk changes.
    rebuild
        Returns a substitute for a chunk that cannot be read.
    known
        Chunks that need not be read again; chunks that change are removed from it.

    Raises
    ------
    Exception
        The first error of the store, once no write is under way any more, so that `way_back` can be put back.
    """
    length = min((batch_length(levels[level]) for level in {write.level for write in writes}), default=1)
    staged: list[Staged] = []
    try:
        for start in range(0, len(writes), length):
            batch = writes[start : start + length]
            staged += stage(list(_changes(levels, batch, way_back, rebuild, {} if known is None else known)))
        for chunk in staged:
            chunk.commit()
    except BaseException:
        for chunk in staged:
            chunk.discard()
        raise


def _changes(
    levels: Sequence[ZarrArray],
    writes: Sequence[ChunkWrite],
    way_back: list[ChunkWrite],
    rebuild: Rebuild,
    known: Known,
) -> Iterator[tuple[ZarrArray, Region, NDArray[Any]]]:
    """Yield the whole chunks that are changed, as they are to be."""
    wholes = [next(chunks_under(levels[write.level], write.region)) for write in writes]
    found = [known.pop(key_of(write.level, whole), None) for write, whole in zip(writes, wholes, strict=True)]
    unread = [
        (levels[write.level], whole) for write, whole, block in zip(writes, wholes, found, strict=True) if block is None
    ]
    blocks = iter(read(unread))
    for write, whole, ready in zip(writes, wholes, found, strict=True):
        block: Any = next(blocks) if ready is None else ready
        broken = isinstance(block, Exception)
        now = rebuild(write.level, whole, block) if broken else block
        inner = relative(write.region, whole)
        if not broken and np.array_equal(now[inner], write.values):
            continue
        if write.region == whole:  # Nothing is copied: of a run over a plane, this is a tenth of its undo.
            way_back.append(ChunkWrite(write.level, whole, now))
            yield levels[write.level], whole, write.values
            continue
        way_back.append(ChunkWrite(write.level, write.region, now[inner].copy()))
        now[inner] = write.values
        yield levels[write.level], whole, now


def existing(array: ZarrArray) -> list[Region] | None:
    """Return the regions of the chunks that were ever written; None where the store cannot list them."""
    if not array.store.supports_listing:
        return None
    from zarr.core.sync import collect_aiterator

    prefix = f"{array.path}/" if array.path else ""
    found = []
    for key in collect_aiterator(array.store.list_prefix(prefix)):
        index = tuple(int(number) for number in re.findall(r"\d+", key[len(prefix) :]))
        if len(index) == array.ndim and key[len(prefix) :] == array.metadata.encode_chunk_key(index):
            found.append(_chunk(array, index))
    # An array that was made smaller may keep chunks that lie outside now.
    return [region for region in found if all(at.start < at.stop for at in region)]


def _chunk(array: ZarrArray, index: Sequence[int]) -> Region:
    sides = zip(index, chunk_sides(array), array.shape, strict=True)
    return tuple(slice(at * side, min((at + 1) * side, length)) for at, side, length in sides)


def _together(coroutines: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run coroutines of zarr on its own loop: one change of threads for many chunks instead of one for each."""
    from zarr.core.sync import sync

    if not coroutines:
        return []

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*coroutines, return_exceptions=True)

    return sync(all_of_them())
