"""Follow one object through a lazy zarr of many planes: does memory grow, is a tile read twice, is the object cut.

The object drifts across the plane and grows, so that it crosses tiles and levels. Prints one line of JSON, and writes
it with `--json`.

    python benchmarks/propagation.py --planes 2000 --side 384 --cache 64 --json benchmarks/results/long_object.json
"""

from __future__ import annotations

import argparse
import ctypes
import json
import resource
import sys
import tempfile
from collections import Counter
from hashlib import blake2b
from pathlib import Path
from time import perf_counter

import numpy as np
import zarr
from skimage.draw import disk

from napari_sam import Segmenter
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask

SIDE = 768
# How often memory and speed are noted.
PARTS = 20
# As shares of the side of a plane.
SMALLEST, LARGEST = 14 / 768, 110 / 768


def place(z: int, planes: int, side: int) -> tuple[tuple[float, float], float]:
    """Return center and radius of the object in a plane."""
    share = z / max(planes - 1, 1)
    at = side * (0.156 + share * 0.648)
    return (at, at + 0.039 * side * np.sin(12 * share)), side * (SMALLEST + (LARGEST - SMALLEST) * share)


def object_in(z: int, planes: int, side: int = SIDE) -> np.ndarray:
    """Return the object in a plane, shape (side, side), bool."""
    pixels = np.zeros((side, side), bool)
    center, radius = place(z, planes, side)
    pixels[disk(center, radius, shape=pixels.shape)] = True
    return pixels


def make_volume(folder: Path, planes: int, side: int = SIDE) -> zarr.Array:
    """Write the image plane by plane; noise of few values, so that it takes little room."""
    array = zarr.create_array(
        folder / "volume.zarr", shape=(planes, side, side), chunks=(1, 256, 256), dtype=np.uint8, overwrite=True
    )
    rng = np.random.default_rng(0)
    textures = [rng.integers(0, 4, (side, side), dtype=np.uint8) * 8 for _ in range(7)]
    for z in range(planes):
        array[z] = 60 + textures[z % 7] + object_in(z, planes, side).astype(np.uint8) * 90
    return array


def resident_mib() -> int:
    """Return the memory that this process has now, without mapped files, which the system takes back."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # What is free is given back, so that only what is held counts.
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) // 1024


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, default=2000)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--cache", type=float, help="MiB of embeddings in memory; by default the usual limit")
    given = parser.parse_args()
    planes, side = given.planes, given.side
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        array = make_volume(folder, planes, side)
        segmenter = Segmenter(array, labels=folder / "labels.ome.zarr", journal=True, rgb=False)
        cache = segmenter.encoder._memory
        if given.cache is not None:
            cache.capacity = int(given.cache * 2**20)
        encoded: Counter[bytes] = Counter()
        encode = segmenter.predictor.encode

        def counted(tiles: np.ndarray) -> list:
            encoded.update(blake2b(tile.tobytes()).digest() for tile in tiles)
            return encode(tiles)

        segmenter.predictor.encode = counted
        middle = planes // 2
        truth = object_in(middle, planes, side)
        label = segmenter.accept(Mask(Box.of_shape(truth.shape), truth).tightened(), plane=middle)
        memory, peak, cached, speed, shared, total, worst = [], [], [], [], 0, 0, 1.0
        start = last = perf_counter()
        for step in segmenter.propagate_steps(label):
            truth = object_in(step.at, planes, side)
            found = step.followed.get(label)
            answer = np.zeros_like(truth) if found is None else found.mask.to_array(truth.shape)
            both, either = int((answer & truth).sum()), int((answer | truth).sum())
            shared, total, worst = shared + both, total + either, min(worst, both / either)
            if step.done % max(planes // PARTS, 1) == 0:
                memory.append(resident_mib())
                peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
                cached.append(cache.nbytes // 2**20)
                print(
                    f"plane {step.done}: {memory[-1]} MiB, of which {cached[-1]} embeddings",
                    file=sys.stderr,
                    flush=True,
                )
                now = perf_counter()
                speed.append(round(1000 * (now - last) / max(planes // PARTS, 1), 1))
                last = now
        seconds = perf_counter() - start
        places = list(segmenter.encoder._digests)
        tiles = {tile.key for _, tile in places}
        segmenter.close()
    figures = {
        "planes": planes,
        "side": side,
        "volume_iou": round(shared / total, 4),
        "worst_plane_iou": round(worst, 4),
        "tiles_crossed": len(tiles),
        "levels": sorted({level for level, _, _ in tiles}),
        "tiles_of_planes": len(places),
        "encoded": sum(encoded.values()),
        "encoded_twice": sum(count - 1 for count in encoded.values()),
        "resident_mib_by_part": memory,
        "peak_mib_by_part": peak,
        "cached_mib_by_part": cached,
        "ms_per_plane_by_part": speed,
        "ms_per_plane": round(1000 * seconds / planes, 1),
    }
    text = json.dumps(figures)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
