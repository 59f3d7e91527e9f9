"""SAM's parts against the official code and transformers, interleaved in one process, with the same random weights.

    python benchmarks/sam.py                      # ViT-B on this machine's processor, one thread, processor time
    python benchmarks/sam.py --device cuda        # tiles a second, in batches; --size vit_b, vit_l or vit_h
    python benchmarks/sam.py --write benchmarks/results/sam_speed.json

Ratios are of medians over rounds in which every contender runs once. On a processor it is the time of the process with
one thread, which neighbours disturb least; `--threads` takes more and the time on the clock. It needs the packages of
the `test` and `sam2` extras.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from napari_sam import Segmenter
from napari_sam.core.masks import mask_from_logits
from napari_sam.core.prompts import TilePrompts
from napari_sam.core.tiles import TileGrid
from napari_sam.models import load_predictor

SIDE = 1024
OFFICIAL = "segment-anything"
TO_TRANSFORMERS = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.blocks\.", ".layers."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"patch_embed\.proj", "patch_embed.projection"),
    (r"neck\.0\.", "neck.conv1."),
    (r"neck\.1\.", "neck.layer_norm1."),
    (r"neck\.2\.", "neck.conv2."),
    (r"neck\.3\.", "neck.layer_norm2."),
)


def official_sam(size: str) -> Any:
    """Return PyPI's SAM with random weights, none of them degenerate."""
    members = {
        "torchvision": (),
        "torchvision.ops": (),
        "torchvision.ops.boxes": ("batched_nms", "box_area"),
        "torchvision.transforms": (),
        "torchvision.transforms.functional": ("resize", "to_pil_image"),
    }
    for name, functions in members.items():
        sys.modules[name] = ModuleType(name)
        for function in functions:
            setattr(sys.modules[name], function, None)
    from segment_anything import sam_model_registry

    for name in members:  # transformers would take them for the real thing.
        del sys.modules[name]
    torch.manual_seed(0)
    network = sam_model_registry[size]().eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            parameter.data.normal_(0, 0.2)
    return network


def transformers_sam(official: Any, size: str, dtype: torch.dtype, device: str) -> Any:
    """Return transformers' SAM with the image encoder's weights of the official one."""
    from transformers import SamConfig, SamModel

    width = official.image_encoder.pos_embed.shape[-1]
    blocks = official.image_encoder.blocks
    vision = {
        "hidden_size": width,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": blocks[0].attn.num_heads,
        "global_attn_indexes": [i for i, block in enumerate(blocks) if block.window_size == 0],
        "mlp_dim": 4 * width,
    }
    model = SamModel(SamConfig(vision_config=vision, attn_implementation="sdpa")).eval().requires_grad_(False)
    state = {}
    for key, value in official.state_dict().items():
        if key.startswith("image_encoder."):
            name = key
            for pattern, replacement in TO_TRANSFORMERS:
                name = re.sub(pattern, replacement, name)
            state[name] = value
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or any(key.startswith("vision_encoder") for key in missing):
        sys.exit(f"transformers' SAM has other names: {unexpected} {missing}")
    return model.to(device=device, dtype=dtype)


class Race:
    """Contenders that run in turns.

    Parameters
    ----------
    device, threads
        Where; on a processor with one thread its time is measured, else the time on the clock.
    """

    def __init__(self, device: str, threads: int) -> None:
        self.device = device
        self.clock = time.process_time if device == "cpu" and threads == 1 else time.perf_counter
        self.contenders: dict[str, Callable[[], Any]] = {}

    def run(self, rounds: int) -> dict[str, list[float]]:
        """Return the seconds of every contender in every round after one to warm up."""
        times: dict[str, list[float]] = {name: [] for name in self.contenders}
        for number in range(rounds + 1):
            for name, work in self.contenders.items():
                self._wait()
                start = self.clock()
                work()
                self._wait()
                if number:
                    times[name].append(self.clock() - start)
            gc.collect()
        return times

    def _wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


def table(title: str, times: dict[str, list[float]], tiles: int = 1) -> list[dict[str, Any]]:
    """Print the medians and how much faster than the first one each is; return the same."""
    print(f"\n{title}")
    first = float(np.median(next(iter(times.values()))))
    rows = []
    for name, values in times.items():
        low, middle, high = np.percentile(np.array(values) / tiles, [0, 50, 100])
        rows.append(
            {
                "name": name,
                "ms": 1000 * middle,
                "least": 1000 * low,
                "most": 1000 * high,
                "ratio": first / tiles / middle,
            }
        )
        print(
            f"  {name:42} {1000 * middle:9.1f} ms  ({1000 * low:.1f} to {1000 * high:.1f})  x {rows[-1]['ratio']:.2f}"
        )
    return rows


def encoders(official: Any, state: dict[str, Any], arguments: argparse.Namespace) -> Race:
    """Return the race of the image encoders, on one batch of tiles as each takes it."""
    race = Race(arguments.device, arguments.threads)
    device, batch = arguments.device, arguments.batch
    tiles = np.random.default_rng(0).integers(0, 255, (batch, SIDE, SIDE, 3), np.uint8)
    images = torch.randn(batch, 3, SIDE, SIDE, device=device)

    def under(work: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                return work()

        return run

    official_there = official.to(device)
    race.contenders[f"{OFFICIAL}, float32"] = under(lambda: official_there.image_encoder(images))
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        theirs = transformers_sam(official, arguments.size, dtype, device).vision_encoder
        race.contenders[f"transformers sdpa, {name}"] = under(
            lambda theirs=theirs, dtype=dtype: theirs(images.to(dtype))
        )
    for precision in ("float32", "bfloat16"):
        ours = predictor_of(state, arguments, precision)
        race.contenders[f"napari-sam, {precision}"] = lambda ours=ours: ours.encode(tiles)
        if arguments.compile:
            compiled = predictor_of(state, arguments, precision, compiled=True)
            race.contenders[f"napari-sam, {precision}, compiled"] = lambda ours=compiled: ours.encode(tiles)
    return race


def predictor_of(state: dict[str, Any], arguments: argparse.Namespace, precision: str, compiled: bool = False) -> Any:
    """Return our predictor."""
    from napari_sam.models.sam import SamPredictor

    device = torch.device(arguments.device)
    made = SamPredictor(state, arguments.size, name=arguments.size, digest="random", device=device, precision=precision)
    if compiled:
        made.compile()
    return made


def clicks(official: Any, state: dict[str, Any], arguments: argparse.Namespace) -> Race:
    """Return the race from a click on an encoded tile to three masks of full resolution."""
    from segment_anything import SamPredictor as OfficialPredictor

    from napari_sam.core.predictor import Embedding

    race = Race(arguments.device, arguments.threads)
    features = torch.randn(1, 256, 64, 64, device=arguments.device)
    theirs = OfficialPredictor(official.to(arguments.device))
    theirs.features, theirs.is_image_set = features, True
    theirs.original_size = theirs.input_size = (SIDE, SIDE)
    at = np.array([[500, 400]], np.float32)
    race.contenders[f"{OFFICIAL}, float32"] = lambda: theirs.predict(at[:, ::-1].copy(), np.array([1]))
    model = transformers_sam(official, arguments.size, torch.float32, arguments.device)
    points = torch.tensor([[[[400.0, 500.0]]]], device=arguments.device)

    def transformers_click() -> Any:
        with torch.inference_mode():
            masks = model(input_points=points, image_embeddings=features).pred_masks[0]
            return (torch.nn.functional.interpolate(masks, (SIDE, SIDE), mode="bilinear") > 0).cpu().numpy()

    race.contenders["transformers sdpa, float32"] = transformers_click
    tile = TileGrid((SIDE, SIDE), SIDE).tile_at(0, 500, 400)
    prompts = TilePrompts(at, np.array([True]))
    ours_features = Embedding((features,))
    for precision in ("float32", "bfloat16"):
        ours = predictor_of(state, arguments, precision)

        def click(ours: Any = ours) -> Any:
            decoded = ours.decode(ours_features, prompts)
            pairs = zip(decoded.logits, decoded.iou_prediction, strict=True)
            return [mask_from_logits(logits, tile, float(score)) for logits, score in pairs]

        race.contenders[f"napari-sam, {precision}"] = click
    return race


def hover_rates(arguments: argparse.Namespace, sam: Any) -> dict[str, float]:
    """Return how many points a second are answered with masks on an encoded tile, with all threads, on the clock."""
    rates = {}
    compact = load_predictor("compact", arguments.device)
    for name, predictor in (("compact", compact), (arguments.size, sam)):
        side = predictor.input_side
        yy, xx = np.mgrid[:side, :side]
        disc = (np.hypot(yy - side / 2, xx - side / 2) < side / 6) * np.uint8(120) + np.uint8(60)
        (embedding,) = predictor.encode(np.repeat(disc[None, ..., None], 3, -1))
        tile = TileGrid((side, side), side).tile_at(0, side // 2, side // 2)
        times = []
        for step in range(30):
            at = np.array([[side / 2 + step, side / 2]], np.float32)
            start = time.perf_counter()
            decoded = predictor.decode(embedding, TilePrompts(at, np.array([True])))
            for logits, score in zip(decoded.logits, decoded.iou_prediction, strict=True):
                mask_from_logits(logits, tile, float(score))
            times.append(time.perf_counter() - start)
        rates[name] = 1 / float(np.median(times[5:]))
        print(f"  hover, {name:20} {rates[name]:6.1f} answers a second")
    return rates


def busy_share(predictor: Any, tiles: int) -> dict[str, float]:
    """Return the share of a bulk run over a zarr plane that the image encoder is at work, and the run's memory."""
    import tracemalloc

    import zarr

    side = predictor.input_side * (int(np.sqrt(tiles)) // 2 + 1)
    busy = 0.0
    encode = predictor.encode

    def timed(given: Any) -> Any:
        nonlocal busy
        start = time.perf_counter()
        answer = encode(given)
        busy += time.perf_counter() - start
        return answer

    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(Path(folder) / "plane.zarr", shape=(side, side), chunks=(512, 512), dtype="u2")
        array[...] = np.random.default_rng(0).integers(0, 60_000, (side, side)).astype(np.uint16)
        segmenter = Segmenter(array, model=predictor, contrast_limits=(0, 60_000), store=Path(folder) / "store")
        predictor.encode = timed
        tracemalloc.start()
        start = time.perf_counter()
        for progress in segmenter.encode(levels=[0]):
            done = progress
        wall = time.perf_counter() - start
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del predictor.encode
    row = {"tiles": done.encoded, "tiles_per_s": done.encoded / wall, "busy": busy / wall, "numpy_mib": most / 2**20}
    print(
        f"  bulk, {predictor.name:20} {row['tiles']:4} tiles, {row['tiles_per_s']:.2f} a second, encoder at work "
        f"{row['busy']:.1%} of the time, at most {row['numpy_mib']:.0f} MiB of arrays"
    )
    return row


def processor() -> str:
    """Return what the machine calls its processor, and whether it multiplies bfloat16."""
    from napari_sam.models.device import has_fast_bfloat16

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    kinds = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    units = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if kinds.get(name)]
    fast = "bfloat16 in hardware" if has_fast_bfloat16() else "no bfloat16"
    return f"{names[0] if names else platform.processor()} ({', '.join([*units, fast])})"


def peak(device: str, dtype: torch.dtype) -> float:
    """Return the measured rate of a large matrix product, in operations a second."""
    count = 8192 if device.startswith("cuda") else 2048
    a, b = (torch.randn(count, count, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(6):
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * count**3 / min(times)


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", default="vit_b", choices=["vit_b", "vit_l", "vit_h"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, help="tiles in one call: 1 on a processor, 8 on a GPU")
    parser.add_argument("--compile", action="store_true", help="ours compiled as well")
    parser.add_argument("--skip", nargs="*", default=[], choices=["encode", "click", "hover", "bulk"])
    parser.add_argument("--write", type=Path, help="a JSON file for the docs")
    arguments = parser.parse_args()
    arguments.batch = arguments.batch or (8 if arguments.device.startswith("cuda") else 1)
    torch.set_num_threads(arguments.threads)
    official = official_sam(arguments.size)
    state = {key: value for key, value in official.state_dict().items() if not key.startswith("pixel_")}
    gpu = torch.cuda.get_device_name(arguments.device) if arguments.device.startswith("cuda") else None
    report: dict[str, Any] = {
        "device": gpu or processor(),
        "threads": arguments.threads,
        "size": arguments.size,
        "batch": arguments.batch,
        "rounds": arguments.rounds,
        "torch": torch.__version__,
        "peak": {name: peak(arguments.device, getattr(torch, name)) / 1e9 for name in ("float32", "bfloat16")},
    }
    print(report)
    unit = "processor time" if arguments.device == "cpu" and arguments.threads == 1 else "time on the clock"
    if "encode" not in arguments.skip:
        times = encoders(official, state, arguments).run(arguments.rounds)
        report["encode"] = table(f"Encode a tile of {SIDE} x {SIDE}, {unit}", times, arguments.batch)
    if "click" not in arguments.skip:
        times = clicks(official, state, arguments).run(10 * arguments.rounds)
        report["click"] = table(f"Click to three masks of {SIDE} x {SIDE}, {unit}", times)
    ours = predictor_of(state, arguments, "auto" if arguments.device == "cpu" else "bfloat16")
    if "hover" not in arguments.skip:
        report["hover"] = hover_rates(arguments, ours)
    if "bulk" not in arguments.skip:
        compact = load_predictor("compact", arguments.device)
        report["bulk"] = {
            "compact": busy_share(compact, 400),
            arguments.size: busy_share(ours, 9 if arguments.device == "cpu" else 400),
        }
    report["unit"] = unit
    if arguments.write:
        arguments.write.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
