"""Learning rate and weight averaging over the steps of a training run."""

from __future__ import annotations

import math

from napari_sam.training.config import TrainOptions


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
