"""Levels: zarr arrays of one label image at several resolutions, written together or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import LabelsError, one_line
from napari_sam.files.zarr_writes import no_write_goes_on
from napari_sam.labels.regions import Region, highest_in, intersection, relative
from napari_sam.labels.storage import chunks
from napari_sam.labels.storage.chunk_files import name_of, remove_all_leftovers, remove_leftovers
from napari_sam.labels.storage.chunks import ChunkWrite
from napari_sam.labels.storage.multiscales import like

if TYPE_CHECKING:
    import zarr

    from napari_sam.labels.storage.chunk_files import ZarrArray


class Levels:
    """Zarr arrays of which each coarser one holds every n-th pixel of the next finer one, starting with the first.

    The finest level is authoritative. A write changes only the chunks under its box, all of them at the end and the
    finest level last; where it fails halfway it restores what it changed. A damaged chunk of a coarse level is rebuilt
    from finer ones when something is written into it.

    Parameters
    ----------
    arrays
        Integer arrays, finest first.
    steps
        For every level but the first, the sampling step along each axis of the level before.
    """

    def __init__(self, arrays: Sequence[ZarrArray], steps: Sequence[Sequence[int]] = ()) -> None:
        self.arrays = tuple(arrays)
        self.steps = tuple(tuple(step) for step in steps)
        self._way_back: list[ChunkWrite] = []
        self._known: chunks.Known = {}
        self._depth, self._thread = 0, 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the finest level."""
        return tuple(self.arrays[0].shape)

    def write(self, region: Region, block: NDArray[Any]) -> None:
        """Write a region of the finest level, and its samples in the other levels.

        Raises
        ------
        LabelsError
            The store cannot be read or written to. The labels are unchanged, unless the message says otherwise: then
            the next write restores them first.
        """
        self.settle()
        writes = sorted(self._writes(region, block), key=lambda write: -write.level)
        try:
            chunks.apply(self.arrays, writes, self._way_back, self._rebuilt, self._known)
        except Exception as error:
            state = "are as they were" if self._take_back() else "are half written, which the next write repairs first"
            raise error if isinstance(error, LabelsError) else not_written(error, state) from error
        self._way_back.clear()

    @contextmanager
    def reusing_chunks(self) -> Iterator[None]:
        """Keep the chunks that `read_box` reads in this block, so that a `write` in it does not read them again.

        Needs exclusive access throughout the block: writes of others in between would be lost.
        """
        self._depth, self._thread = self._depth + 1, threading.get_ident()
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._known.clear()

    def read_box(self, region: Region) -> NDArray[Any]:
        """Read a region of the finest level; see `reusing_chunks`.

        Raises
        ------
        LabelsError
            A chunk cannot be read.
        """
        # Another thread may read without exclusive access, so its chunks may be outdated when they are stored.
        keeps = self._depth > 0 and self._thread == threading.get_ident()
        return self.content(0, region, self._known if keeps else None)

    def settle(self) -> None:
        """Restore what a failed write left changed.

        Raises
        ------
        LabelsError
            The disk still refuses.
        """
        if not self._take_back():
            raise LabelsError("The disk still takes no labels: make space on it or check its permissions, then go on.")

    def repair(self, region: Region) -> None:
        """Make the coarser levels agree with a region of the finest one.

        Raises
        ------
        LabelsError
            A chunk of the finest level cannot be read, or the store cannot be written to.
        """
        for level, shown in self._footprint(region):
            for whole in chunks.chunks_under(self.arrays[level], shown) if level > 0 else ():
                part = intersection(whole, shown)
                try:
                    chunks.apply(self.arrays, [ChunkWrite(level, part, self._sampled(level, part))], [], self._rebuilt)
                except OSError as error:
                    raise not_written(error, "their coarser levels are not repaired") from error

    def sweep(self, region: Region) -> None:
        """Remove the temporary files that a killed program left while it wrote a region."""
        for level, shown in self._footprint(region):
            for whole in chunks.chunks_under(self.arrays[level], shown):
                remove_leftovers(self.arrays[level], whole)

    def remove_leftovers(self) -> None:
        """Remove all temporary files that killed programs left; needs exclusive access."""
        for array in self.arrays:
            remove_all_leftovers(array)

    def highest(self, *, with_end: bool = False) -> int:
        """Return a number that no label is above, from the chunks of the finest level that were ever written.

        Parameters
        ----------
        with_end
            Whether the highest number of the labels' type counts; it often marks what is to be ignored.
        """
        array = self.arrays[0]
        unwritten = np.asarray([array.fill_value or 0], array.dtype)
        found = (highest_in(block, with_end=with_end) for written in self.written(0) for _, block in written)
        return max(highest_in(unwritten, with_end=with_end), max(found, default=0))

    def written(self, level: int) -> Iterator[list[tuple[Region, NDArray[Any]]]]:
        """Yield the chunks of a level that were ever written, as many at a time as may be in memory."""
        array = self.arrays[level]
        every = chunks.chunks_under(array, tuple(slice(0, length) for length in array.shape))
        regions = chunks.existing(array)
        left = every if regions is None else iter(regions)
        while batch := list(islice(left, chunks.batch_length(array))):
            blocks = chunks.read([(array, region) for region in batch])
            yield [
                (region, self._rebuilt(level, region, block) if isinstance(block, Exception) else block)
                for region, block in zip(batch, blocks, strict=True)
            ]

    def copies(self, group: zarr.Group, names: Sequence[str], dtype: np.dtype[Any]) -> tuple[ZarrArray, ...]:
        """Copy the chunks that were ever written into new arrays of another type in a group, and return these.

        Raises
        ------
        LabelsError, OSError
            A chunk of the finest level cannot be read, or the disk refuses.
        """
        copies = []
        for level, name in enumerate(names):
            with no_write_goes_on():
                copies.append(like(group, name, self.arrays[level], dtype))
            for written in self.written(level):
                chunks.write([(copies[level], region, block.astype(dtype)) for region, block in written])
        return tuple(copies)

    def content(self, level: int, region: Region, known: chunks.Known | None = None) -> NDArray[Any]:
        """Read a region of a level, from finer ones where a chunk of it is damaged; `known` gets its whole chunks."""
        array = self.arrays[level]
        content = np.empty([at.stop - at.start for at in region], array.dtype)
        wholes = list(chunks.chunks_under(array, region))
        for whole, block in zip(wholes, chunks.read([(array, whole) for whole in wholes]), strict=True):
            sound = self._rebuilt(level, whole, block) if isinstance(block, Exception) else block
            part = intersection(whole, region)
            content[relative(part, region)] = sound[relative(part, whole)]
            if known is not None and len(known) < chunks.batch_length(array):
                known[chunks.key_of(level, whole)] = sound
        return content

    def _sampled(self, level: int, region: Region) -> NDArray[Any]:
        """Return the samples that a region of a coarser level holds."""
        step = self.steps[level - 1]
        finer = tuple(slice(at.start * n, (at.stop - 1) * n + 1) for at, n in zip(region, step, strict=True))
        return self.content(level - 1, finer)[tuple(slice(None, None, n) for n in step)]

    def _rebuilt(self, level: int, whole: Region, error: Exception) -> NDArray[Any]:
        if level > 0:
            return self._sampled(level, whole)
        raise LabelsError(
            f"The labels in {name_of(self.arrays[0], whole)} cannot be read ({one_line(error)}): put that "
            "file back from a copy, or delete it, which leaves its pixels without labels."
        ) from error

    def _take_back(self) -> bool:
        """Restore what a failed write replaced; return whether all of it is restored."""
        try:
            chunks.apply(self.arrays, self._way_back, [], self._rebuilt, self._known)
        except (LabelsError, OSError):
            return False
        self._way_back.clear()
        return True

    def _footprint(self, region: Region) -> Iterator[tuple[int, Region]]:
        """Yield each level that samples a region of the finest one, and the region of its samples."""
        yield 0, region
        for level, step in enumerate(self.steps, start=1):
            region = _coarser(region, step, self.arrays[level].shape)
            if any(at.start == at.stop for at in region):
                return
            yield level, region

    def _writes(self, region: Region, block: NDArray[Any]) -> Iterator[ChunkWrite]:
        finer = region
        for level, shown in self._footprint(region):
            step = self.steps[level - 1] if level > 0 else (1,) * len(region)
            first = (at.start * n - fine.start for at, fine, n in zip(shown, finer, step, strict=True))
            block = block[tuple(slice(start, None, n) for start, n in zip(first, step, strict=True))]
            block = block[tuple(slice(at.stop - at.start) for at in shown)]
            yield from chunks.split(self.arrays[level], level, shown, block)
            finer = shown


def not_written(error: Exception, state: str = "are as they were") -> LabelsError:
    """Return the error for a write that the disk refused."""
    return LabelsError(
        f"The labels cannot be written ({one_line(error)}) and {state}: make space on the disk or check its "
        "permissions, then try again."
    )


def _coarser(region: Region, step: Sequence[int], shape: Sequence[int]) -> Region:
    """Return the pixels of the next level that are sampled from a region; possibly none."""
    bounds = (
        (-(-at.start // n), min(-(-at.stop // n), length)) for at, n, length in zip(region, step, shape, strict=True)
    )
    return tuple(slice(start, max(start, stop)) for start, stop in bounds)
