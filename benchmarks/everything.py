"""All objects of mosaics of several sizes: seconds, memory, quality, and what a shifted grid of tiles changes.

python benchmarks/everything.py [--sizes 1536 3072 6144] [--json benchmarks/results/everything.json]

The mosaic repeats the computed cells of the samples, so its truth is known. It is an array that computes its pixels
when it is sliced, and each size runs in a process of its own, so that the peak of memory is that of the search. Times
are those of a whole run of `napari-sam everything`: proposals into a store, selection, labels and journal on disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam import FilterOptions, Segmenter
from napari_sam.core.geometry import Box
from napari_sam.evaluation.instances import f1_score, match_instances
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.sweep import Region, Sweep, propose_all
from napari_sam.exchange.label_output import LabelOutput
from napari_sam.options import LabelOptions
from napari_sam.samples.cells import cells
from napari_sam.tasks.everything import FoundWriter, found_in, opened_sweep, sweep_into

# Cut so that the same nuclei do not meet themselves at a seam of the mosaic in the same way everywhere.
PERIOD = 700
# A third of a tile of 640 pixels, in whole cells of the encoder; see `Sweep`.
SHIFT = 224


class Mosaic:
    """A square image that repeats a smaller one."""

    def __init__(self, tile: NDArray[Any], side: int) -> None:
        self._tile = tile
        self.shape, self.dtype, self.ndim = (side, side), tile.dtype, 2

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows, cols = (np.arange(n)[part] % PERIOD for n, part in zip(self.shape, key, strict=True))
        return self._tile[np.ix_(rows, cols)]


def truth_of(side: int) -> NDArray[np.int32]:
    """Return the labels of the mosaic; each repetition has numbers of its own."""
    tile = cells().truth[:PERIOD, :PERIOD]
    count = -(-side // PERIOD)
    most = int(tile.max())
    rows = [
        np.hstack([np.where(tile > 0, tile + most * (i * count + j), 0) for j in range(count)]) for i in range(count)
    ]
    return np.vstack(rows)[:side, :side].astype(np.int32)


def segmenter_of(side: int) -> Segmenter:
    """Return a segmenter of the nuclei of a mosaic."""
    image = cells().image[0]
    limits = [float(value) for value in np.percentile(image, (0.5, 99.5))]
    return Segmenter(Mosaic(image[:PERIOD, :PERIOD], side), threads=2, contrast_limits=limits)


def run(side: int) -> dict[str, Any]:
    """Find and write all objects of a mosaic."""
    segmenter = segmenter_of(side)
    plane = segmenter.plane()
    segmenter.segment(points=[(side // 2, side // 2)])  # Loads the model.
    with tempfile.TemporaryDirectory() as folder:
        times = [time.perf_counter()]
        store, sweep = opened_sweep(Path(folder) / "proposals", segmenter, plane)
        for progress in sweep_into(store, sweep):
            tiles = progress.total
        times.append(time.perf_counter())
        found = found_in(store, sweep, plane)
        count = len(found.select())
        times.append(time.perf_counter())
        output = LabelOutput(Path(folder) / "labels.ome.zarr", LabelOptions(journal=True), can_extend=True)
        with output.open(segmenter.volume) as writer:
            FoundWriter(writer, segmenter, FilterOptions()).write(found)
        times.append(time.perf_counter())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    propose, select, write = (round(after - before, 2) for before, after in pairwise(times))
    return {
        "side": side,
        "levels": sweep.levels,
        "tiles": tiles,
        "objects": count,
        "propose_s": propose,
        "select_s": select,
        "write_s": write,
        "peak_mib": round(peak),
    }


def seams(side: int) -> dict[str, Any]:
    """Compare the objects of two grids of tiles with each other and with the truth."""
    segmenter, truth = segmenter_of(side), truth_of(side)
    plane = segmenter.plane()
    labels, on_borders = [], []
    for shift in ((0, 0), (SHIFT, SHIFT)):
        sweep = Sweep(segmenter.encoder, plane, Region(Box.of_shape(truth.shape)), levels=[1], shift=shift)
        for progress in propose_all(plane, sweep):
            found: FoundObjects = progress.found if progress.done == progress.total else None  # type: ignore[assignment]
        chosen = found.select()
        labels.append(found.labels(truth.shape, chosen).astype(np.int32))
        on_borders.append(_on_borders(found.boxes[chosen], sweep, side))
    scores = [np.ones(int(one.max())) for one in labels]
    f1 = [f1_score([match_instances(one, truth=truth, scores=s)]) for one, s in zip(labels, scores, strict=True)]
    same = f1_score([match_instances(labels[0], truth=labels[1], scores=scores[0])])
    return {"side": side, "f1": f1, "f1_between_grids": same, "objects_on_tile_borders": on_borders}


def _on_borders(boxes: NDArray[np.int64], sweep: Sweep, side: int) -> int:
    """Return how many boxes have an edge on a border of a tile inside the image."""
    reads = [tile.read for tile in sweep.tiles]
    rows = {edge for read in reads for edge in (read.top, read.bottom)} - {0, side}
    cols = {edge for read in reads for edge in (read.left, read.right)} - {0, side}
    return sum(bool(rows & {top, bottom} or cols & {left, right}) for top, left, bottom, right in boxes.tolist())


def main() -> None:
    """Run each size in a process of its own, and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1536, 3072, 6144])
    parser.add_argument("--seams", type=int, default=2048)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        kind, side = given.one.split(":")
        print(json.dumps((run if kind == "run" else seams)(int(side))))
        return
    jobs = [f"run:{side}" for side in given.sizes] + ([f"seams:{given.seams}"] if given.seams else [])
    results = []
    for job in jobs:
        done = subprocess.run([sys.executable, __file__, "--one", job], stdout=subprocess.PIPE, check=True, text=True)
        results.append(json.loads(done.stdout))
        print(results[-1], flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
