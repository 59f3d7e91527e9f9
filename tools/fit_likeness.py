"""Fit what tells like from unlike objects in the search by example, and write its weights.

    python tools/fit_likeness.py MANIFEST --split configs/compact_split.json --samples FOLDER --ship

The images that are not held out are searched, and their proposals kept in FOLDER, so that the fit can be repeated.
`--ship` puts the result into the package.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from napari_sam import Segmenter
from napari_sam.errors import NapariSamError
from napari_sam.evaluation.datasets import drawn_images, read_manifest, read_split, split_images
from napari_sam.models import load_predictor
from napari_sam.similarity.descriptors import DescriptorLayout
from napari_sam.similarity.metric import WEIGHTS
from napari_sam.training.likeness.fit import fit_likeness
from napari_sam.training.likeness.samples import PlaneSample


def main() -> None:
    """Search the images, fit, and write the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", type=Path, help="JSON file with a list kept_out")
    parser.add_argument("--samples", type=Path, required=True, help="folder of the proposals")
    parser.add_argument("--images", type=int, default=24, help="images of each subset")
    parser.add_argument("--subsets", nargs="*", help="subsets of many objects of a kind; all by default")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--out", type=Path, default=Path("likeness.npz"))
    parser.add_argument("--ship", action="store_true", help="replace the weights of the package")
    arguments = parser.parse_args()
    images = read_manifest(arguments.manifest)
    if arguments.split:
        images, _ = split_images(images, read_split(arguments.split), arguments.manifest.parent)
    images = [image for image in images if not arguments.subsets or image.subset in arguments.subsets]
    predictor = load_predictor(arguments.model, "cpu")
    layout = DescriptorLayout.of(predictor)
    arguments.samples.mkdir(parents=True, exist_ok=True)
    for image in drawn_images(images, arguments.images, seed=0):
        path = arguments.samples / f"{image.subset}__{image.image.stem}.npz"
        if path.exists():
            continue
        try:
            sample = PlaneSample.of(image, Segmenter(image.image, model=predictor), layout)
        except NapariSamError as error:
            print(f"{image.image}: {error}")
            continue
        if sample is not None:
            sample.save(path)
            print(f"{path.name}: {len(sample.ious)} proposals")
    samples = [PlaneSample.load(path) for path in sorted(arguments.samples.glob("*.npz"))]
    target = WEIGHTS if arguments.ship else arguments.out
    fitted = fit_likeness(samples, layout)
    arrays = {name: values.astype(np.float16 if "axes" in name else np.float32) for name, values in fitted.items()}
    np.savez(target, **arrays)
    print(f"{len(samples)} planes; written to {target}")


if __name__ == "__main__":
    main()
