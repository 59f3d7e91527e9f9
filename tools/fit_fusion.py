"""Train the network that decides on the masks of followed objects, and write its weights.

    python tools/fit_fusion.py MANIFEST --split configs/compact_split.json --rounds 2 --minutes 50

Each round samples objects of the images that are not held out, half of them with the truth and half with the present
network's own masks, and goes on training on the samples of all rounds. `--ship` puts the result into the package.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from napari_sam.errors import NapariSamError
from napari_sam.evaluation.datasets import read_manifest, read_split, split_images
from napari_sam.models import load_predictor
from napari_sam.models.fusion.fuser import WEIGHTS, NetworkFuser
from napari_sam.models.fusion.network import FusionNetwork
from napari_sam.training.fusion.fit import fit_fusion
from napari_sam.training.fusion.objects import SampledObjects
from napari_sam.training.fusion.samples import Sample

VOLUME_OBJECTS, PICTURE_OBJECTS = 16, 2


def main() -> None:
    """Train, and write the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", type=Path, help="JSON file with a list kept_out")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=50, help="of training in each round")
    parser.add_argument("--images", type=int, default=0, help="number of images drawn in each round; 0 for all")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--out", type=Path, default=Path("fusion.npz"))
    parser.add_argument("--ship", action="store_true", help="replace the weights of the package")
    arguments = parser.parse_args()
    images = read_manifest(arguments.manifest)
    if arguments.split:
        images, _ = split_images(images, read_split(arguments.split), arguments.manifest.parent)
    predictor, samples = load_predictor(arguments.model, "cpu"), list[Sample]()
    network = FusionNetwork().eval()
    rng = np.random.default_rng(0)
    for number in range(arguments.rounds):
        fuser = NetworkFuser(network.state_dict(), torch.device("cpu"))
        taught = 1.0 if number == 0 else 0.5
        source = SampledObjects(predictor, fuser, taught, seed=number)
        drawn = rng.permutation(len(images))[: arguments.images or len(images)]
        for i in drawn:
            count = VOLUME_OBJECTS if images[i].kind == "volume" else PICTURE_OBJECTS
            try:
                samples += source.samples(images[i], count)
            except NapariSamError as error:
                print(f"{images[i].image}: {error}")
        print(f"round {number + 1}: {len(samples)} samples")
        network = fit_fusion(samples, arguments.minutes, start=network, seed=number, report=print)
        target = WEIGHTS if arguments.ship and number == arguments.rounds - 1 else arguments.out
        np.savez(target, **{key: value.numpy() for key, value in network.state_dict().items()})
        print(f"written to {target}")


if __name__ == "__main__":
    main()
