"""Trainers: encoding, decoding and losses of the compact model and of SAM behind one interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam.errors import ModelError
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.compact import Compact
from napari_sam.models.compact import predictor as compact
from napari_sam.models.compact.prompt_encoder import NOT_A_POINT
from napari_sam.models.safe_load import load_weights
from napari_sam.models.sam import SIZES, TINY, Sam, build
from napari_sam.models.sam import predictor as sam
from napari_sam.training.losses import dense_loss, dense_targets, likeness_loss, sample_cells
from napari_sam.training.prompts import PromptBatch

LIKENESS_CELLS = 24
TRAINABLE = ("compact", *SIZES, TINY)


class DenseHead(nn.Module):
    """Predicts properties of every pixel from the image encoder's features; discarded after training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.seen = nn.Conv2d(channels, 2, 1)
        self.contrast = nn.Parameter(torch.tensor([8.0, -4.0]))

    def forward(self, features: tuple[Tensor, ...], objects: NDArray[np.int32], rng: np.random.Generator) -> Tensor:
        """Return the dense loss of the compact model's features; see `CompactTrainer.dense`."""
        _, _, f4, pixels, centers = features
        stride = objects.shape[-1] // f4.shape[-1]
        cells = np.ascontiguousarray(objects[:, stride // 2 :: stride, stride // 2 :: stride])
        targets = torch.from_numpy(np.stack([dense_targets(one, stride) for one in cells])).to(f4.device)
        drawn = [sample_cells(one, LIKENESS_CELLS, rng) for one in cells]
        where, values = (torch.from_numpy(np.stack(part)).to(f4.device) for part in zip(*drawn, strict=True))
        alike = likeness_loss(pixels, torch.from_numpy(cells).to(f4.device), where, values, self.contrast)
        return dense_loss(self.seen(f4).float(), centers, targets) + 0.5 * alike


class CompactTrainer:
    """Train the compact network, with a head for dense targets that is discarded after training.

    Parameters
    ----------
    network
        The network to train.
    """

    side = compact.CompactPredictor.input_side

    def __init__(self, network: Compact) -> None:
        self.network = network
        self.head = DenseHead(32)

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode images of shape (n, 3, side, side), uint8, into features for `decode`."""
        images = (pixels.float() / 255 - compact.PIXEL_MEAN) / compact.PIXEL_STD
        features: tuple[Tensor, ...] = self.network.image_encoder(images.contiguous(memory_format=torch.channels_last))
        return features

    def decode(self, features: tuple[Tensor, ...], each: int, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Decode `each` objects of every image; return logits (n, masks, side/4, side/4) and predicted IoUs."""
        f16, f8, f4, pixels, centers = (_repeated(feature, each) for feature in features)
        encoded = self.network.prompt_encoder(pixels, centers, prompts.coords, prompts.types, prompts.logits)
        logits, iou_prediction = self.network.mask_decoder(f16, f8, f4, encoded)
        return logits, iou_prediction

    def dense(
        self, features: tuple[Tensor, ...], objects: NDArray[np.int32], rng: np.random.Generator
    ) -> Tensor | None:
        """Return the auxiliary loss against labels of shape (n, side, side), or None for a network without one."""
        loss: Tensor = self.head(features, objects, rng)
        return loss

    def parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters."""
        return [*self.network.parameters(), *self.head.parameters()]


class SamTrainer:
    """Train a SAM.

    Parameters
    ----------
    network
        The network to train.
    frozen_encoder
        Whether only the prompt encoder and the mask decoder are trained, which a laptop can do.
    """

    def __init__(self, network: Sam, *, frozen_encoder: bool) -> None:
        self.network = network
        self.side = network.side
        self._frozen = frozen_encoder

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode images of shape (n, 3, side, side), uint8, into features for `decode`."""
        mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (sam.PIXEL_MEAN, sam.PIXEL_STD))
        with torch.set_grad_enabled(not self._frozen and torch.is_grad_enabled()):
            return (self.network.image_encoder((pixels.float() - mean) / std),)

    def decode(self, features: tuple[Tensor, ...], each: int, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Decode `each` objects of every image; return logits (n, masks, side/4, side/4) and predicted IoUs."""
        types = torch.where(prompts.types == NOT_A_POINT, -1, prompts.types)
        # As in training of SAM: the first round has no mask, the others have the last answer.
        masks = prompts.logits[:, None] if bool(prompts.logits.any()) else None
        sparse, dense = self.network.prompt_encoder(prompts.coords, types, masks)
        position = self.network.prompt_encoder.dense_position()
        logits, scores = self.network.mask_decoder(_repeated(features[0], each), position, sparse, dense)
        if masks is None:
            return logits[:, 1:].float(), scores[:, 1:].float()
        return logits.float(), scores.float()

    def dense(
        self, features: tuple[Tensor, ...], objects: NDArray[np.int32], rng: np.random.Generator
    ) -> Tensor | None:
        """Return None: SAM has no auxiliary loss."""
        return None

    def parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters."""
        parts: list[nn.Module] = [self.network.prompt_encoder, self.network.mask_decoder]
        if not self._frozen:
            parts.append(self.network.image_encoder)
        return [parameter for part in parts for parameter in part.parameters()]


Trainer = CompactTrainer | SamTrainer


def trainer_of(file: Path | None, *, frozen_encoder: bool) -> Trainer:
    """Return a trainer of the weights in a file, or of a new compact model.

    Parameters
    ----------
    file
        Checkpoint; None for random weights.
    frozen_encoder
        See `SamTrainer`.

    Raises
    ------
    ModelError
        The file is damaged, or holds weights of a network that cannot be trained.
    """
    if file is None:
        return CompactTrainer(Compact())
    family, weights = detect_architecture(load_weights(file), file)
    if family not in TRAINABLE:
        raise ModelError(
            f"{file} holds {family} weights, which cannot be trained here: start from the compact model, from SAM "
            "ViT-B, L or H, or from MobileSAM."
        )
    network: Compact | Sam = Compact() if family == "compact" else build(family)
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    if isinstance(network, Compact):
        return CompactTrainer(network)
    return SamTrainer(network, frozen_encoder=frozen_encoder)


def _repeated(feature: Tensor, each: int) -> Tensor:
    """Return every image's feature `each` times in turn; its gradient is a sum, not a scatter."""
    last = feature.permute(0, 2, 3, 1)  # Convolutions are faster where the channels lie side by side.
    return last[:, None].expand(-1, each, *last.shape[1:]).flatten(0, 1).permute(0, 3, 1, 2)
