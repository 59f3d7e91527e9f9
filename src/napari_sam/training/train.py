"""The training loop: prompt games on crops, an average of the weights, and a state on disk that a kill cannot spoil."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from napari_sam.errors import ModelError, OutputError
from napari_sam.evaluation.datasets import LabelledImage, read_manifest, read_split, split_images
from napari_sam.evaluation.protocol import evaluate
from napari_sam.files.outputs import replacing
from napari_sam.models.archives import check_torch_file
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.compact import Compact, CompactPredictor
from napari_sam.models.device import resolve_device
from napari_sam.models.safe_load import load_weights
from napari_sam.models.sam import SIZES, TINY, Sam, SamPredictor, build
from napari_sam.segmenter import Segmenter
from napari_sam.training.config import TrainOptions as TrainOptions
from napari_sam.training.config import check_out, checked
from napari_sam.training.config import read_config as read_config
from napari_sam.training.crops import Crop, CropOptions, Source, check_weights, draw_crop, load_sources
from napari_sam.training.losses import mask_losses
from napari_sam.training.plots import can_draw, draw_curve
from napari_sam.training.prompts import PromptBatch, first_prompts, next_points
from napari_sam.training.run_lock import only_run_in
from napari_sam.training.trainers import CompactTrainer, Game, SamTrainer

STATE_FILE, CURVE_FILE, WEIGHTS_FILE, PICTURE_FILE = "state.pt", "curve.json", "weights.safetensors", "curve.png"
PREFETCH = 4
LONG_GAME = 8
TRAINABLE = ("compact", *SIZES, TINY)


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
        The data or the start weights cannot be used; another run trains in the same folder; the loss is not a number;
        the disk is full. What was saved last is intact then.
    """
    options = checked(options)
    device = resolve_device(options.device)
    check_out(options.out)
    if not (options.pairs or options.manifest):
        raise ModelError("There is nothing to train on: give pairs of images and labels, or a manifest.")
    if options.threads:
        torch.set_num_threads(options.threads)
    held_out = read_split(options.split) if options.split else frozenset()
    images, validation = _images(options, held_out)
    sources = load_sources(images, np.random.default_rng(options.seed))
    check_weights(options.weights, list(sources))
    with only_run_in(options.out):
        _run(options, sources, validation, device, report)
    return options.out / WEIGHTS_FILE


def _run(
    options: TrainOptions,
    sources: dict[str, list[Source]],
    validation: list[LabelledImage],
    device: torch.device,
    report: Callable[[int, dict[str, Any]], None] | None,
) -> None:
    """Take the steps that are left, saving the state on the way."""
    state = _restored(_fresh(options, device), options.out)
    side = options.side or state.game.side
    if isinstance(state.game, SamTrainer) and side != state.game.side:
        raise ModelError(f"A SAM takes crops of {state.game.side} pixels and side is {side}: leave it out.")
    crops = CropOptions(side, options.objects, options.smallest, options.largest, augment=options.augment)
    for step, batch in _batches(sources, options, crops, state.step):
        with _enough_memory(options, side):
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
    if not (options.out / WEIGHTS_FILE).is_file():  # Without a step, or where somebody moved them away.
        _save(state, options.out)


@contextmanager
def _enough_memory(options: TrainOptions, side: int) -> Iterator[None]:
    """Say what to lower where a step does not fit into memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)):
            raise
        raise ModelError(
            f"A step of {options.batch} crops of {side} pixels with {options.objects} objects each does not fit into "
            "memory: lower batch, objects or side."
        ) from error


def _images(options: TrainOptions, held_out: frozenset[str]) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return the images to train on and the held-out ones."""
    images = [LabelledImage(image, labels, "pairs", "instance") for image, labels in options.pairs]
    if options.manifest:
        images += read_manifest(options.manifest)
    return split_images(images, held_out, options.manifest.parent if options.manifest else Path())


def _fresh(options: TrainOptions, device: torch.device) -> _State:
    torch.manual_seed(options.seed)
    game: Game
    if options.init is None:
        game = CompactTrainer(Compact())
    else:
        family, weights = detect_architecture(load_weights(options.init), options.init)
        if family not in TRAINABLE:
            raise ModelError(
                f"{options.init} holds {family} weights, which cannot be trained here: start from the compact model, "
                "from SAM ViT-B, L or H, or from MobileSAM."
            )
        weights = {key: value.float() for key, value in weights.items()}
        network: Compact | Sam = Compact() if family == "compact" else build(family)
        network.load_state_dict(weights)
        game = (
            CompactTrainer(network)
            if isinstance(network, Compact)
            else SamTrainer(network, frozen_encoder=options.frozen_encoder)
        )
    game.network.to(device, torch.float32)
    if isinstance(game, CompactTrainer):
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
        try:
            for step in range(start, options.steps):
                for ahead in range(step, min(step + PREFETCH, options.steps)):
                    if ahead not in waiting:
                        waiting[ahead] = pool.submit(draw, ahead)
                yield step, waiting.pop(step).result()
        finally:
            for future in waiting.values():
                future.cancel()


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
        raise _not_a_number("The loss", step, options)
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(state.game.parameters(), options.clip)
    if not math.isfinite(float(norm)):
        raise _not_a_number("The gradient", step, options)
    state.optimizer.step()
    _average(state, min(options.average, (1 + step) / (10 + step)))
    return figures


def _not_a_number(what: str, step: int, options: TrainOptions) -> ModelError:
    return ModelError(
        f"{what} of step {step + 1} is not a number: lower the learning rate and start again; "
        f"the state of step {step - step % options.save_every} is intact."
    )


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
    """Click through the held-out images with the averaged weights; return the means over the subsets."""
    weights = {key: value.clone() for key, value in state.averaged.state_dict().items()}
    predictor: CompactPredictor | SamPredictor
    if isinstance(state.game, CompactTrainer):
        predictor = CompactPredictor(weights, name="training", digest=str(state.step), device=device)
    else:
        family, _ = detect_architecture(weights, options.out)
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
        check_torch_file(file)
        saved = torch.load(file, map_location="cpu", weights_only=True)
        state.game.network.load_state_dict(saved["network"])
        state.averaged.load_state_dict(saved["averaged"])
        state.optimizer.load_state_dict(saved["optimizer"])
        if isinstance(state.game, CompactTrainer):
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
        "head": state.game.head.state_dict() if isinstance(state.game, CompactTrainer) else {},
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
    except (OutputError, RuntimeError, SafetensorError) as error:
        raise OutputError(
            f"The state of step {state.step} cannot be written to {folder} ({error}): make room there and start again; "
            "the state before it is intact."
        ) from error
