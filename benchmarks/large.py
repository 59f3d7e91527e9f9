"""The first click and the accept on images that do not fit in memory, against a small array, as ratios.

python benchmarks/large.py [--rounds 7] [--json benchmarks/results/large.json]

The same pixels lie under the click in all of them. Each case runs in a process of its own, all cases in turn in every
round; the model is loaded and warm, the contrast is given, and what is timed is a first click at a place that nothing
was read from. Memory is the growth of the process's peak over what it held before the click.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from skimage.data import coins

HOLE = 2000
CASES = {
    "numpy 2 000 x 2 000": (),
    "zarr 100 000 x 100 000": (100_000, 100_000),
    "zarr pyramid 100 000 x 100 000": (100_000, 100_000),
    "zarr 2 000 x 8 192 x 8 192": (2000, 8192, 8192),
}
COIN = (51, 155)


def ground() -> np.ndarray:
    """Return 2000 x 2000 pixels of photographed coins, uint16."""
    tile = coins().astype(np.uint16) * 200
    return np.tile(tile, (7, 6))[:HOLE, :HOLE]


def middle() -> tuple[int, int]:
    """Return a coin near the middle of the ground, (row, col)."""
    rows, cols = coins().shape
    return 3 * rows + COIN[0], 2 * cols + COIN[1]


def build(folder: Path) -> None:
    """Write the sparse stores: only the ground around the click is filled."""
    pixels = ground()
    for name, shape in CASES.items():
        if not shape:
            continue
        levels = 1 + 7 * ("pyramid" in name)
        group = zarr.open_group(folder / name, mode="w")
        multiscales: list[dict[str, Any]] = []
        for level in range(levels):
            lengths = (*shape[:-2], *(-(-n // 2**level) for n in shape[-2:]))
            chunks = (1,) * (len(shape) - 2) + (512, 512)
            array = group.create_array(str(level), shape=lengths, chunks=chunks, dtype="u2", fill_value=0)
            top, left = (n // 2 // 512 * 512 // 2**level for n in shape[-2:])
            size = HOLE // 2**level
            step = 2**level
            averaged = pixels[: size * step, : size * step].reshape(size, step, size, step).mean((1, 3))
            array[(*(n // 2 for n in shape[:-2]), slice(top, top + size), slice(left, left + size))] = averaged
            scale = [1.0] * (len(shape) - 2) + [float(step)] * 2
            multiscales.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
        axes = [{"name": name, "type": "space"} for name in "zyx"[-len(shape) :]]
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": multiscales}]}


def click(folder: Path, name: str) -> dict[str, float]:
    """Click once on a coin, first on a warm-up image and then on the case; return seconds and MiB."""
    from napari_sam import Segmenter

    limits = (0, 51_000)
    row, col = middle()
    warm = Segmenter(ground()[::-1].copy(), threads=1, contrast_limits=limits)
    warm.segment(points=[(HOLE - 1 - row, col)])
    shape = CASES[name]
    if shape:
        top, left = (n // 2 // 512 * 512 for n in shape[-2:])
        segmenter = Segmenter(str(folder / name), model=warm.predictor, contrast_limits=limits)
        where = {"points": [(top + row, left + col)], "plane": None if len(shape) == 2 else shape[0] // 2}
    else:
        segmenter = Segmenter(ground(), model=warm.predictor, contrast_limits=limits)
        where = {"points": [(row, col)], "plane": None}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    area = segmenter.segment(**where).best.area  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mib": (peak - before) / 1024, "area": float(area)}


def accept(folder: Path, shape: tuple[int, ...]) -> dict[str, float]:
    """Accept a mask of 500 x 500 pixels into a label pyramid, at a corner of chunks, and take it back."""
    from napari_sam import Box, LabelPyramid, Mask, Plane
    from napari_sam.labels.array import LabelArray

    pyramid = LabelPyramid.create(folder / f"labels-{len(shape)}-{shape[-1]}.ome.zarr", shape)
    store = LabelArray(pyramid)
    plane = Plane.of(shape, None if len(shape) == 2 else shape[0] // 2)
    rows, cols = np.indices((500, 500)) - 250
    pixels = rows**2 + cols**2 < 250**2
    figures: dict[str, list[float]] = {"first": [], "again": [], "undo": []}
    for number in range(5):
        corner = shape[-1] // 4 // 512 * 512 - 250 + 1024 * number
        store.next_label  # noqa: B018
        for kind in ("first", "again"):
            box = Box(corner, corner, corner + 500, corner + 500)
            start = time.perf_counter()
            store.write(plane, Mask(box, pixels), None, "overwrite")
            figures[kind].append(time.perf_counter() - start)
        start = time.perf_counter()
        store.undo()
        figures["undo"].append(time.perf_counter() - start)
    tracemalloc.start()
    store.write(plane, Mask(Box(100, 100, 600, 600), pixels), None, "overwrite")
    peak = tracemalloc.get_traced_memory()[1]
    return {**{kind: statistics.median(times) for kind, times in figures.items()}, "mib": peak / 2**20}


def main() -> None:
    """Measure everything and print it; a case's process prints its own figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", nargs=2, metavar=("FOLDER", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(click(Path(options.case[0]), options.case[1])))
        return
    results: dict[str, Any] = {"click": {}, "accept": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        rounds: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
        for _ in range(options.rounds):
            for case, runs in rounds.items():
                command = [sys.executable, __file__, "--case", name, case]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                runs.append(json.loads(done.stdout.splitlines()[-1]))
        base = statistics.median(run["seconds"] for run in rounds["numpy 2 000 x 2 000"])
        memory = statistics.median(run["mib"] for run in rounds["numpy 2 000 x 2 000"])
        print(f"{'first click':36s}  median ms  spread ms    ratio  more MiB  mask px")
        for case, runs in rounds.items():
            times = sorted(run["seconds"] for run in runs)
            row = {
                "ms": statistics.median(times) * 1000,
                "spread_ms": (times[-1] - times[0]) * 1000,
                "ratio": statistics.median(times) / base,
                "extra_mib": statistics.median(run["mib"] for run in runs) - memory,
                "area": runs[0]["area"],
            }
            results["click"][case] = row
            print("{:36s} {ms:10.0f} {spread_ms:10.0f} {ratio:8.2f} {extra_mib:9.0f} {area:8.0f}".format(case, **row))
        print(f"\n{'accept 500 x 500 px into a pyramid':36s}   first ms   again ms    undo ms      MiB")
        for shape in ((8192, 8192), (100_000, 100_000), (2000, 8192, 8192)):
            row = accept(folder, shape)
            case = " x ".join(f"{n:,}".replace(",", " ") for n in shape)
            results["accept"][case] = row
            first, again, undo = (row[kind] * 1000 for kind in ("first", "again", "undo"))
            print(f"{case:36s} {first:10.0f} {again:10.0f} {undo:10.0f} {row['mib']:8.1f}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
