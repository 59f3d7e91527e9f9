"""Fit a fusion network to samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_sam.core.following.mask_fuser import CHANNELS
from napari_sam.models.fusion.network import FusionNetwork
from napari_sam.training.fusion.samples import Sample

BATCH = 16
LEARNING_RATE, WEIGHT_DECAY = 1.2e-3, 1e-3
WARM_UP = 100
# Planes without the object are rare, and the end of an object hangs on them.
ABSENT_WEIGHT = 1.4
# Share of the samples whose gray values are inverted, and of those that do without one kind of channels.
INVERTED = 0.25
LEFT_OUT = {
    ("mask before that",): 0.15,
    ("likeness to the previous plane",): 0.1,
    ("likeness to the accepted plane",): 0.1,
    ("accepted pixels", "accepted mask"): 0.1,
}
PIXELS = 3


def fit_fusion(
    samples: Sequence[Sample],
    minutes: float,
    *,
    start: FusionNetwork | None = None,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> FusionNetwork:
    """Return a network that decides on the masks of samples.

    Each subset counts by the square root of its samples.

    Parameters
    ----------
    samples
        At least one.
    minutes
        How long to train; the learning rate falls to zero over this time.
    start
        A network to go on from; a new one by default.
    seed
        Fixes the order of the samples and their changes.
    report
        Called with a line of text from time to time.
    """
    network = start or FusionNetwork()
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rng, weights = np.random.default_rng(seed), _weights(samples)
    begin, step, share = monotonic(), 0, 0.0
    losses: list[float] = []
    while share < 1:
        rate = LEARNING_RATE * min(1, (step + 1) / WARM_UP) * (0.5 * (1 + np.cos(np.pi * share)) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = [samples[i] for i in rng.choice(len(samples), BATCH, p=weights)]
        loss = _loss(network, *_batch(chosen, rng))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step, share = step + 1, (monotonic() - begin) / (60 * minutes)
        losses.append(loss.item())
        if report is not None and step % WARM_UP == 0:
            report(f"{100 * share:.0f} %: step {step}, loss {np.mean(losses[-WARM_UP:]):.3f}")
    return network.eval()


def _weights(samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Return the probability of drawing each sample."""
    subsets = [sample.subset for sample in samples]
    _, number, counts = np.unique(subsets, return_inverse=True, return_counts=True)
    present = np.array([bool(sample.truth.any()) for sample in samples])
    weights = counts[number] ** -0.5 * np.where(present, 1.0, ABSENT_WEIGHT)
    return np.asarray(weights / weights.sum(), np.float64)


def _batch(samples: Sequence[Sample], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return channels, scalars, truth and which cells count, turned, mirrored and with other gray values."""
    channels = np.stack([sample.channels for sample in samples]).astype(np.float32)
    truth = np.stack([sample.truth for sample in samples]).astype(np.float32)
    counts = np.stack([sample.is_inside for sample in samples]).astype(np.float32)
    turns, is_mirrored = int(rng.integers(4)), rng.random() < 0.5

    def turned(values: NDArray[Any]) -> NDArray[Any]:
        values = np.rot90(values, turns, (-2, -1))
        return np.ascontiguousarray(values[..., ::-1] if is_mirrored else values)

    each = (len(samples), 1, 1, 1)
    pixels = channels[:, :PIXELS]
    pixels = np.where(rng.random(each) < INVERTED, 1 - pixels, pixels)
    channels[:, :PIXELS] = pixels * rng.uniform(0.7, 1.3, each) + rng.normal(0, 0.08, each)
    for names, share in LEFT_OUT.items():
        is_left_out = rng.random(len(samples)) < share
        for name in names:
            channels[is_left_out, CHANNELS.index(name)] = 0
    scalars = torch.from_numpy(np.stack([sample.scalars for sample in samples]))
    shown = torch.from_numpy(turned(channels)).contiguous(memory_format=torch.channels_last)
    return shown, scalars, torch.from_numpy(turned(truth)), torch.from_numpy(turned(counts))


def _loss(network: FusionNetwork, channels: Tensor, scalars: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    logits, confidence, presence = network(channels, scalars)
    is_present = (truth.flatten(1).sum(1) > 0).float()
    entropy = (F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * counts).flatten(1).mean(1)
    soft = logits.sigmoid() * counts
    shared, both = (soft * truth).flatten(1).sum(1), soft.flatten(1).sum(1) + truth.flatten(1).sum(1)
    dice = 1 - (2 * shared + 5) / (both + 5)
    found, there = ((logits > 0) & (counts > 0)).float(), (truth > 0.5).float()
    union = torch.maximum(found, there).flatten(1).sum(1).clamp(min=1)
    iou = (found * there).flatten(1).sum(1) / union
    error = F.binary_cross_entropy_with_logits(confidence, iou, reduction="none") * is_present
    total: Tensor = (
        (2 * entropy + dice * is_present).mean()
        + 0.5 * error.mean()
        + 0.3 * F.binary_cross_entropy_with_logits(presence, is_present)
    )
    return total
