"""How quick a journal is with objects in many planes, as propagation writes them.

python benchmarks/journal_planes.py [--objects 200] [--planes 100] [--alone]

Objects are discs of 18 pixels, 24 apart, in labels in memory and a journal on disk that waits for nothing. They are
accepted in the first plane, then in one plane after the other: all of a plane by one entry or, with `--alone`, each by
an entry of its own. Times are of the processor, which counts nothing that other programs do.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Provenance
from napari_sam.journal.journal import Journal
from napari_sam.journal.packing.objects import NewObject
from napari_sam.labels.array import LabelArray

SIDE, STEP = 18, 24
MADE = Provenance("compact", is_propagated=True)


def discs(count: int) -> dict[int, NewObject]:
    """Return one object for each label, row by row."""
    rows, cols = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    pixels, side = rows**2 + cols**2 <= (SIDE / 2) ** 2, math.isqrt(count - 1) + 1
    corners = [(STEP * (at // side), STEP * (at % side)) for at in range(count)]
    return {
        label: NewObject(Mask(Box(top, left, top + SIDE, left + SIDE), pixels, 0.9, 0.9))
        for label, (top, left) in enumerate(corners, 1)
    }


def accept_plane(journal: Journal, plane: Plane, objects: dict[int, NewObject], alone: bool) -> None:
    """Give all objects a part in a plane."""
    if not alone:
        journal.accept_parts(plane, objects, made=MADE)
        return
    with journal.together():
        for label, new in objects.items():
            journal.accept(plane, new.mask, label, made=MADE)


def timed(what: str, work: Callable[[], object]) -> float:
    """Print how many milliseconds some work takes, and return the seconds."""
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    print(f"{what:48} {1000 * seconds:10.1f} ms")
    return seconds


def main() -> None:
    """Accept, and change one of the objects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--planes", type=int, default=100)
    parser.add_argument("--alone", action="store_true", help="one entry for each part")
    given = parser.parse_args()
    objects, length = discs(given.objects), STEP * (math.isqrt(given.objects - 1) + 1)
    planes = [Plane((1, 2), (z, 0, 0)) for z in range(given.planes)]
    half = planes[: len(planes) // 2]
    with tempfile.TemporaryDirectory() as folder:
        labels = LabelArray(np.zeros((len(planes), length, length), np.uint16))
        with Journal(Path(folder) / "a.journal", labels, durable=False) as journal:
            journal.accept_all(planes[0], list(objects.values()))
            seconds = timed("accept all", lambda: [accept_plane(journal, z, objects, given.alone) for z in planes[1:]])
            print(f"{'one part':48} {1000 * seconds / (len(objects) * (len(planes) - 1)):10.3f} ms")
            timed("read an object", lambda: journal.object(1))
            timed("undo the last entry", journal.undo)
            timed("redo it", journal.redo)
            timed("take an object out of half of the planes", lambda: journal.remove_parts(1, half))
            timed("undo that", journal.undo)
            timed("split half of the planes off", lambda: journal.split(1, [dict.fromkeys(half)]))
            timed("merge both again", lambda: journal.merge([1, len(objects) + 1]))
            timed("delete an object", lambda: journal.delete(1))
        size = sum(path.stat().st_size for path in (Path(folder) / "a.journal").iterdir())
    print(f"{'the journal':48} {size / 1e6:10.1f} MB")


if __name__ == "__main__":
    main()
