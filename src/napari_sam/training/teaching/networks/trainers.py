"""Trainers for teaching: what nobody labelled is not background, and a slow image encoder runs once for each crop."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam.models.compact import Compact
from napari_sam.models.compact.image_encoder import ImageEncoder
from napari_sam.models.sam import Sam
from napari_sam.training.losses import dense_loss
from napari_sam.training.prompts import PromptBatch
from napari_sam.training.teaching.networks.adapters import adapt
from napari_sam.training.teaching.regions import UNKNOWN
from napari_sam.training.trainers import CompactTrainer, SamTrainer, Trainer, dense_labels

# As in `configs/finetune.toml`: the pretrained trunk learns slowly, and its first stages and normalizations do not.
TRUNK_RATE, FROZEN_STAGES = 0.25, 2


class TaughtCompact(CompactTrainer):
    """Train the compact network where only some objects are labelled.

    Where nothing is known, the dense guesses should stay what the base model guesses there: neither background, which
    would unlearn the objects that were not accepted, nor free, which would make everything foreground.

    Parameters
    ----------
    network
        The network to train; a copy of its image encoder guesses as before.
    """

    def __init__(self, network: Compact) -> None:
        super().__init__(network, trunk_rate=TRUNK_RATE, frozen_stages=FROZEN_STAGES, frozen_norms=True)
        encoder = network.image_encoder
        self._base: ImageEncoder | None = None
        if isinstance(encoder, ImageEncoder):
            self._base = copy.deepcopy(encoder).eval().requires_grad_(False)

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode images into features for `decode`, and behind them the guesses of the base model for `dense`."""
        features = super().encode(pixels)
        if self._base is None:
            return features
        with torch.no_grad():
            _, _, f4, _, centers = self._base.to(pixels.device)(self.normalized(pixels))
            return *features, self._base.dense_head(f4), centers

    def decode(self, features: tuple[Tensor, ...], each: int, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Decode `each` objects of every image; see `CompactTrainer.decode`."""
        return super().decode(features[:5], each, prompts)

    def dense(
        self, features: tuple[Tensor, ...], objects: NDArray[np.int32], rng: np.random.Generator
    ) -> Tensor | None:
        """Return the auxiliary loss against labels of shape (n, side, side), in which -1 is unknown."""
        if self._base is None:
            return super().dense(features, objects, rng)
        targets, labels = dense_labels(features[2], objects)
        is_known = (labels != UNKNOWN)[:, None].float()
        seen, centers = self.head(features[2]), features[4]
        guessed = torch.cat([features[5].sigmoid(), features[6]], 1)
        loss = dense_loss(seen, centers, targets, is_known) + dense_loss(seen, centers, guessed, 1 - is_known)
        return loss + 0.5 * self.alike(features, labels, rng)


class TaughtSam(SamTrainer):
    """Train the prompt encoder and the mask decoder of a SAM, and adapters of its image encoder if there are any.

    Without adapters the image encoder sees each crop only once: encoding takes seconds on a processor, and decoding a
    part of one.

    Parameters
    ----------
    network
        The network to train.
    rank
        Of the adapters; 0 for none.
    """

    def __init__(self, network: Sam, rank: int = 0) -> None:
        super().__init__(network, frozen_encoder=not rank)
        self._encoded: dict[bytes, tuple[Tensor, ...]] = {}
        with_trained_parts(network, network.image_encoder, rank)

    @property
    def sees_crops_once(self) -> bool:
        """Whether crops are encoded once, so that few different ones take less time."""
        return self._frozen

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode images; without adapters only those that were not seen before, one by one."""
        if not self._frozen:
            return self.encode_now(pixels)
        rows = []
        for image in pixels:
            key = hashlib.blake2b(image.cpu().numpy().tobytes(), digest_size=16).digest()
            if key not in self._encoded:
                self._encoded[key] = tuple(one.detach().half() for one in self.encode_now(image[None]))
            rows.append(self._encoded[key])
        return tuple(torch.cat(one).float() for one in zip(*rows, strict=True))

    def encode_now(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode images of shape (n, 3, side, side), uint8, into features for `decode`."""
        return super().encode(pixels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters; see `CompactTrainer.parameter_groups`."""
        every = [parameter for part in self.learning_parts() for parameter in part.parameters()]
        return [{"params": [parameter for parameter in every if parameter.requires_grad], "rate": 1.0}]

    def learning_parts(self) -> list[nn.Module]:
        """Return the parts whose parameters learn, as far as they need a gradient."""
        return [self.network.prompt_encoder, self.network.mask_decoder, self.network.image_encoder]


def with_trained_parts(network: nn.Module, encoder: nn.Module, rank: int) -> None:
    """Let all of a network learn but its image encoder, which gets adapters of a rank, or none for 0."""
    network.requires_grad_(True)
    encoder.requires_grad_(False)
    if rank:
        adapt(encoder, rank)


def trained_parameters(trainer: Trainer) -> Sequence[nn.Parameter]:
    """Return the parameters that teaching changes."""
    return [parameter for group in trainer.parameter_groups() for parameter in group["params"]]
