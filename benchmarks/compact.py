"""How long the embedded model takes on this processor: encode a tile, decode a prompt to a full-resolution mask, click.

Medians over repetitions in one process, with the spread between the 10th and the 90th percentile. Run `make benchmark`.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable

import numpy as np
from skimage.data import coins

from napari_sam import Segmenter
from napari_sam.core.masks import mask_from_logits
from napari_sam.core.prompts import TilePrompts
from napari_sam.core.tiles import TileGrid
from napari_sam.models import load_predictor


def measure(work: Callable[[], object], repetitions: int) -> str:
    """Return the median of some work's times and their 10th and 90th percentiles, in milliseconds."""
    for _ in range(3):
        work()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    low, middle, high = np.percentile(times, [10, 50, 90])
    return f"{middle:8.1f} ms   ({low:.1f} to {high:.1f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=30)
    arguments = parser.parse_args()
    predictor = load_predictor("compact", threads=arguments.threads)
    import torch  # After the models, which tell its threads not to spin before it is imported.

    image = np.tile(coins(), (4, 4))
    grid = TileGrid(image.shape, predictor.input_side)
    tile = grid.tile_at(0, 51, 155)
    pixels = np.repeat(image[tile.read.slices][..., None], 3, -1)
    (embedding,) = predictor.encode(pixels[None])
    prompts = TilePrompts(np.array([[51, 155]], np.float32), np.array([True]))

    def decode() -> None:
        decoded = predictor.decode(embedding, prompts)
        for logits, iou_prediction in zip(decoded.logits, decoded.iou_prediction, strict=True):
            mask_from_logits(logits, tile, float(iou_prediction))

    def first_click() -> None:
        Segmenter(image, model=predictor, contrast_limits=(0, 255)).segment(points=[(51, 155)])

    segmenter = Segmenter(image, model=predictor, contrast_limits=(0, 255))
    spots = itertools.cycle([(r, c) for r in range(42, 60) for c in range(146, 164)])

    def next_click() -> None:
        segmenter.segment(points=[(51, 155), next(spots)])

    rows: list[tuple[str, Callable[[], object]]] = [
        ("encode one tile", lambda: predictor.encode(pixels[None])),
        ("encode four tiles at once", lambda: predictor.encode(np.repeat(pixels[None], 4, 0))),
        ("decode a point into three full-resolution masks", decode),
        ("first click: all levels read, encoded and decoded", first_click),
        ("next click on the same object", next_click),
    ]
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    for name, work in rows:
        print(f"{name:52s}{measure(work, arguments.repetitions)}")


if __name__ == "__main__":
    main()
