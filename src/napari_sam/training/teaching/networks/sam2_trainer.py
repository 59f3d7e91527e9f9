"""TaughtSam2: SAM 2.1, of which the prompt encoder and the mask decoder learn, and adapters of the image encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from napari_sam.models.compact.prompt_encoder import NOT_A_POINT
from napari_sam.models.nested_checkpoints import State
from napari_sam.models.sam2.configs import SIDE, SIZES, network_of
from napari_sam.models.sam2.decoding import NoPositions
from napari_sam.models.sam2.keys import VIDEO
from napari_sam.models.sam2.loading import filled
from napari_sam.models.sam2.predictor import PIXEL_MEAN, PIXEL_STD
from napari_sam.training.prompts import PromptBatch
from napari_sam.training.teaching.networks.trainers import TaughtSam, with_trained_parts
from napari_sam.training.trainers import repeated


class TaughtSam2(TaughtSam):
    """Train a SAM 2.1 for single images; see `TaughtSam`.

    Parameters
    ----------
    network
        A `Sam2Model` of transformers.
    rank
        Of the adapters; 0 for none.
    side
        Side of the input, in pixels.
    """

    def __init__(self, network: Any, rank: int = 0, side: int = SIDE) -> None:
        network.mask_decoder._dynamic_multimask_via_stability = lambda masks, scores: (masks, scores)
        network.vision_encoder.neck.position_encoding = NoPositions()
        self.network, self.side, self._frozen = network, side, not rank
        self._encoded = {}
        self._position: Tensor = network.get_image_wide_positional_embeddings()
        with_trained_parts(network, network.vision_encoder, rank)

    def train(self) -> None:
        """Leave the network in evaluation: its decoder answers with all masks there, and it has no dropout."""
        self.network.eval()

    def encode_now(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode images of shape (n, 3, side, side), uint8, into features from fine to coarse."""
        mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))
        network: Any = self.network
        with torch.set_grad_enabled(not self._frozen and torch.is_grad_enabled()):
            images = (pixels.float() / 255 - mean) / std
            maps = list(network.get_image_features(images, return_dict=True).fpn_hidden_states)
            maps[-1] = maps[-1] + network.no_memory_embedding
            sizes = network.backbone_feature_sizes
            return tuple(
                one.permute(1, 2, 0).reshape(len(pixels), -1, *size) for one, size in zip(maps, sizes, strict=True)
            )

    def decode(self, features: tuple[Tensor, ...], each: int, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Decode `each` objects of every image; return logits (n, masks, side/4, side/4) and predicted IoUs."""
        *fine, coarse = (repeated(feature, each) for feature in features)
        masks = prompts.logits[:, None] if bool(prompts.logits.any()) else None
        sparse, dense = self.network.prompt_encoder(
            input_points=prompts.coords[:, None],
            input_labels=torch.where(prompts.types == NOT_A_POINT, -1, prompts.types)[:, None],
            input_boxes=None,
            input_masks=masks,
        )
        answers, scores, *_ = self.network.mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=self._position.to(coarse.device).expand(len(coarse), -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            high_resolution_features=fine,
        )
        first = 1 if masks is None else 0
        return answers[:, 0, first:].float(), scores[:, 0, first:].float()

    def learning_parts(self) -> list[nn.Module]:
        """Return the parts whose parameters learn, as far as they need a gradient."""
        network: Any = self.network
        return [network.prompt_encoder, network.mask_decoder, network.vision_encoder]


def sam2_of(weights: State, family: str, source: str) -> Any:
    """Return the network for images of weights with the names of the library; see `for_videos`."""
    images = {key: value for key, value in weights.items() if not VIDEO.match(key)}
    return filled(lambda: network_of(SIZES[family]), {key: value.clone() for key, value in images.items()}, source)
