"""Measure whether two kinds of objects in one image are told apart, from one example of each.

    python benchmarks/two_kinds.py MANIFEST --split SPLIT --out benchmarks/results/two_kinds.json

Halves of two held-out images of different subsets are put side by side. One labeled object of each kind is the example,
drawn anew in each trial; the class of every other object that is found is compared with its kind.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from skimage.transform import resize

from napari_sam import Segmenter
from napari_sam.core.masks import mask_of
from napari_sam.evaluation.datasets import LabelledImage, labelled_plane, read_manifest, read_split, split_images
from napari_sam.evaluation.instances import LEAST_IOU, best_match
from napari_sam.models import load_predictor

SIDE = 384
LEAST_AREA = 60
PAIRS = (
    ("nuinsseg_oesophagus_he", "krd_wbc_blood_smear"),
    ("dsb2018_nuclei", "axondeepseg_sem"),
    ("usiigaci_phase", "gravel_grains"),
    ("oam_buildings_uganda", "nuinsseg_oesophagus_he"),
)


def main() -> None:
    """Measure, and write the confusion matrices."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=5)
    arguments = parser.parse_args()
    images = read_manifest(arguments.manifest)
    _, images = split_images(images, read_split(arguments.split), arguments.manifest.parent)
    predictor = load_predictor("compact", "cpu")
    results = {}
    for pair in PAIRS:
        chosen = [next(image for image in images if image.subset == subset) for subset in pair]
        results[" and ".join(pair)] = found = measured(chosen, predictor, arguments.trials)
        print(pair, found)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")


def measured(chosen: list[LabelledImage], predictor: Any, trials: int) -> dict[str, Any]:
    """Return how often objects of each kind got each class."""
    halves = [half(image, predictor) for image in chosen]
    picture = np.concatenate([pixels for pixels, _ in halves], axis=1)
    first, second = (labels for _, labels in halves)
    truth = np.concatenate([first, np.where(second > 0, second + first.max(), 0)], axis=1)
    kinds = {label: int(label > first.max()) for label in np.unique(truth[truth > 0]).tolist()}
    areas = dict(enumerate(np.bincount(truth.ravel()).tolist()))
    segmenter, rng = Segmenter(picture, model=predictor), np.random.default_rng(0)
    matrix = np.zeros((2, 2), int)
    for _ in range(trials):
        examples = [int(rng.choice([label for label, kind in kinds.items() if kind == wanted])) for wanted in (0, 1)]
        queries = [
            segmenter.examples(mask_of(truth == label), class_name=str(kind)) for kind, label in enumerate(examples)
        ]
        found = segmenter.find_similar(queries[0].joined(queries[1]))
        for i in found.select():
            mask = found.mask(int(i))
            iou, label = best_match(truth[mask.box.slices][mask.pixels], areas)
            if iou >= LEAST_IOU and label not in examples:
                matrix[kinds[label], int(found.class_of(int(i)) or 0)] += 1
    right = int(np.trace(matrix))
    return {"confusion": matrix.tolist(), "right": round(right / max(int(matrix.sum()), 1), 4)}


def half(image: LabelledImage, predictor: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of an image as RGB, as the model sees it, and the labels there."""
    segmenter = Segmenter(image.image, model=predictor)
    plane, labels, _ = labelled_plane(image, segmenter.shape)
    rows, cols = labels.shape
    side = min(SIDE, rows, cols)
    top, left = (rows - side) // 2, (cols - side) // 2
    part = (slice(top, top + side), slice(left, left + side))
    grid = segmenter.sweep(plane=plane, levels=[0]).grid(0, max(rows, cols) // 32 * 32 + 32)
    pixels = segmenter.sweep(plane=plane, levels=[0]).render(grid.tile(0, 0, 0))[:rows, :cols][part]
    pixels = resize(pixels, (SIDE, SIDE), order=1, preserve_range=True).astype(np.uint8)
    cut = resize(labels[part], (SIDE, SIDE), order=0, preserve_range=True, anti_aliasing=False).astype(int)
    areas = np.bincount(cut.ravel())
    return pixels, np.where(areas[cut] >= LEAST_AREA, cut, 0)


if __name__ == "__main__":
    main()
