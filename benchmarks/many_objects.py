"""Follow many small objects at once through a few planes: encoded tiles, time, memory, and lost or mixed objects.

    python benchmarks/many_objects.py --objects 200 --side 512 --planes 7

Balls of a few pixels lie on a grid, shifted at random, and drift a little from plane to plane. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter

import numpy as np
from skimage.draw import disk

from napari_sam import Segmenter
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.propagation import prompt_follower

RADIUS = 5


def make_scene(count: int, side: int, planes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and its objects, numbered from 1, shape (planes, side, side) both."""
    rng = np.random.default_rng(0)
    image = rng.normal(60, 6, (planes, side, side))
    truth = np.zeros(image.shape, np.uint16)
    to_a_side = math.ceil(math.sqrt(count))
    step = side / to_a_side
    for number in range(count):
        place = (np.array(divmod(number, to_a_side)) + 0.5) * step + rng.uniform(-1, 1, 2) * max(
            step / 2 - 2 * RADIUS, 0
        )
        drift = rng.uniform(-0.7, 0.7, 2)
        for z in range(planes):
            at = disk(place + drift * (z - planes // 2), RADIUS * rng.uniform(0.9, 1.1), shape=(side, side))
            image[z][at] += 80
            truth[z][at] = number + 1
    return image.clip(0, 255).astype(np.uint8), truth


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--planes", type=int, default=7)
    parser.add_argument("--own-tiles", action="store_true", help="a tile for each object, for comparison")
    given = parser.parse_args()
    if given.own_tiles:
        prompt_follower.shared_tiles = lambda grid, own, boxes, object_range: dict(own)
    image, truth = make_scene(given.objects, given.side, given.planes)
    folder = tempfile.TemporaryDirectory()
    segmenter = Segmenter(image, journal=Path(folder.name) / "journal", rgb=False)
    middle = given.planes // 2
    masks = [
        Mask(Box.of_shape(truth[middle].shape), truth[middle] == label).tightened()
        for label in range(1, given.objects + 1)
    ]
    labels = [segmenter.accept(mask, plane=middle) for mask in masks]
    encoded: Counter[bytes] = Counter()
    encode = segmenter.predictor.encode

    def counted(tiles: np.ndarray) -> list:
        encoded.update(tile.tobytes()[::97] for tile in tiles)
        return encode(tiles)

    segmenter.predictor.encode = counted
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = perf_counter()
    segmenter.propagate(labels)
    seconds = perf_counter() - start
    found = np.asarray(segmenter.labels)
    number_of = dict(zip(labels, range(1, given.objects + 1), strict=True))
    ious, mixed = [], 0
    for label, number in number_of.items():
        for z in range(given.planes):
            mine, right = found[z] == label, truth[z] == number
            ious.append((mine & right).sum() / (mine | right).sum())
            others = truth[z][mine]
            mixed += int((others[(others > 0) & (others != number)]).size > mine.sum() / 2)
    lost = sum(not (found == label).any(axis=(1, 2)).all() for label in labels)
    print(
        json.dumps(
            {
                "objects": given.objects,
                "side": given.side,
                "planes": given.planes,
                "own_tiles": given.own_tiles,
                "encoded": sum(encoded.values()),
                "encoded_twice": sum(count - 1 for count in encoded.values()),
                "encoded_a_plane": round(sum(encoded.values()) / (given.planes - 1), 1),
                "labels": len(np.unique(found)) - 1,
                "objects_missing_in_a_plane": lost,
                "masks_on_another_object": mixed,
                "mean_iou": round(float(np.mean(ious)), 4),
                "worst_iou": round(float(np.min(ious)), 4),
                "seconds": round(seconds, 1),
                "ms_a_plane_and_object": round(1000 * seconds / given.objects / (given.planes - 1), 1),
                "mib_more": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024,
            }
        )
    )
    segmenter.close()
    folder.cleanup()


if __name__ == "__main__":
    main()
