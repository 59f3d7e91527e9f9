"""Levels: arrays that are samples of each other, written together or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import LabelsError
from napari_sam.labels import chunks
from napari_sam.labels.chunk_files import name_of, remove_all_leftovers, remove_leftovers
from napari_sam.labels.chunks import ChunkWrite
from napari_sam.labels.regions import Region, highest_in, intersection, one_line, relative

if TYPE_CHECKING:
    from napari_sam.labels.chunk_files import ZarrArray


class Levels:
    """Zarr arrays of which each coarser one holds every n-th pixel of the next finer one, starting with the first.

    The finest one counts and the others follow. A write changes the chunks under its box and no others, all at the end,
    the finest level last, and puts back what it changed where it fails halfway. A damaged chunk of a coarse level is
    made anew from finer ones when something is written into it.

    Parameters
    ----------
    arrays
        Whole numbers, finest first.
    steps
        For every level but the first, which whole step along each axis of the level before leads to it.
    """

    def __init__(self, arrays: Sequence[ZarrArray], steps: Sequence[Sequence[int]] = ()) -> None:
        self.arrays = tuple(arrays)
        self.steps = tuple(tuple(step) for step in steps)
        self._way_back: list[ChunkWrite] = []
        self._known: chunks.Known = {}
        self._depth, self._thread = 0, 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the finest level."""
        return tuple(self.arrays[0].shape)

    def write(self, region: Region, block: NDArray[Any]) -> None:
        """Write a region of the finest level, and what the others show of it.

        Raises
        ------
        LabelsError
            The store cannot be read or written to. All is as it was then, unless the message says otherwise: the next
            write puts that back first.
        """
        self.settle()
        writes = sorted(self._writes(region, block), key=lambda write: -write.level)
        try:
            chunks.apply(self.arrays, writes, self._way_back, self._rebuilt, self._known)
        except Exception as error:
            state = "are as they were" if self._take_back() else "are half written, which the next write mends first"
            raise error if isinstance(error, LabelsError) else not_written(error, state) from error
        self._way_back.clear()

    @contextmanager
    def reusing_chunks(self) -> Iterator[None]:
        """Let a `write` in this block do without reading the chunks again that `read_box` has read in it.

        Needs exclusive access from the beginning of the block to its end, or what others write meanwhile is lost.
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
        # Another thread may read without exclusive access: what it has read may be old when it is here.
        keeps = self._depth > 0 and self._thread == threading.get_ident()
        return self.content(0, region, self._known if keeps else None)

    def settle(self) -> None:
        """Put back what is left of a write that failed.

        Raises
        ------
        LabelsError
            The disk still refuses.
        """
        if not self._take_back():
            raise LabelsError("The disk still takes no labels: make space on it or check its permissions, then go on.")

    def repair(self, region: Region) -> None:
        """Make the coarser levels agree with the finest one in a region of that.

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
                    raise not_written(error, "their coarser levels are not mended") from error

    def sweep(self, region: Region) -> None:
        """Remove the files that a program which was killed left while it wrote a region."""
        for level, shown in self._footprint(region):
            for whole in chunks.chunks_under(self.arrays[level], shown):
                remove_leftovers(self.arrays[level], whole)

    def remove_leftovers(self) -> None:
        """Remove the files that programs which were killed left anywhere; needs exclusive access."""
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
        """Return what a region of a coarser level has to hold."""
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
        """Put back what a failed write replaced; say whether nothing is left to put back."""
        try:
            chunks.apply(self.arrays, self._way_back, [], self._rebuilt, self._known)
        except (LabelsError, OSError):
            return False
        self._way_back.clear()
        return True

    def _footprint(self, region: Region) -> Iterator[tuple[int, Region]]:
        """Yield what each level shows of a region of the finest one, down to the last that shows any of it."""
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
    """Return what to tell of an error of the disk."""
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
