"""Steps of teaching: their options, what crops are drawn from and how often, and the way back to the base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_sam.training.checkpoint import TrainingState
from napari_sam.training.config import TrainOptions
from napari_sam.training.crops import Source
from napari_sam.training.teaching.lesson import TeachOptions
from napari_sam.training.teaching.measuring.held_back import Held
from napari_sam.training.teaching.regions import Region

# How much more often an object is drawn that the user corrected.
CORRECTED_WEIGHT = 3.0
# How far each step moves the weights back to those of the base model, as a multiple of the learning rate.
PULL = 2.0


def teaching_options(family: str, options: TeachOptions, folder: Path) -> TrainOptions:
    """Return the options of the steps, which `benchmarks/teach.py` compared."""
    chosen = TrainOptions(
        out=folder,
        objects=4,
        rounds=4,
        learned_rounds=2,
        every_candidate=0.25,
        chosen_candidate=1.0,
        weight_decay=0.0,
        warmup=15,
        decay=0.7,
        average=0.97,
        box_share=0.3,
        smallest=0.06,
        largest=1.0,
        seed=options.seed,
        device=options.device,
    )
    batch, rate = (6, 5e-4) if family == "compact" else (1, 1e-4)
    return replace(chosen, batch=batch, learning_rate=rate)


def sources_of(regions: Sequence[Region], held: Held) -> tuple[dict[str, list[Source]], dict[str, float]]:
    """Return what crops are drawn from, and how often from each region, so that all objects come alike.

    Objects that were corrected come three times as often. Nothing is known where an object is that is held back.
    """
    sources, weights = {}, {}
    for number, (region, hidden) in enumerate(zip(regions, held, strict=True)):
        seen = region.without(hidden)
        if len(seen.numbers):
            shares = np.where(seen.is_corrected, CORRECTED_WEIGHT, 1.0)
            sources[str(number)] = [Source(seen.pixels, seen.objects, seen.numbers, shares / shares.sum())]
            weights[str(number)] = float(shares.sum())
    return sources, weights


@torch.no_grad()
def pull(state: TrainingState, home: Sequence[Tensor], options: TrainOptions) -> None:
    """Move the weights back a little to those of the base model, so that it does not forget other images."""
    at = 0
    for group in state.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.lerp_(home[at], min(group["lr"] * PULL, 1.0))
            at += 1
