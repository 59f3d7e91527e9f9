"""The training loop: simulated prompts on crops, an average of the weights, and regular saves and validations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from napari_sam.errors import ModelError
from napari_sam.evaluation.datasets import LabelledImage, read_manifest, read_split, split_images
from napari_sam.evaluation.protocol import evaluate
from napari_sam.files.temporary import remove_leftovers
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.compact import CompactPredictor
from napari_sam.models.device import resolve_device
from napari_sam.models.sam import SamPredictor
from napari_sam.segmenter import Segmenter
from napari_sam.training.checkpoint import WEIGHTS_FILE, TrainingState, average_weights, fresh_state, restored, save
from napari_sam.training.config import TrainOptions as TrainOptions
from napari_sam.training.config import check_out, checked
from napari_sam.training.config import read_config as read_config
from napari_sam.training.crops import Crop, CropOptions, Source, check_weights, draw_crop, load_sources
from napari_sam.training.rounds import run_rounds
from napari_sam.training.run_lock import only_run_in
from napari_sam.training.scorer import add_scorer
from napari_sam.training.trainers import CompactTrainer, SamTrainer, Trainer

PREFETCH = 4


def train(options: TrainOptions, report: Callable[[int, dict[str, Any]], None] | None = None) -> Path:
    """Train a network and return the file of its weights; a state in `options.out` is resumed.

    Parameters
    ----------
    options
        Options of the run.
    report
        Called after every step with its number and its figures.

    Raises
    ------
    ImageError, ModelError, OutputError
        The data or the start weights cannot be used; another run trains in the same folder; the loss is not a number;
        the disk is full. The last saved state stays intact.
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
        remove_leftovers(options.out)  # A run that is complete writes nothing more, which would remove them.
        _run(options, sources, validation, device, report)
        if options.scorer_objects:
            weights = options.out / WEIGHTS_FILE
            add_scorer(weights, images, options.scorer_objects, seed=options.seed, device=device)
    return options.out / WEIGHTS_FILE


def _run(
    options: TrainOptions,
    sources: dict[str, list[Source]],
    validation: list[LabelledImage],
    device: torch.device,
    report: Callable[[int, dict[str, Any]], None] | None,
) -> None:
    """Take the remaining steps, and save the state on the way."""
    state = restored(fresh_state(options, device), options.out)
    side = options.side or state.trainer.side
    if isinstance(state.trainer, SamTrainer) and side != state.trainer.side:
        raise ModelError(f"A SAM takes crops of {state.trainer.side} pixels and side is {side}: leave it out.")
    _check_parts(options, state.trainer)
    crops = CropOptions(side, options.objects, options.smallest, options.largest, augment=options.augment)
    with ThreadPoolExecutor(options.parts) as pool:
        for step, batch in _batches(sources, options, crops, state.step):
            with _enough_memory(options, side):
                figures = take_step(state, options, batch, step, device, pool)
            state.step = step + 1
            state.curve.append({"step": state.step, **figures})
            last = state.step == options.steps
            if options.validate_every and (last or state.step % options.validate_every == 0):
                state.curve[-1]["validation"] = _validate(state, options, validation, device)
            if last or state.step % options.save_every == 0:
                save(state, options.out)
            if report:
                report(state.step, state.curve[-1])
    if not (options.out / WEIGHTS_FILE).is_file():  # No step was left, or the file was removed.
        save(state, options.out)


def _check_parts(options: TrainOptions, trainer: Trainer) -> None:
    """Refuse more parts than crops, and parts that batch normalization would treat as separate batches.

    Raises
    ------
    ModelError
        A batch cannot be computed in so many parts.
    """
    if options.parts > options.batch or (options.parts > 1 and not trainer.has_frozen_norms):
        raise ModelError(
            f"A batch of {options.batch} crops cannot be computed in {options.parts} parts: leave parts out, or start "
            "from given weights (init) with frozen_norms = true and at most as many parts as crops."
        )


@contextmanager
def _enough_memory(options: TrainOptions, side: int) -> Iterator[None]:
    """Raise a `ModelError` that names what to lower if a step does not fit into memory."""
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


def _batches(
    sources: dict[str, list[Source]], options: TrainOptions, crops: CropOptions, start: int
) -> Iterator[tuple[int, list[Crop]]]:
    """Yield the crops of each step, drawn ahead in other threads; they depend on the seed and the step only."""

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


def take_step(
    state: TrainingState, options: TrainOptions, batch: list[Crop], step: int, device: torch.device, pool: Executor
) -> dict[str, float]:
    """Take one optimizer step on a batch; return its losses and IoUs, means over the crops."""
    for group in state.optimizer.param_groups:
        group["lr"] = options.learning_rate * group["rate"] * rate_factor(step, options)
    state.trainer.train()
    trained = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    parts = [[int(index) for index in part] for part in np.array_split(np.arange(len(batch)), options.parts)]
    shares = [len(part) / len(batch) for part in parts]
    # Few tokens attend to few cells here: on a processor the plain formula is faster backwards than the fused one.
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with attention:
        made = list(pool.map(lambda part: _part(state.trainer, options, batch, part, step, device, trained), parts))
    figures = _means([one for _, one in made], shares)
    if not math.isfinite(figures["loss"]):
        raise _not_a_number("The loss", step, options)
    # Summed in the order of the parts, not in that of their ends, so that a run repeats exactly.
    for parameter, *gradients in zip(trained, *(gradients for gradients, _ in made), strict=True):
        scaled = [share * one for share, one in zip(shares, gradients, strict=True) if one is not None]
        parameter.grad = sum(scaled[1:], scaled[0]) if scaled else None
    norm = nn.utils.clip_grad_norm_(trained, options.clip)
    if not math.isfinite(float(norm)):
        raise _not_a_number("The gradient", step, options)
    state.optimizer.step()
    average_weights(state, average_decay(step, options))
    return figures


def _part(
    trainer: Trainer,
    options: TrainOptions,
    batch: list[Crop],
    part: list[int],
    step: int,
    device: torch.device,
    trained: list[nn.Parameter],
) -> tuple[tuple[Tensor | None, ...], dict[str, float]]:
    """Return the gradients of the trained parameters for some crops of a batch, and the losses and IoUs."""
    rng = np.random.default_rng([options.seed, step, options.batch + part[0]])
    crops = [batch[index] for index in part]
    pixels = torch.from_numpy(np.stack([crop.pixels for crop in crops])).to(device).permute(0, 3, 1, 2)
    with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bfloat16"):
        features = trainer.encode(pixels)
        loss, figures = torch.zeros((), device=device), {}
        dense = trainer.dense(features, np.stack([crop.objects for crop in crops]), rng)
        if dense is not None:
            loss = options.dense_weight * dense
            figures["dense"] = float(dense.detach())
        if dense is None or step >= options.pretext_steps:
            decoded, iou = run_rounds(trainer, features, crops, options, rng)
            loss = loss + decoded
            figures |= iou
    figures["loss"] = float(loss.detach())
    return torch.autograd.grad(loss, trained, allow_unused=True), figures


def rate_factor(step: int, options: TrainOptions) -> float:
    """Return the learning rate of a step relative to `options.learning_rate`, 0 to 1.

    It rises linearly over `warmup` steps, is constant, and falls like a cosine to 2 % over the last share `decay`.
    """
    rise = min(1.0, (step + 1) / max(options.warmup, 1))
    falling = max(options.steps * options.decay, 1)
    fallen = min(1.0, max(0.0, (step - options.steps + falling) / falling))
    return rise * (0.02 + 0.49 * (1 + math.cos(math.pi * fallen)))


def average_decay(step: int, options: TrainOptions) -> float:
    """Return the decay of the averaged weights at a step; smaller at the start, when they still are random."""
    return min(options.average, (1 + step) / (10 + step))


def _means(figures: list[dict[str, float]], shares: list[float]) -> dict[str, float]:
    """Return the weighted means of the figures of the parts; a part with a single round has no `iou_last`."""
    means = {}
    for name in sorted({name for one in figures for name in one}):
        known = [(one[name], share) for one, share in zip(figures, shares, strict=True) if name in one]
        means[name] = sum(value * share for value, share in known) / sum(share for _, share in known)
    return means


def _not_a_number(what: str, step: int, options: TrainOptions) -> ModelError:
    return ModelError(
        f"{what} of step {step + 1} is not a number: lower the learning rate and start again; "
        f"the state of step {step - step % options.save_every} is intact."
    )


def _validate(
    state: TrainingState, options: TrainOptions, images: list[LabelledImage], device: torch.device
) -> dict[str, Any]:
    """Click through the held-out images with the averaged weights; return the means over the subsets."""
    weights = {key: value.clone() for key, value in state.averaged.state_dict().items()}
    predictor: CompactPredictor | SamPredictor
    if isinstance(state.trainer, CompactTrainer):
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
