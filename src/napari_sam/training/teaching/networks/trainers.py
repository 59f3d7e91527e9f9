"""Trainers for teaching: what nobody labelled is not background, and a slow image encoder runs once for each crop."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam.errors import ModelError
from napari_sam.models.compact import Compact
from napari_sam.models.compact.image_encoder import ImageEncoder
from napari_sam.models.nested_checkpoints import State
from napari_sam.models.sam import Sam, build
from napari_sam.training.losses import dense_loss
from napari_sam.training.prompts import PromptBatch
from napari_sam.training.teaching.regions import UNKNOWN
from napari_sam.training.trainers import TRAINABLE, CompactTrainer, SamTrainer, Trainer, dense_labels

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
    """Train the prompt encoder and the mask decoder of a SAM, whose image encoder sees each crop only once.

    Encoding takes seconds on a processor, and decoding a part of one.

    Parameters
    ----------
    network
        The network to train.
    """

    def __init__(self, network: Sam) -> None:
        super().__init__(network, frozen_encoder=True)
        self._encoded: dict[bytes, Tensor] = {}

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode images that were not seen before, one by one, and return what is known of the others."""
        rows = []
        for image in pixels:
            key = hashlib.blake2b(image.cpu().numpy().tobytes(), digest_size=16).digest()
            if key not in self._encoded:
                self._encoded[key] = super().encode(image[None])[0].detach().half()
            rows.append(self._encoded[key])
        return (torch.cat(rows).float(),)


def trainer_of_weights(state: State, family: str, source: str) -> Trainer:
    """Return the trainer of a model that can be taught.

    Raises
    ------
    ModelError
        Its network cannot be trained here.
    """
    check_teachable(family, source)
    weights = {key: value.float() for key, value in state.items()}
    if family == "compact":
        compact = Compact.matching(weights)
        compact.load_state_dict(weights)
        return TaughtCompact(compact)
    network = build(family)
    network.load_state_dict(weights)
    return TaughtSam(network)


def check_teachable(family: str, source: str) -> None:
    """Refuse a network that cannot be trained here; raises ModelError."""
    if family not in TRAINABLE:
        raise ModelError(
            f"{source} is a model of {family}, which cannot be taught: choose compact, MobileSAM, or SAM ViT-B, L or H."
        )


def trained_parameters(trainer: Trainer) -> Sequence[nn.Parameter]:
    """Return the parameters that teaching changes."""
    return [parameter for group in trainer.parameter_groups() for parameter in group["params"]]
