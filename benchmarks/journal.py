"""How long the operations of a journal take with 100 objects in it and with 100 000, and what a commit costs.

python benchmarks/journal.py [--objects 100 100000] [--folder FOLDER] [--json FILE]

Objects are discs of 22 pixels with a point prompt, one in three with a class, accepted in batches of 1 000. Every time
is the median of its repetitions, in milliseconds. The first table compares ways to bring one entry of a kilobyte to the
disk: a text log, and SQLite with its rollback journals and its write-ahead log.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.prompts import Prompts
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.labels.array import LabelArray

SIDE, STEP = 22, 24
BATCH = 1000
ROWS_IN_VIEW = 30
REPETITIONS = 101
MODES = (("DELETE", "EXTRA"), ("TRUNCATE", "FULL"), ("PERSIST", "FULL"), ("WAL", "FULL"), ("WAL", "NORMAL"))


def median(work: Callable[[], object], repetitions: int = REPETITIONS) -> float:
    """Return the median time of some work in milliseconds."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def commits(folder: Path) -> dict[str, float]:
    """Return how long it takes to append one entry to a log, and to tables with 20 000 rows."""
    entry = os.urandom(500).hex()
    with (folder / "log").open("ab", buffering=0) as log:

        def append() -> None:
            log.write(entry.encode())
            os.fsync(log.fileno())

        found = {"log, waiting for the disk": median(append)}
    for mode, synchronous in MODES:
        with closing(sqlite3.connect(folder / f"{mode}-{synchronous}", isolation_level=None)) as connection:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute(f"PRAGMA journal_mode={mode}")
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute("CREATE TABLE entries (n INTEGER PRIMARY KEY, content TEXT)")
            connection.execute("CREATE TABLE objects (label INTEGER PRIMARY KEY, area INTEGER, content TEXT)")
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO entries (content) VALUES (?)", [(entry,)] * 20_000)
            connection.executemany("INSERT INTO objects (area, content) VALUES (1, ?)", [(entry[:200],)] * 20_000)
            connection.execute("COMMIT")

            def commit(connection: sqlite3.Connection = connection) -> None:
                connection.execute("BEGIN")
                connection.execute("INSERT INTO entries (content) VALUES (?)", (entry,))
                connection.execute("INSERT INTO objects (area, content) VALUES (1, ?)", (entry[:200],))
                connection.execute("COMMIT")

            found[f"SQLite, {mode} with synchronous={synchronous}"] = median(commit)
    return found


class Work:
    """A journal with many objects, of labels in memory.

    Parameters
    ----------
    folder
        Of the journal.
    side
        Of the labels.
    """

    def __init__(self, folder: Path, side: int) -> None:
        self.folder, self.columns = folder, side // STEP
        self.target = LabelArray(np.zeros((side, side), np.uint32))
        self.plane, self.number = Plane.of((side, side)), 0
        rows, cols = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
        self.pixels = rows**2 + cols**2 <= (SIDE / 2) ** 2
        self.journal = self.opened(durable=False)

    def opened(self, *, durable: bool) -> Journal:
        """Open the journal to go on with it."""
        return Journal(self.folder, self.target, about={}, durable=durable)

    def accept(self) -> None:
        """Accept the next object."""
        top, left = (STEP * at for at in divmod(self.number, self.columns))
        mask = Mask(Box(top, left, top + SIDE, left + SIDE), self.pixels, 0.9, 0.95)
        shape = tuple(self.target.array.shape)
        prompts = Prompts.of([(top + SIDE / 2, left + SIDE / 2)], [1], None, None, shape=shape)
        name = "nucleus" if self.number % 3 == 0 else None
        self.journal.accept(self.plane, mask, prompts=prompts, class_name=name)
        self.number += 1

    def fill(self, count: int) -> float:
        """Accept objects in batches, and return how many milliseconds an object took."""
        start = time.perf_counter()
        while self.number < count:
            with self.journal.together():
                for _ in range(min(BATCH, count - self.number)):
                    self.accept()
            self.journal.flush()
        return 1000 * (time.perf_counter() - start) / count

    def undo(self) -> None:
        """Undo the last object."""
        self.journal.undo()
        self.number -= 1

    def redo(self) -> None:
        """Redo the object that was undone last."""
        self.journal.redo()
        self.number += 1


def measure(folder: Path, count: int, side: int) -> dict[str, float]:
    """Return the times of a journal with so many objects."""
    work = Work(folder, side)
    found = {"accept in batches of 1 000": work.fill(count)}
    middle = count // 2
    found["accept the next"] = median(work.accept)
    found["undo"] = median(work.undo)
    found["redo"] = median(work.redo)
    views = work.journal.objects
    found["number of objects"] = median(lambda: len(views))
    found["first rows of the table"] = median(lambda: views[:ROWS_IN_VIEW])
    found["last rows of the table"] = median(lambda: views[-ROWS_IN_VIEW:])
    found["rows in the middle of the table"] = median(lambda: views[middle : middle + ROWS_IN_VIEW])
    found["object of a label"] = median(lambda: work.journal.object(middle))
    found["first rows of a class"] = median(lambda: views.of_class(1)[:ROWS_IN_VIEW])
    work.journal.close()
    found["close and open for writing"] = median(lambda: work.opened(durable=False).close(), 21)
    found["open to read and list the first rows"] = median(lambda: open_journal(folder).objects[:ROWS_IN_VIEW], 21)
    work.journal = work.opened(durable=True)
    found["accept the next, waiting for the disk"] = median(work.accept)
    found["undo, waiting for the disk"] = median(work.undo)
    work.journal.close()
    found["bytes on disk for each object"] = sum(path.stat().st_size for path in folder.iterdir()) / work.number
    return found


def main() -> None:
    """Print the tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, nargs=2, default=[100, 100_000])
    parser.add_argument("--folder", type=Path, help="on the disk to measure; the temporary folder when left out")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    few, many = arguments.objects
    side = STEP * (int((many + 10 * REPETITIONS) ** 0.5) + 1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        table: dict[str, Any] = {"commits": commits(Path(name))}
        for label, milliseconds in table["commits"].items():
            print(f"{label:42} {milliseconds:9.3f} ms")
        few_times, many_times = (measure(Path(name) / f"{n}.journal", n, side) for n in (few, many))
    print(f"\n{'':42} {few:>12} {many:>12}        ratio")
    table["operations"] = {}
    for label in few_times:
        pair = few_times[label], many_times[label]
        table["operations"][label] = {str(few): pair[0], str(many): pair[1], "ratio": pair[1] / pair[0]}
        print(f"{label:42} {pair[0]:12.3f} {pair[1]:12.3f} {pair[1] / pair[0]:12.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
