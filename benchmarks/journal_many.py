"""How quick a journal is with objects that are accepted many at a time, as a search for all objects does.

python benchmarks/journal_many.py [--objects 1000000] [--block 2048] [--folder FOLDER] [--json FILE]

Objects are discs of 12 pixels with a point and a box as prompts, 16 pixels apart, in a label pyramid on disk. Each
block is one entry, and all blocks are one action. Times are in seconds, once by the clock and once of the processor,
which counts nothing that other programs do.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.prompts import Prompts
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.journal.packing.objects import NewObject
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid

SIDE, STEP = 12, 16
ROWS_IN_VIEW = 30
REPETITIONS = 21


class Stopwatch:
    """Adds up times by the clock and of the processor, by what they were of."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def of(self, what: str, work: Callable[[], object], times: int = 1) -> None:
        """Add how long some work takes on average."""
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(times):
            work()
        taken = time.perf_counter() - wall, time.process_time() - processor
        known = self.times.setdefault(what, [0.0, 0.0])
        known[:] = [before + spent / times for before, spent in zip(known, taken, strict=True)]


def objects_in(top: int, left: int, block: int, rng: np.random.Generator) -> list[NewObject]:
    """Return the objects of a block, no two of them alike."""
    rows, cols = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    disc = rows**2 + cols**2 <= (SIDE / 2) ** 2
    found = []
    for row in range(top + 2, top + block, STEP):
        for col in range(left + 2, left + block, STEP):
            box = Box(row, col, row + SIDE, col + SIDE)
            pixels = disc ^ (rng.random(disc.shape) < 0.02)
            middle = np.array([[row + SIDE / 2, col + SIDE / 2]])
            mask = Mask(box, pixels, *rng.random(2, np.float32).astype(float).tolist())
            found.append(NewObject(mask, Prompts(middle, np.ones(1, bool), box)))
    return found


def blocks_of(side: int, block: int) -> Iterator[tuple[int, int]]:
    """Yield the corner of each block of a plane."""
    for top in range(0, side, block):
        for left in range(0, side, block):
            yield top, left


def measure(folder: Path, count: int, block: int) -> dict[str, object]:
    """Return the times, and the sizes."""
    side = -(-int(np.ceil(count**0.5)) * STEP // block) * block
    target = LabelArray(LabelPyramid.create(folder / "labels.ome.zarr", (side, side), dtype="uint32"))
    plane, rng, watch = Plane.of((side, side)), np.random.default_rng(0), Stopwatch()
    place = folder / "labels.ome.zarr.journal"
    with Journal(place, target, durable=False) as journal:
        with journal.together():
            for top, left in blocks_of(side, block):
                objects = objects_in(top, left, block, rng)
                watch.of("accept all", lambda objects=objects: journal.accept_all(plane, objects))  # type: ignore[misc]
        count, middle = len(journal.objects), len(journal.objects) // 2
        watch.of("undo all", journal.undo_together)
        if len(journal.objects) != 0:
            raise RuntimeError("The undo has left objects behind.")
        watch.of("redo all", journal.redo_together)
        view = journal.objects
        watch.of("rows in the middle of the table", lambda: view[middle : middle + ROWS_IN_VIEW], REPETITIONS)
        square = Mask(Box(0, 0, 40, 40), np.ones((40, 40), bool))
        watch.of("accept one over others", lambda: journal.accept(plane, square, overlap="overwrite"))
        watch.of("delete one", lambda: journal.delete(middle))
        watch.of("undo one", journal.undo)

    def reopen() -> None:
        with open_journal(place) as opened:
            found = opened.object(middle)
            if found.prompts is None or found.mask.area == 0:
                raise RuntimeError("The object has lost what it was segmented by.")

    watch.of("open the journal and reopen an object", reopen, REPETITIONS)
    return {
        "objects": count,
        "side": side,
        "entries": len(open_journal(place).entries),
        "seconds by the clock": {what: times[0] for what, times in watch.times.items()},
        "seconds of the processor": {what: times[1] for what, times in watch.times.items()},
        "objects a second": count / watch.times["accept all"][0],
        "bytes on disk for each object": sum(path.stat().st_size for path in place.iterdir()) / count,
        "peak memory in MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def main() -> None:
    """Print the figures, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--block", type=int, default=2048, help="side of the blocks, in pixels")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; the temporary folder when left out")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        found = measure(Path(name), arguments.objects, arguments.block)
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
