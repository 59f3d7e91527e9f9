"""The training loop: prompt games on crops, an average of the weights, and a state on disk that a kill cannot spoil."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from napari_sam.errors import ModelError, OutputError
from napari_sam.evaluation import LabelledImage, divide, evaluate, read_manifest, read_split
from napari_sam.files import replacing
from napari_sam.models.compact import Compact, CompactPredictor
from napari_sam.models.device import resolve_device
from napari_sam.models.registry import REGISTRY
from napari_sam.models.sam import SIZES, TINY, Sam, SamPredictor, build
from napari_sam.models.storage import fetch
from napari_sam.models.weights import load_weights, recognise
from napari_sam.segmenter import Segmenter
from napari_sam.training.curve import can_draw, draw_curve
from napari_sam.training.data import Crop, CropOptions, Source, draw_crop, load_sources
from napari_sam.training.games import CompactGame, Game, SamGame
from napari_sam.training.losses import mask_losses
from napari_sam.training.simulate import PromptBatch, first_prompts, next_points

STATE_FILE, CURVE_FILE, WEIGHTS_FILE, PICTURE_FILE = "state.pt", "curve.json", "weights.safetensors", "curve.png"
PREFETCH = 4
LONG_GAME = 8
TRAINABLE = ("compact", *SIZES, TINY)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Everything that a training run depends on; the fields of a TOML configuration, paths relative to it.

    Parameters
    ----------
    out
        Folder for the state, the curve and the weights.
    manifest
        Labelled images (see `read_manifest`), or None where `pairs` are given.
    pairs
        (image, labels) files, in place of or beside the manifest.
    split
        File with the images that are kept out of training and used for validation.
    init
        Checkpoint to start from, in a configuration also the name of a model; random weights when left out.
    steps, batch, objects
        Optimiser steps, crops in a step, objects asked for in a crop.
    rounds
        Most rounds of a game; each step plays one to that many. Of four or more, one brings no new point, of eight or
        more the last one neither, as in the paper's eleven.
    learned_rounds
        How many rounds of a game cost a gradient, the first and the last ones; the others are only played. 0: all.
    pretext_steps
        Steps at the start in which only the image encoder learns, from dense targets.
    learning_rate, warmup, decay, weight_decay, clip
        Of AdamW: the rate, the steps in which it rises, the share of all steps at the end in which it falls like a
        cosine (before that it stays), the weight decay, and the gradient's largest norm.
    focal_weight, gamma, dense_weight, every_candidate, chosen_candidate
        Of the focal loss (dice has 1), of the dense loss, and, beside the minimum over the candidates in the first
        round, of their mean and of the one that the model itself likes best.
    box_share
        Probability that a game starts with a box.
    average
        Decay of the average of the weights.
    side
        Side of a crop in pixels; that of the model's tiles when left out. Smaller ones make quick trials.
    smallest, largest
        Share of the crop's side that an object covers.
    augment
        Whether to change geometry and intensity at random.
    weights
        How often each subset is drawn, relative to the others; 1 where nothing is said.
    seed
        Fixes the order of the data and the prompts.
    save_every, validate_every, validate_objects
        Steps between states, between validations (0: never), and objects of each subset in one.
    device, threads, precision
        Where and how: "float32" or "bfloat16".
    frozen_encoder
        For SAM: leave the image encoder as it is.
    """

    out: Path
    manifest: Path | None = None
    pairs: tuple[tuple[Path, Path], ...] = ()
    split: Path | None = None
    init: Path | None = None
    steps: int = 1000
    batch: int = 8
    objects: int = 4
    rounds: int = 3
    learned_rounds: int = 0
    pretext_steps: int = 0
    learning_rate: float = 2e-3
    warmup: int = 100
    decay: float = 1.0
    weight_decay: float = 0.02
    clip: float = 1.0
    focal_weight: float = 8.0
    gamma: float = 1.0
    dense_weight: float = 0.5
    every_candidate: float = 0.05
    chosen_candidate: float = 0.0
    box_share: float = 0.4
    average: float = 0.999
    side: int | None = None
    smallest: float = 0.08
    largest: float = 0.8
    augment: bool = True
    weights: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    save_every: int = 200
    validate_every: int = 0
    validate_objects: int = 6
    device: str = "auto"
    threads: int | None = None
    precision: str = "float32"
    frozen_encoder: bool = True


def read_config(path: Path) -> TrainOptions:
    """Read a TOML configuration whose entries are the fields of `TrainOptions`.

    Raises
    ------
    ModelError
        The file is missing or broken, or has an entry that does not exist or is of another type.
    """
    try:
        entries = tomllib.loads(path.read_text())
    except OSError as error:
        raise ModelError(f"The configuration {path} cannot be read ({error.strerror}): check the path.") from error
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"The configuration {path} is no valid TOML ({error}): correct it.") from error
    known = {entry.name: entry.default for entry in dataclasses.fields(TrainOptions)}
    unknown = sorted(set(entries) - set(known))
    if unknown or "out" not in entries:
        wrong = f"has the unknown entry {unknown[0]!r}" if unknown else "does not say where to write (out)"
        raise ModelError(f"The configuration {path} {wrong}: it may hold {', '.join(sorted(known))}.")
    if entries.get("init") in REGISTRY:
        entries["init"] = fetch(REGISTRY[entries["init"]])
    for name in ("out", "manifest", "split", "init"):
        if name in entries:
            entries[name] = path.parent / str(entries[name])
    if "pairs" in entries:
        entries["pairs"] = tuple((path.parent / image, path.parent / labels) for image, labels in entries["pairs"])
    for name, value in entries.items():
        default = known[name]
        if isinstance(default, (int, float)) and not isinstance(value, (int, float)):
            raise ModelError(f"The entry {name} of {path} must be a number and is {value!r}: correct it.")
    return TrainOptions(**entries)


@dataclass
class _State:
    """What a run is made of; all of it goes to disk and comes back."""

    game: Game
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)


def train(options: TrainOptions, report: Callable[[int, dict[str, Any]], None] | None = None) -> Path:
    """Train a network, going on from the state in `options.out` if there is one, and return the weights' file.

    Parameters
    ----------
    options
        What to do.
    report
        Called after every step with its number and its figures.

    Raises
    ------
    ImageError, ModelError, OutputError
        The data or the start weights cannot be used; the loss is not a number; the disk is full. What was saved last
        is intact then.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    kept_out = read_split(options.split) if options.split else frozenset()
    images, validation = _images(options, kept_out)
    sources = load_sources(images, np.random.default_rng(options.seed))
    state = _restored(_fresh(options, device), options.out)
    side = options.side or state.game.side
    crops = CropOptions(side, options.objects, options.smallest, options.largest, augment=options.augment)
    for step, batch in _batches(sources, options, crops, state.step):
        figures = _step(state, options, batch, step, device)
        state.step = step + 1
        state.curve.append({"step": state.step, **figures})
        last = state.step == options.steps
        if options.validate_every and (last or state.step % options.validate_every == 0):
            state.curve[-1]["validation"] = _validate(state, options, validation, device)
        if last or state.step % options.save_every == 0:
            _save(state, options.out)
        if report:
            report(state.step, state.curve[-1])
    return options.out / WEIGHTS_FILE


def _images(options: TrainOptions, kept_out: frozenset[str]) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return the images to train on and those that are kept out."""
    images = [LabelledImage(image, labels, "pairs", "instance") for image, labels in options.pairs]
    if options.manifest:
        images += read_manifest(options.manifest)
    return divide(images, kept_out, options.manifest.parent if options.manifest else Path())


def _fresh(options: TrainOptions, device: torch.device) -> _State:
    torch.manual_seed(options.seed)
    game: Game
    if options.init is None:
        game = CompactGame(Compact())
    else:
        family, weights = recognise(load_weights(options.init), options.init)
        if family not in TRAINABLE:
            raise ModelError(
                f"{options.init} holds {family} weights, which cannot be trained here: start from the compact model, "
                "from SAM ViT-B, L or H, or from MobileSAM."
            )
        weights = {key: value.float() for key, value in weights.items()}
        network: Compact | Sam = Compact() if family == "compact" else build(family)
        network.load_state_dict(weights)
        game = (
            CompactGame(network)
            if isinstance(network, Compact)
            else SamGame(network, frozen_encoder=options.frozen_encoder)
        )
    game.network.to(device, torch.float32)
    if isinstance(game, CompactGame):
        game.head.to(device)
        game.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(game.network).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        game.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, betas=(0.9, 0.98)
    )
    return _State(game, averaged, optimizer)


def _batches(
    sources: dict[str, list[Source]], options: TrainOptions, crops: CropOptions, start: int
) -> Iterator[tuple[int, list[Crop]]]:
    """Yield the crops of each step, drawn ahead in other threads; seed and step alone decide what they are."""

    def draw(step: int) -> list[Crop]:
        rngs = (np.random.default_rng([options.seed, step, index]) for index in range(options.batch))
        return [draw_crop(sources, options.weights, crops, rng) for rng in rngs]

    with ThreadPoolExecutor(2) as pool:
        waiting: dict[int, Future[list[Crop]]] = {}
        for step in range(start, options.steps):
            for ahead in range(step, min(step + PREFETCH, options.steps)):
                if ahead not in waiting:
                    waiting[ahead] = pool.submit(draw, ahead)
            yield step, waiting.pop(step).result()


def _step(state: _State, options: TrainOptions, batch: list[Crop], step: int, device: torch.device) -> dict[str, float]:
    """Play one game on a batch and take one optimiser step; return what it cost and how good the answers were."""
    rng = np.random.default_rng([options.seed, step, options.batch])
    for group in state.optimizer.param_groups:
        group["lr"] = options.learning_rate * _schedule(step, options)
    state.game.network.train()
    pixels = torch.from_numpy(np.stack([crop.pixels for crop in batch])).to(device).permute(0, 3, 1, 2)
    # Few tokens attend to few cells here: on a processor the plain formula is faster backwards than the fused one.
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with attention, torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bfloat16"):
        features = state.game.encode(pixels)
        loss, figures = torch.zeros((), device=device), {}
        dense = state.game.dense(features, np.stack([crop.objects for crop in batch]), rng)
        if dense is not None:
            loss = options.dense_weight * dense
            figures["dense"] = float(dense.detach())
        if dense is None or step >= options.pretext_steps:
            played, iou = _play(state.game, features, batch, options, rng)
            loss = loss + played
            figures |= iou
    figures["loss"] = float(loss.detach())
    if not math.isfinite(figures["loss"]):
        raise ModelError(
            f"The loss of step {step + 1} is not a number: lower the learning rate and start again; "
            f"the state of step {step - step % options.save_every} is intact."
        )
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(state.game.parameters(), options.clip)
    state.optimizer.step()
    _average(state, min(options.average, (1 + step) / (10 + step)))
    return figures


def _play(
    game: Game, features: tuple[Tensor, ...], batch: list[Crop], options: TrainOptions, rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Play one to `options.rounds` rounds for every object of the batch; return the mean loss of the rounds."""
    device = features[0].device
    masks = np.concatenate([crop.objects[None] == crop.values[:, None, None] for crop in batch])
    truth = F.avg_pool2d(torch.from_numpy(masks).to(device).float()[:, None], 2)[:, 0]
    prompts = _on(first_prompts(masks, options.box_share, rng), device)
    rounds = int(rng.integers(1, options.rounds + 1))
    blind = {int(rng.integers(1, rounds))} if rounds > 3 else set()
    if rounds >= LONG_GAME:
        blind.add(rounds - 1)
    total, figures = torch.zeros((), device=device), {}
    every = torch.arange(len(masks), device=device)
    silent = range(1, rounds - max(options.learned_rounds - 1, 1)) if options.learned_rounds else range(0)
    for turn in range(rounds):
        with torch.set_grad_enabled(turn not in silent):
            logits, predicted = game.decode(features, options.objects, prompts)
        finer = F.interpolate(logits, size=truth.shape[-2:], mode="bilinear")
        losses, iou = mask_losses(finer, truth, focal_weight=options.focal_weight, gamma=options.gamma)
        chosen = predicted.argmax(1)
        if turn == 0:
            total = total + losses.amin(1).mean() + options.every_candidate * losses.mean()
            total = total + options.chosen_candidate * losses[every, chosen].mean()
        elif turn not in silent:
            total = total + losses.mean()
        if turn not in silent:
            total = total + F.mse_loss(predicted, iou)
        figures["iou_first" if turn == 0 else "iou_last"] = float(iou.gather(1, chosen[:, None]).mean())
        if turn == 0:
            figures["iou_best"] = float(iou.amax(1).mean())
        if turn + 1 < rounds:
            # Go on from what the user would see: the mask that the model itself likes best.
            shown = logits.detach()[every, chosen].float()
            if turn + 1 in blind:
                prompts = prompts.again(shown)
            else:
                answers = F.interpolate(shown[:, None], scale_factor=2.0, mode="bilinear")[:, 0] > 0
                points, types = next_points(answers.cpu().numpy(), masks[:, ::2, ::2], rng)
                prompts = prompts.followed_by(points * 2, types, shown)
    return total / (rounds - len(silent)), figures


def _on(prompts: PromptBatch, device: torch.device) -> PromptBatch:
    return PromptBatch(prompts.coords.to(device), prompts.types.to(device), prompts.logits.to(device))


def _schedule(step: int, options: TrainOptions) -> float:
    rise = min(1.0, (step + 1) / max(options.warmup, 1))
    falling = max(options.steps * options.decay, 1)
    fallen = min(1.0, max(0.0, (step - options.steps + falling) / falling))
    return rise * (0.02 + 0.49 * (1 + math.cos(math.pi * fallen)))


@torch.no_grad()
def _average(state: _State, decay: float) -> None:
    current = state.game.network.state_dict()
    for name, value in state.averaged.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])


def _validate(
    state: _State, options: TrainOptions, images: list[LabelledImage], device: torch.device
) -> dict[str, Any]:
    """Click through the kept-out images with the averaged weights; return the means over the subsets."""
    weights = {key: value.clone() for key, value in state.averaged.state_dict().items()}
    predictor: CompactPredictor | SamPredictor
    if isinstance(state.game, CompactGame):
        predictor = CompactPredictor(weights, name="training", digest=str(state.step), device=device)
    else:
        family, _ = recognise(weights, options.out)
        predictor = SamPredictor(weights, family, name="training", digest=str(state.step), device=device)
    table: dict[str, Any] = {"mean": {}}
    for _, evaluation in evaluate(
        images,
        lambda path: Segmenter(path, model=predictor),
        model="training",
        objects_per_subset=options.validate_objects,
    ):
        table = evaluation.table()
    mean: dict[str, Any] = table["mean"]
    return mean


def _restored(state: _State, folder: Path) -> _State:
    """Go on from a saved state, if there is one.

    Raises
    ------
    ModelError
        There is one of another network.
    """
    file = folder / STATE_FILE
    if not file.exists():
        return state
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
        state.game.network.load_state_dict(saved["network"])
        state.averaged.load_state_dict(saved["averaged"])
        state.optimizer.load_state_dict(saved["optimizer"])
        if isinstance(state.game, CompactGame):
            state.game.head.load_state_dict(saved["head"])
        state.step = int(saved["step"])
        state.curve = json.loads((folder / CURVE_FILE).read_text())[: state.step]
    except Exception as error:
        raise ModelError(f"The state in {folder} is of another run or damaged: choose another folder (out).") from error
    return state


def _save(state: _State, folder: Path) -> None:
    """Write the state, the curve and the averaged weights; each file whole or not at all.

    Raises
    ------
    OutputError
        The disk is full or the folder cannot be written to; the older files are intact.
    """
    saved = {
        "network": state.game.network.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "head": state.game.head.state_dict() if isinstance(state.game, CompactGame) else {},
        "step": state.step,
    }
    half = {
        # Running variances can exceed what half precision holds; they are few.
        key: value.detach().cpu().to(torch.float32 if "running_" in key else torch.float16).contiguous()
        for key, value in state.averaged.state_dict().items()
        if value.dtype.is_floating_point
    }
    writers: list[tuple[str, Callable[[Path], object]]] = [
        (CURVE_FILE, lambda path: path.write_text(json.dumps(state.curve))),
        (WEIGHTS_FILE, lambda path: save_file(half, path)),
        (STATE_FILE, lambda path: torch.save(saved, path)),
    ]
    if can_draw():
        writers.append((PICTURE_FILE, lambda path: draw_curve(state.curve, path)))
    try:
        for name, write in writers:
            with replacing(folder / name) as temporary:
                write(temporary)
    except (OutputError, RuntimeError) as error:
        raise OutputError(
            f"The state of step {state.step} cannot be written to {folder} ({error}): make room there and start again; "
            "the state before it is intact."
        ) from error
