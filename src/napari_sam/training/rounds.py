"""Interactive rounds of training: prompts are simulated, decoded and corrected from round to round."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_sam.training.config import TrainOptions
from napari_sam.training.crops import Crop
from napari_sam.training.losses import mask_losses
from napari_sam.training.prompts import PromptBatch, first_prompts, next_points
from napari_sam.training.trainers import Trainer

# From so many rounds on, the last one brings no new point.
LONG_RUN = 8


def run_rounds(
    trainer: Trainer, features: tuple[Tensor, ...], batch: list[Crop], options: TrainOptions, rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Decode one to `options.rounds` rounds of simulated prompts for every object of a batch.

    Parameters
    ----------
    trainer
        The network.
    features
        Encoded crops of the batch.
    batch
        The crops.
    options
        Numbers of rounds and weights of the losses.
    rng
        Draws the number of rounds and the prompts.

    Returns
    -------
    loss : torch.Tensor
        Mean over the rounds that have a gradient.
    figures : dict
        Mean IoU after the first round (`iou_first`), of its best candidate (`iou_best`) and after the last round.
    """
    device = features[0].device
    masks = np.concatenate([crop.objects[None] == crop.values[:, None, None] for crop in batch])
    truth = F.avg_pool2d(torch.from_numpy(masks).to(device).float()[:, None], 2)[:, 0]
    prompts = _on(first_prompts(masks, options.box_share, rng), device)
    rounds = int(rng.integers(1, options.rounds + 1))
    # Rounds that bring no new point: the mask alone is fed back, as in SAM's training.
    mask_only = {int(rng.integers(1, rounds))} if rounds > 3 else set()
    if rounds >= LONG_RUN:
        mask_only.add(rounds - 1)
    total, figures = torch.zeros((), device=device), {}
    every = torch.arange(len(masks), device=device)
    no_grad = range(1, rounds - max(options.learned_rounds - 1, 1)) if options.learned_rounds else range(0)
    for turn in range(rounds):
        with torch.set_grad_enabled(turn not in no_grad):
            logits, predicted = trainer.decode(features, options.objects, prompts)
        finer = F.interpolate(logits, size=truth.shape[-2:], mode="bilinear")
        losses, iou = mask_losses(finer, truth, focal_weight=options.focal_weight, gamma=options.gamma)
        chosen = predicted.argmax(1)
        if turn == 0:
            total = total + losses.amin(1).mean() + options.every_candidate * losses.mean()
            total = total + options.chosen_candidate * losses[every, chosen].mean()
        elif turn not in no_grad:
            total = total + losses.mean()
        if turn not in no_grad:
            total = total + F.mse_loss(predicted, iou)
        figures["iou_first" if turn == 0 else "iou_last"] = float(iou.gather(1, chosen[:, None]).mean())
        if turn == 0:
            figures["iou_best"] = float(iou.amax(1).mean())
        if turn + 1 < rounds:
            # The next prompt corrects the mask that a user would see: the one with the highest predicted IoU.
            shown = logits.detach()[every, chosen].float()
            is_corrected = turn + 1 not in mask_only
            prompts = _corrected(prompts, shown, masks, rng) if is_corrected else prompts.again(shown)
    return total / (rounds - len(no_grad)), figures


def _corrected(prompts: PromptBatch, shown: Tensor, masks: NDArray[np.bool_], rng: np.random.Generator) -> PromptBatch:
    """Add a point in an error of each answer, whose logits have the shape (n, side / 4, side / 4)."""
    answers = F.interpolate(shown[:, None], scale_factor=2.0, mode="bilinear")[:, 0] > 0
    points, types = next_points(answers.cpu().numpy(), masks[:, ::2, ::2], rng)
    return prompts.followed_by(points * 2, types, shown)


def _on(prompts: PromptBatch, device: torch.device) -> PromptBatch:
    return PromptBatch(prompts.coords.to(device), prompts.types.to(device), prompts.logits.to(device))
