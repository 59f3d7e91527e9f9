"""What training needs of a network, in the same words for the compact model and for SAM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sam.models.compact import Compact
from napari_sam.models.compact import predictor as compact
from napari_sam.models.compact.prompt_encoder import NOT_A_POINT
from napari_sam.models.sam import Sam
from napari_sam.models.sam import predictor as sam
from napari_sam.training.simulate import PromptBatch


class CompactGame:
    """The compact network, with a head for dense targets that is thrown away after training.

    Parameters
    ----------
    network
        What is trained.
    """

    side = compact.CompactPredictor.input_side

    def __init__(self, network: Compact) -> None:
        self.network = network
        self.head = nn.Conv2d(32, 4, 1)

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode images of shape (n, 3, side, side), uint8, into features for `decode`."""
        images = (pixels.float() / 255 - compact.PIXEL_MEAN) / compact.PIXEL_STD
        features: tuple[Tensor, ...] = self.network.image_encoder(images.contiguous(memory_format=torch.channels_last))
        return features

    def decode(self, features: tuple[Tensor, ...], owner: Tensor, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Decode objects, `owner` (n,) being their images; return logits (n, masks, side/4, side/4) and IoUs."""
        f16, f8, f4, pixels = (feature[owner] for feature in features)
        encoded = self.network.prompt_encoder(pixels, prompts.coords, prompts.types, prompts.logits)
        logits, iou_prediction = self.network.mask_decoder(f16, f8, f4, encoded)
        return logits, iou_prediction

    def dense(self, features: tuple[Tensor, ...]) -> Tensor | None:
        """Return dense predictions (n, 4, side/4, side/4) for the auxiliary loss, or None."""
        predicted: Tensor = self.head(features[2])
        return predicted.float()

    def parameters(self) -> list[nn.Parameter]:
        """Return what learns."""
        return [*self.network.parameters(), *self.head.parameters()]


class SamGame:
    """A SAM.

    Parameters
    ----------
    network
        What is trained.
    frozen_encoder
        Let only the prompt encoder and the mask decoder learn, which a laptop can do.
    """

    def __init__(self, network: Sam, *, frozen_encoder: bool) -> None:
        self.network = network
        self.side = network.image_encoder.side
        self._frozen = frozen_encoder

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode images of shape (n, 3, side, side), uint8, into features for `decode`."""
        mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (sam.PIXEL_MEAN, sam.PIXEL_STD))
        with torch.set_grad_enabled(not self._frozen and torch.is_grad_enabled()):
            return (self.network.image_encoder((pixels.float() - mean) / std),)

    def decode(self, features: tuple[Tensor, ...], owner: Tensor, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Decode objects, `owner` (n,) being their images; return logits (n, masks, side/4, side/4) and IoUs."""
        types = torch.where(prompts.types == NOT_A_POINT, -1, prompts.types)
        # As in training of SAM: the first round has no mask, the others have the last answer.
        masks = prompts.logits[:, None] if bool(prompts.logits.any()) else None
        sparse, dense = self.network.prompt_encoder(prompts.coords, types, masks)
        position = self.network.prompt_encoder.dense_position()
        logits, scores = self.network.mask_decoder(features[0][owner], position, sparse, dense)
        if masks is None:
            return logits[:, 1:].float(), scores[:, 1:].float()
        return logits.float(), scores.float()

    def dense(self, features: tuple[Tensor, ...]) -> Tensor | None:
        """Return dense predictions (n, 4, side/4, side/4) for the auxiliary loss, or None."""
        return None

    def parameters(self) -> list[nn.Parameter]:
        """Return what learns."""
        parts: list[nn.Module] = [self.network.prompt_encoder, self.network.mask_decoder]
        if not self._frozen:
            parts.append(self.network.image_encoder)
        return [parameter for part in parts for parameter in part.parameters()]


Game = CompactGame | SamGame
