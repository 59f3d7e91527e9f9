"""From prompts to candidates, for the networks with SAM 2's prompt encoder and mask decoder: SAM 2.1 and SAM 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.core.predictor import Decoded
from napari_sam.core.prompts import TilePrompts
from napari_sam.models.prompt_tokens import prompt_tokens

NOT_A_POINT = -1
# A mask is stable where logits this far around the threshold hardly change its area (Ravi et al. 2024, appendix).
STABILITY_MARGIN = 0.05
MIN_STABILITY = 0.98
# Logits of earlier answers are clamped to this, as in the reference.
MAX_LOGIT = 32.0


class PromptDecoder:
    """Decode the prompts of one object on an encoded tile, in float32.

    Parameters
    ----------
    network
        `Sam2Model` or `Sam3TrackerModel` of transformers.
    side
        Side of the tile, in pixels; masks are answered at a quarter of it.
    """

    def __init__(self, network: Any, side: int) -> None:
        # The library selects one mask for clear prompts and discards the others. `chosen` selects here.
        network.mask_decoder._dynamic_multimask_via_stability = lambda masks, scores: (masks, scores)
        self._prompt_encoder, self._mask_decoder = network.prompt_encoder, network.mask_decoder
        self._position: Tensor = network.get_image_wide_positional_embeddings()
        self._grid = tuple(network.prompt_encoder.mask_input_size)
        self._side = side

    def __call__(self, features: Sequence[Tensor], prompts: TilePrompts) -> Decoded:
        """Decode on the features (1, channels, rows, cols) of a tile, from coarse to fine."""
        coarse, *fine = features
        answers, scores = self._answers(coarse, fine[::-1], prompts)
        lone_point = prompts.box is None and prompts.mask_logits is None and len(prompts.points) == 1
        which = torch.arange(1, 4, device=scores.device) if lone_point else chosen(answers, scores)
        logits = resized(answers[which], (self._side // 4, self._side // 4))
        return Decoded(logits.cpu().numpy(), scores[which].clamp(0, 1).cpu().numpy())

    def _answers(self, coarse: Tensor, fine: list[Tensor], prompts: TilePrompts) -> tuple[Tensor, Tensor]:
        """Return logits (4, rows, cols) and IoU predictions (4,): for clear prompts, then three for a lone point."""
        # The library adds a padding token to points without a box. A mask alone gets two, as in training.
        coords, types = prompt_tokens(prompts, box_first=True, padding=None if len(prompts.points) else NOT_A_POINT)
        masks = None
        if prompts.mask_logits is not None:
            logits = torch.from_numpy(np.ascontiguousarray(prompts.mask_logits)).to(coarse.device)
            masks = resized(logits[None], self._grid)[None].clamp(-MAX_LOGIT, MAX_LOGIT)
        sparse, dense = self._prompt_encoder(
            input_points=torch.from_numpy(coords)[None, None].to(coarse.device),
            input_labels=torch.from_numpy(types)[None, None].to(coarse.device),
            input_boxes=None,
            input_masks=masks,
        )
        answers, scores, *_ = self._mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=self._position,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            high_resolution_features=fine,
        )
        return answers[0, 0], scores[0, 0]


class NoPositions(nn.Module):
    """Replaces the position encoding of a neck, which is slow and not used here."""

    def forward(self, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor:
        return torch.zeros(1, 1, 1, 1, device=device, dtype=dtype)


def chosen(answers: Tensor, scores: Tensor) -> Tensor:
    """Choose three of the four answers to clear prompts, the best first.

    That is the mask for clear prompts, unless it is unstable (Ravi et al. 2024, appendix); then the best of the three
    for a lone point. The next best of these follow.

    Parameters
    ----------
    answers
        Shape (4, rows, cols), logits.
    scores
        Shape (4,), IoU predictions.
    """
    ordered = 1 + scores[1:].argsort(descending=True, stable=True)
    sure, perhaps = ((answers[0] > margin).sum() for margin in (STABILITY_MARGIN, -STABILITY_MARGIN))
    stable = bool(sure >= MIN_STABILITY * perhaps)
    return torch.cat([torch.zeros_like(ordered[:1]), ordered[:2]]) if stable else ordered


def resized(logits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return logits (n, rows, cols) as (n, *shape)."""
    if tuple(logits.shape[-2:]) == tuple(shape):
        return logits
    return F.interpolate(logits[None], size=tuple(shape), mode="bilinear", align_corners=False)[0]
