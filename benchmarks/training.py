"""What training choices are worth, measured on images that were kept out.

python benchmarks/training.py finetune MANIFEST SPLIT --subset NAME     five images of a subset, before and after
python benchmarks/training.py losses MANIFEST SPLIT                     focal : dice of 20 : 1, 8 : 1 and 1 : 1
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_sam import Segmenter
from napari_sam.evaluation.datasets import LabelledImage, read_manifest, read_split, split_images
from napari_sam.evaluation.protocol import evaluate
from napari_sam.models import load_predictor
from napari_sam.training.train import TrainOptions, read_config, train
from napari_sam.weights.registry import REGISTRY

CONFIGS = Path(__file__).parent.parent / "configs"


def measure(images: list[LabelledImage], weights: Path | str, objects: int) -> dict[str, Any]:
    """Return the mean row of an evaluation."""
    predictor = load_predictor(weights, "cpu")
    played = evaluate(images, lambda path: Segmenter(path, model=predictor), model="", objects_per_subset=objects)
    *_, (_, evaluation) = played
    mean: dict[str, Any] = evaluation.table()["mean"]
    return mean


def shown(mean: dict[str, Any]) -> str:
    """Return a row's figures as text."""
    one, three, eight = (mean["miou"][k - 1] for k in (1, 3, 8))
    return f"1 click {one:.3f}, 3 clicks {three:.3f}, 8 clicks {eight:.3f}, box {mean['box_miou']:.3f} (n {mean['n']})"


def finetune(options: argparse.Namespace, folder: Path) -> None:
    """Teach the embedded model five images of a subset, and measure on the ones of it that were kept out."""
    rest, kept = split_images(read_manifest(options.manifest), read_split(options.split), options.manifest.parent)
    taught = [image for image in rest if image.subset == options.subset][:5]
    unseen = [image for image in kept if image.subset == options.subset]
    pairs = tuple((image.image, image.mask) for image in taught)
    print("before:", shown(measure(unseen, "compact", options.objects)), flush=True)
    plan = read_config(CONFIGS / "finetune.toml")
    plan = replace(plan, pairs=pairs, out=folder / "run", init=REGISTRY["compact"].path, steps=options.steps)
    start = time.perf_counter()
    weights = train(plan)
    print(f"taught {len(taught)} images in {time.perf_counter() - start:.0f} s", flush=True)
    print("after: ", shown(measure(unseen, weights, options.objects)), flush=True)


def losses(options: argparse.Namespace, folder: Path) -> None:
    """Train from scratch for a short while under several weights of the focal loss; all else is the same."""
    _, kept = split_images(read_manifest(options.manifest), read_split(options.split), options.manifest.parent)
    base: TrainOptions = read_config(CONFIGS / "compact.toml")
    base = replace(base, manifest=options.manifest, split=options.split, steps=options.steps, side=128, decay=0.5)
    base = replace(base, init=None, parts=1, learning_rate=2e-3, rounds=5)
    base = replace(base, pretext_steps=options.steps // 4, average=0.99, save_every=options.steps)
    for weight, gamma in ((20.0, 2.0), (8.0, 1.0), (1.0, 1.0)):
        weights = train(replace(base, out=folder / f"{weight:g}", focal_weight=weight, gamma=gamma))
        mean = measure(kept, weights, options.objects)
        print(f"focal {weight:g} : dice 1, gamma {gamma:g}: {shown(mean)}", flush=True)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("finetune", "losses"))
    parser.add_argument("manifest", type=Path)
    parser.add_argument("split", type=Path)
    parser.add_argument("--subset", default="usiigaci_phase")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--objects", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        {"finetune": finetune, "losses": losses}[options.what](options, Path(folder))


if __name__ == "__main__":
    main()
