"""All objects of a tile by a grid of points: beside SAM's own mask generator, with the same random weights.

    python benchmarks/everything_grid.py                        # ViT-B, 32 x 32 points, one thread, processor time
    python benchmarks/everything_grid.py --rounds 3 --json benchmarks/results/everything_grid.json

Each contender runs in a process of its own, in turns, so that the peak of memory is its own; its time is that of its
processor, with one thread. Both get the same image, the same grid and the same thresholds. The weights are random, but
scaled so that masks are as smooth, logits as large and answers as different as those of a trained model; thresholds
are taken from a sample, so that a realistic share of the masks passes. The official package needs torchvision for the
suppression of boxes, which stands here.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sam import SIDE, official_sam, predictor_of, processor

from napari_sam import Segmenter
from napari_sam.core.masks import iou, stability_score
from napari_sam.everything.options import GridOptions
from napari_sam.samples.cells import cells

CONTENDERS = ("official", "grid", "adaptive")
# Share of the masks that pass the threshold of the predicted IoU, and of these that of the stability score.
PASSING, STABLE = 0.2, 0.6
SAME = 0.98


def picture() -> NDArray[np.uint8]:
    """Return a tile of computed cells."""
    image = cells().image[0][:SIDE, :SIDE]
    low, high = np.percentile(image, (0.5, 99.5))
    gray = (255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)
    rows, cols = (SIDE - side for side in gray.shape)
    return np.repeat(np.pad(gray, ((0, rows), (0, cols)), mode="reflect")[..., None], 3, -1)


def network(size: str) -> Any:
    """Return PyPI's SAM with random weights of which the masks are parts of the image with smooth borders."""
    sam = official_sam(size)
    decoder = sam.mask_decoder
    seen: list[Any] = []
    with torch.no_grad():
        for layer in (decoder.output_upscaling[0], decoder.output_upscaling[3]):
            layer.weight.copy_(layer.weight[:, :, :1, :1].expand_as(layer.weight))
        handle = decoder.output_upscaling.register_forward_hook(lambda _, given, out: seen.append(out[0].flatten(1)))
        points = torch.tensor([[[500.0, 400.0]]]), torch.ones(1, 1)
        sparse, dense = sam.prompt_encoder(points, None, None)
        features = torch.nn.functional.interpolate(torch.randn(1, 256, 16, 16), (64, 64), mode="bicubic")
        decoder.predict_masks(features, sam.prompt_encoder.get_dense_pe(), sparse, dense)
        handle.remove()
        mean = seen[0].mean(1)
        for mlp in decoder.output_hypernetworks_mlps:
            last = mlp.layers[-1]
            spread = float((torch.randn(64, 32) * last.bias.std() @ (seen[0] - mean[:, None])).std())
            last.weight.mul_(4 / spread)
            last.bias.mul_(4 / spread)
            # Most of the image lies outside of a mask.
            last.bias.sub_(7 * mean / (mean @ mean))
    return sam


def state_of(sam: Any) -> dict[str, Any]:
    """Return the weights as ours are loaded."""
    return {key: value for key, value in sam.state_dict().items() if not key.startswith("pixel_")}


def ours(size: str) -> Any:
    """Return our predictor with the same weights."""
    where = argparse.Namespace(device="cpu", size=size)
    return predictor_of(state_of(network(size)), where, "float32")


def thresholds(size: str, seed: int = 0) -> dict[str, float]:
    """Return the thresholds that a realistic share of the masks passes."""
    predictor = ours(size)
    (embedding,) = predictor.encode(picture()[None])
    points = np.random.default_rng(seed).uniform(0, SIDE, (48, 2))
    answers = list(predictor.decode_points(embedding, points, -1.0))
    scores = np.concatenate([answer.iou_prediction for answer in answers])
    least = float(np.quantile(scores, 1 - PASSING))
    stable = [stability_score(mask) for a in answers for mask in a.logits[a.iou_prediction >= least]]
    stability = float(np.quantile(stable, 1 - STABLE))
    # Masks of random weights have parts all over the tile, so their boxes say nothing: none is left out for its box.
    return {"pred_iou_thresh": least, "stability_score_thresh": stability, "box_nms_thresh": 1.0}


def suppress(boxes: Any, scores: Any, _: Any, iou_threshold: float) -> Any:
    """Do what torchvision's `batched_nms` does for one category."""
    from napari_sam.everything.proposing.grid import distinct

    return torch.tensor(distinct(boxes.double().numpy(), scores.double().numpy(), iou_threshold), dtype=torch.long)


def loaded() -> int:
    """Return the memory that this process has now, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20


def peak() -> int:
    """Return the most memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def official(size: str, points: int, given: dict[str, float]) -> tuple[dict[str, float], Iterable[NDArray[np.bool_]]]:
    """Run the official generator; return its seconds and memory, and its masks."""
    sam = network(size)
    before = loaded()
    import segment_anything.automatic_mask_generator as generator_module
    import segment_anything.utils.transforms as transforms

    generator_module.batched_nms = suppress
    # The image has the encoder's size already.
    transforms.resize, transforms.to_pil_image = (lambda image, size: image), (lambda image: image)
    generator = generator_module.SamAutomaticMaskGenerator(sam, points_per_side=points, **given)
    encode, encoding = generator.predictor.set_image, []

    def timed(image: Any) -> None:
        start = time.process_time()
        encode(image)
        encoding.append(time.process_time() - start)

    generator.predictor.set_image = timed
    start = time.process_time()
    found = generator.generate(picture())
    seconds = time.process_time() - start
    result = {"seconds": seconds, "encoder": sum(encoding), "loaded_mib": before, "peak_mib": peak()}
    return {**result, "points": points**2, "masks": len(found)}, (each["segmentation"] for each in found)


def by_grid(
    size: str, points: int, given: dict[str, float], *, adaptive: bool
) -> tuple[dict[str, float], Iterable[NDArray[np.bool_]]]:
    """Run our search; return its seconds and memory, how many points it asked, and its masks."""
    predictor = ours(size)
    before = loaded()
    encode, encoding, asked = predictor.encode, [], []
    decode = predictor.decode_points

    def timed(tiles: Any) -> Any:
        start = time.process_time()
        answer = encode(tiles)
        encoding.append(time.process_time() - start)
        return answer

    def counted(embedding: Any, points: Any, least: float) -> Any:
        asked.append(len(points))
        return decode(embedding, points, least)

    predictor.encode, predictor.decode_points = timed, counted
    segmenter = Segmenter(picture(), model=predictor, rgb=True, contrast_limits=(0, 255))
    start = time.process_time()
    found = segmenter.everything(grid=GridOptions(points_per_side=points, adaptive=adaptive, **given))
    seconds = time.process_time() - start
    result = {"seconds": seconds, "encoder": sum(encoding), "loaded_mib": before, "peak_mib": peak()}
    masks = (found.mask(i).to_array((SIDE, SIDE)) for i in range(len(found)))
    return {**result, "points": sum(asked), "masks": len(found)}, masks


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do what a child process is for."""
    torch.set_num_threads(1)
    if job["what"] == "thresholds":
        return thresholds(job["size"])
    arguments = job["size"], job["points"], job["given"]
    is_official = job["what"] == "official"
    result, masks = official(*arguments) if is_official else by_grid(*arguments, adaptive=job["what"] == "adaptive")
    np.save(job["masks"], np.array([np.packbits(mask) for mask in masks], np.uint8).reshape(int(result["masks"]), -1))
    return result


def child(job: dict[str, Any]) -> dict[str, Any]:
    """Run a job in a process of its own."""
    command = [sys.executable, __file__, "--job", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def same(some: Path, others: Path) -> float:
    """Return the share of masks that have one among the others with an IoU of at least 0.98."""
    here, there = (np.load(path) for path in (some, others))

    def is_among(one: NDArray[np.uint8]) -> bool:
        pixels = np.unpackbits(one).astype(bool)
        return any(iou(pixels, np.unpackbits(other).astype(bool)) >= SAME for other in there)

    return float(np.mean([is_among(one) for one in here])) if len(here) else 1.0


def main() -> None:
    """Let the contenders run in turns, compare their masks, and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="vit_b", choices=["vit_b", "vit_l", "vit_h"])
    parser.add_argument("--points", type=int, default=32, help="points along each side")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(run(json.loads(options.job))))
        return
    given = child({"what": "thresholds", "size": options.size})
    print(given, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        masks = {name: Path(folder) / f"{name}.npy" for name in CONTENDERS}
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        for _ in range(options.rounds):
            for name in CONTENDERS:
                job = {"what": name, "size": options.size, "points": options.points, "given": given}
                rows[name].append(child({**job, "masks": str(masks[name])}))
                print(name, rows[name][-1], flush=True)
        shares = {
            "official_in_grid": same(masks["official"], masks["grid"]),
            "grid_in_official": same(masks["grid"], masks["official"]),
            "grid_in_adaptive": same(masks["grid"], masks["adaptive"]),
        }
    medians = {
        name: {key: float(np.median([row[key] for row in each])) for key in each[0]} for name, each in rows.items()
    }
    report = {
        "device": processor(),
        "size": options.size,
        "points_per_side": options.points,
        "rounds": options.rounds,
        "thresholds": given,
        **medians,
        "ratios": {name: ratios(medians["official"], medians[name]) for name in CONTENDERS[1:]},
        "same_masks": shares,
    }
    print(json.dumps(report, indent=1))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def ratios(theirs: dict[str, float], mine: dict[str, float]) -> dict[str, float]:
    """Return how many times as much the official generator takes."""
    without = [each["seconds"] - each["encoder"] for each in (theirs, mine)]
    return {
        "with_encoder": theirs["seconds"] / mine["seconds"],
        "without_encoder": without[0] / without[1],
        "peak_memory": theirs["peak_mib"] / mine["peak_mib"],
        "memory_of_the_run": (theirs["peak_mib"] - theirs["loaded_mib"]) / (mine["peak_mib"] - mine["loaded_mib"]),
    }


if __name__ == "__main__":
    main()
