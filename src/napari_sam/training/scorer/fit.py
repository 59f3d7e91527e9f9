"""Fit a candidate scorer to examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_sam.models.compact.candidate_scorer import CandidateScorer
from napari_sam.training.scorer.examples import Example

BATCH = 64
EPOCHS = 40
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
# IoUs that differ by this much are told apart by the ranking loss.
TEMPERATURE = 0.08
RANKING_SCALE, RANKING_WEIGHT = 3.0, 0.075


def fit_scorer(examples: Sequence[Example], *, seed: int = 0, epochs: int = EPOCHS) -> CandidateScorer:
    """Return a scorer that estimates the IoUs of examples, and above all which mask is the best.

    Each subset counts by the square root of its examples.

    Parameters
    ----------
    examples
        At least one; see `drawn_examples`.
    seed
        Fixes the start weights and the order of the examples.
    epochs
        How often each example is seen, on average.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        scorer = CandidateScorer()
        rows = _padded(examples)
        shifts = [_standardize(part, rows.exists) for part in (rows.described, rows.compared)]
        steps = max(1, epochs * len(examples) // BATCH)
        optimizer = torch.optim.AdamW(scorer.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1)
        scorer.train()
        for _ in range(steps):
            chosen = torch.randint(0, len(examples), (BATCH,))
            loss = _loss(scorer, rows, chosen)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    for layer, (mean, spread) in zip((scorer.described, scorer.compared), shifts, strict=True):
        _take_in(layer, mean, spread)
    return scorer.eval()


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Examples with equally many rows: one for each mask of each tile, and empty ones up to the longest example."""

    described: Tensor
    compared: Tensor
    ious: Tensor
    exists: Tensor
    weights: Tensor


def _padded(examples: Sequence[Example]) -> _Rows:
    longest = max(example.ious.size for example in examples)

    def stacked(parts: Iterable[NDArray[np.floating[Any]]]) -> Tensor:
        flat = [torch.from_numpy(part.astype(np.float32)).flatten(0, 1) for part in parts]
        return torch.stack([F.pad(part, (0, 0) * (part.ndim - 1) + (0, longest - len(part))) for part in flat])

    counts = Counter(example.subset for example in examples)
    weights = torch.tensor([counts[example.subset] ** -0.5 for example in examples])
    return _Rows(
        stacked(example.described for example in examples),
        stacked(example.compared for example in examples),
        stacked(example.ious for example in examples),
        torch.stack([torch.arange(longest) < example.ious.size for example in examples]),
        weights / weights.mean(),
    )


def _standardize(values: Tensor, exists: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and scale features to mean 0 and spread 1 in place; return what was done."""
    known = values[exists]
    mean, spread = known.mean(0), known.std(0, unbiased=False) + 1e-3
    values.sub_(mean).div_(spread)
    return mean, spread


def _loss(scorer: CandidateScorer, rows: _Rows, chosen: Tensor) -> Tensor:
    """Return the error of the estimated IoUs, and the cross-entropy of which mask is the best."""
    exists, ious = rows.exists[chosen], rows.ious[chosen]
    scores = scorer(rows.described[chosen], rows.compared[chosen])
    error = (((scores.sigmoid() - ious) ** 2) * exists).sum(1) / exists.sum(1)
    target = (ious / TEMPERATURE).masked_fill(~exists, -1e9).softmax(1)
    ranking = -(target * (scores * RANKING_SCALE).masked_fill(~exists, -1e9).log_softmax(1)).sum(1)
    total: Tensor = ((error + RANKING_WEIGHT * ranking) * rows.weights[chosen]).mean()
    return total


@torch.no_grad()
def _take_in(layer: torch.nn.Linear, mean: Tensor, spread: Tensor) -> None:
    """Make a layer take features as they are, which learned with standardized ones."""
    layer.weight.div_(spread)
    layer.bias.sub_(layer.weight @ mean)
