"""Clusters: what a job costs, what the scheduler keeps of many jobs, and a plane of 100 000 x 100 000.

    python benchmarks/cluster.py overhead --jobs 2000
    python benchmarks/cluster.py memory --jobs 100000
    python benchmarks/cluster.py speedup                        # on a machine with two free cores
    python benchmarks/cluster.py sparse --tiles 500

Scheduler and workers are processes of their own, started as in a shell. `sparse` writes a zarr of which a tenth has
pixels, searches some tiles with pixels and some without of its first tenth, and says what that means for all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr

from napari_sam import Segmenter
from napari_sam.core.geometry import Box
from napari_sam.core.tiles import Tile
from napari_sam.distributed.cluster import Cluster
from napari_sam.distributed.encoding import Encoded
from napari_sam.distributed.proposing import ProposingPlan
from napari_sam.samples.cells import cells
from napari_sam.tasks.everything import opened_sweep

HERE = Path(__file__).parent
SIDE, BLOCK = 100_000, 2_000
# Of the plane, one block in as many has pixels.
SPARSE = 10
STEPS = 10


@dataclass(frozen=True)
class NoWork:
    """Does nothing, for the cost of a job itself."""

    def open(self) -> NoWork:
        return self

    def do(self, item: Any, *, again: bool = False) -> None:
        return None


@dataclass(frozen=True)
class FakeEncoding:
    """Takes as long as a fast GPU on a tile, and answers as a job of `encode` does."""

    seconds: float = 0.005

    def open(self) -> FakeEncoding:
        return self

    def do(self, item: Any, *, again: bool = False) -> Encoded:
        time.sleep(self.seconds)
        return Encoded(Counter(encoded=1))


@contextmanager
def processes(workers: int) -> Iterator[tuple[Path, psutil.Process]]:
    """Start a scheduler and workers; yields the file of the scheduler, and its process."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder, "scheduler.json")
        paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}

        def start(name: str, *options: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", f"distributed.cli.{name}", "--scheduler-file", str(file), *options]
            process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        scheduler = start("dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")
        while not file.exists():
            time.sleep(0.05)
        for _ in range(workers):
            start("dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard")
        yield file, psutil.Process(scheduler.pid)


def tile_like() -> Any:
    """Return a tile, which is what most jobs are."""
    segmenter = Segmenter(np.zeros((2000, 2000), np.uint8), model="compact")
    return segmenter.encoder.grid(segmenter.plane()).tile(0, 1, 1)


def overhead(jobs: int) -> dict[str, Any]:
    """Return milliseconds of a job that does nothing, and processor time of the scheduler and of this process."""
    from cluster import NoWork

    tile = tile_like()
    with processes(2) as (file, scheduler), Cluster(file) as cluster:
        cluster.client.wait_for_workers(2)
        list(cluster.runner(NoWork()).run([tile] * 50))
        start, busy, own = time.perf_counter(), sum(scheduler.cpu_times()[:2]), time.process_time()
        list(cluster.runner(NoWork()).run([tile] * jobs))
        seconds = time.perf_counter() - start
        return {
            "jobs": jobs,
            "milliseconds per job": round(1000 * seconds / jobs, 2),
            "of the scheduler's processor": round(1000 * (sum(scheduler.cpu_times()[:2]) - busy) / jobs, 2),
            "of the client's processor": round(1000 * (time.process_time() - own) / jobs, 2),
        }


def memory(jobs: int) -> dict[str, Any]:
    """Return the memory of all processes over many jobs of 5 ms, in MB, after each tenth of them."""
    from cluster import FakeEncoding

    tile = tile_like()
    with processes(2) as (file, scheduler), Cluster(file) as cluster:
        cluster.client.wait_for_workers(2)
        workers = [psutil.Process(pid) for pid in cluster.client.run(os.getpid).values()]
        watched = {"scheduler": [scheduler], "workers": workers, "client": [psutil.Process()]}
        resident: dict[str, list[float]] = {name: [] for name in watched}
        results, start = cluster.runner(FakeEncoding()).run(tile for _ in range(jobs)), time.perf_counter()
        for step in range(STEPS):
            for _ in islice(results, jobs // STEPS):
                pass
            for name, those in watched.items():
                mean = sum(one.memory_info().rss for one in those) / len(those) / 2**20
                resident[name].append(round(mean, 1))
            print(f"{(step + 1) * jobs // STEPS} jobs: {resident['scheduler'][-1]} MB", file=sys.stderr, flush=True)
        results.close()
        seconds = time.perf_counter() - start
        return {"jobs": jobs, "milliseconds a job": round(1000 * seconds / jobs, 1), "MB after each tenth": resident}


def speedup(side: int) -> dict[str, Any]:
    """Return seconds of one and of two workers on all objects of a picture, and what two gain."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "image.zarr")
        array = zarr.create_array(image, shape=(side, side), chunks=(512, 512), dtype=np.uint16)
        block = cells().image[0]
        for top in range(0, side, block.shape[0]):
            for left in range(0, side, block.shape[1]):
                part = block[: side - top, : side - left]
                array[top : top + part.shape[0], left : left + part.shape[1]] = part
        seconds = {}
        for workers in (1, 2):
            with processes(workers) as (file, _), Cluster(file) as cluster:
                cluster.client.wait_for_workers(workers)
                segmenter = Segmenter(image, model="compact", threads=1, scheduler=cluster)
                sweep = segmenter.sweep(plane=segmenter.plane(), levels=[0])
                runner = cluster.runner(ProposingPlan.of(segmenter.shared, sweep))
                list(runner.run(sweep.tiles[:4]))  # The workers load the model.
                start = time.perf_counter()
                done = sum(1 for _ in runner.run(sweep.tiles))
                seconds[workers] = time.perf_counter() - start
        gain = seconds[1] / seconds[2]
        return {"tiles": done, "seconds": {n: round(s, 1) for n, s in seconds.items()}, "gain": round(gain, 2)}


def has_pixels(row: int, col: int) -> bool:
    """Return whether a block of the plane has pixels; one in ten has, and they are spread evenly."""
    return (7 * row + 3 * col) % SPARSE == 0


def sparse_image(folder: Path) -> Path:
    """Write the first tenth of the rows of a plane of which a tenth of the blocks has pixels; others are not stored."""
    image = folder / "sparse.zarr"
    array = zarr.create_array(image, shape=(SIDE, SIDE), chunks=(512, 512), dtype=np.uint8, fill_value=0)
    picture = cells().image[0].astype(np.float32)
    gray = np.uint8(255 * np.clip(picture / np.percentile(picture, 99.5), 0, 1))
    block = np.tile(gray, (4, 4))[:BLOCK, :BLOCK]
    for row in range(SIDE // SPARSE // BLOCK):
        for col in range(SIDE // BLOCK):
            if has_pixels(row, col):
                array[row * BLOCK : (row + 1) * BLOCK, col * BLOCK : (col + 1) * BLOCK] = block
    return image


def is_full(tile: Tile) -> bool:
    """Return whether a tile sees a pixel of any block."""
    ends = [(int(first // BLOCK), int((last - 1) // BLOCK)) for first, last in zip(*_corners(tile), strict=True)]
    (top, bottom), (left, right) = ends
    return any(has_pixels(row, col) for row in range(top, bottom + 1) for col in range(left, right + 1))


def _corners(tile: Tile) -> tuple[tuple[float, float], tuple[float, float]]:
    inside = tile.read.intersection(Box(0, 0, SIDE, SIDE))
    return (inside.top, inside.left), (inside.bottom, inside.right)


@dataclass
class Cost:
    """What a worker has used since it was last asked.

    Parameters
    ----------
    worker
        Its process.
    """

    worker: psutil.Process
    _before: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def of(self, tiles: int) -> dict[str, float]:
        """Return its costs for each of some tiles."""
        used, moved = self.worker.cpu_times(), self.worker.io_counters()
        now = (time.perf_counter(), used.user + used.system, moved.read_chars, moved.write_chars)
        each = [(after - before) / max(tiles, 1) for before, after in zip(self._before, now, strict=True)]
        self._before = now
        return {
            "seconds": round(each[0], 4),
            "processor seconds": round(each[1], 4),
            "kB read": round(each[2] / 1000, 1),
            "kB written": round(each[3] / 1000, 1),
        }


def spread(tiles: list[Tile], count: int) -> list[Tile]:
    """Return some of the tiles, from all over them."""
    return tiles[:: max(1, len(tiles) // count)][:count]


def sparse(tiles: int, empty_tiles: int) -> dict[str, Any]:
    """Return what tiles of a sparse plane cost a worker, and what that means for the whole plane on 1, 8, 64 workers.

    As many tiles with pixels and empty ones as are asked for are searched, all over the first tenth of the plane.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = sparse_image(folder)
        with processes(1) as (file, _), Cluster(file) as cluster:
            cluster.client.wait_for_workers(1)
            segmenter = Segmenter(image, model="compact", contrast_limits=(0, 255), threads=1, scheduler=cluster)
            store, sweep = opened_sweep(folder / "proposals", segmenter, segmenter.plane(), sizes=(10, 40))
            store.begin(sweep.levels)
            tiles_of_plane = sweep.tiles
            tenth = [tile for tile in tiles_of_plane if tile.read.bottom <= SIDE // SPARSE]
            chosen = spread([tile for tile in tenth if is_full(tile)], tiles)
            empty = spread([tile for tile in tenth if not is_full(tile)], empty_tiles)
            runner = segmenter.proposing_runner(sweep, store)
            assert runner is not None
            list(runner.run(chosen[:1]))  # The worker loads the model.
            print(f"{len(tiles_of_plane)} tiles on levels {sweep.levels}", file=sys.stderr, flush=True)
            (pid,) = cluster.client.run(os.getpid).values()
            cost, begun = Cost(psutil.Process(pid)), time.perf_counter()
            cost.of(1)
            done = sum(1 for _ in runner.run(empty))
            of_empty = cost.of(done)
            assert not any(store.get(tile) for tile in empty), "no object is proposed where there are no pixels"
            print(f"{done} empty tiles: {of_empty}", file=sys.stderr, flush=True)
            done = sum(1 for _ in runner.run(chosen[1:]))
            of_full = cost.of(done)
            seconds = time.perf_counter() - begun
            filled = sum(map(is_full, tiles_of_plane))
        counts = {"with pixels": filled, "empty": len(tiles_of_plane) - filled}
        return {
            "levels": list(sweep.levels),
            "tiles of the plane": counts,
            "tiles searched": {"with pixels": done, "empty": len(empty)},
            "minutes": round(seconds / 60, 1),
            "a tile with pixels": of_full,
            "an empty tile": of_empty,
            "the plane by workers with a core each": {n: plane_on(n, counts, of_full, of_empty) for n in (1, 8, 64)},
        }


def plane_on(
    workers: int, counts: dict[str, int], of_full: dict[str, float], of_empty: dict[str, float]
) -> dict[str, float]:
    """Return hours for the plane, and what is read and written in a second meanwhile."""
    parts = [(counts["with pixels"], of_full), (counts["empty"], of_empty)]
    seconds = sum(count * cost["processor seconds"] for count, cost in parts) / workers
    moved = {way: sum(count * cost[way] for count, cost in parts) / seconds / 1000 for way in ("kB read", "kB written")}
    return {
        "hours": round(seconds / 3600, 2),
        "tiles a second": round(sum(counts.values()) / seconds, 2),
        "MB read a second": round(moved["kB read"], 2),
        "MB written a second": round(moved["kB written"], 2),
    }


def main() -> None:
    """Measure, and print or write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["overhead", "memory", "speedup", "sparse"])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--empty", type=int, default=2000)
    parser.add_argument("--side", type=int, default=6000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    measured = {
        "overhead": lambda: overhead(given.jobs),
        "memory": lambda: memory(given.jobs),
        "speedup": lambda: speedup(given.side),
        "sparse": lambda: sparse(given.tiles, given.empty),
    }[given.what]()
    text = json.dumps({given.what: measured}, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
