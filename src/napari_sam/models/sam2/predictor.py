"""SAM 2.1 behind the Predictor protocol."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.predictor import Decoded, Embedding
from napari_sam.core.prompts import TilePrompts
from napari_sam.models.base import pack, round_to_half, unpack
from napari_sam.models.device import Batches, precision_for, precision_name
from napari_sam.models.sam2.configs import SIDE, SIZES, network_of
from napari_sam.models.sam2.decoding import NoPositions, PromptDecoder
from napari_sam.models.sam2.keys import for_images
from napari_sam.models.sam2.loading import filled

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
# Channels and strides of an embedding's tensors.
FEATURES = ((256, 16), (64, 8), (32, 4))
# Memory that one tile takes on its way through the narrowest image encoder; a wider one takes more in proportion.
TILE_BYTES = 500 * 2**20


class Sam2Predictor:
    """Encode and decode with a SAM 2.1 of one of the official sizes.

    Parameters
    ----------
    state
        State dict with the official keys, or with those of transformers' models for images or videos.
    family
        Which of `SIZES` it is.
    name
        What the user calls the model.
    digest
        Hash of the weights.
    device
        Where to run.
    precision
        Of the image encoder, see `precision_for`. Decoding is in float32.

    Raises
    ------
    ModelError
        The transformers library is missing, or weights are missing or of another shape.
    """

    input_side = SIDE
    object_fraction = 1 / 6
    object_range = (0.03, 0.75)
    probe_levels = 0

    def __init__(
        self,
        state: dict[str, Tensor],
        family: str,
        *,
        name: str,
        digest: str,
        device: torch.device,
        precision: str = "auto",
    ) -> None:
        self.name = name
        self._device = device
        self._dtype = precision_for(device, precision)
        self.digest = f"{digest}/{precision_name(self._dtype, precision)}"
        self._network: Any = filled(partial(network_of, SIZES[family]), for_images(state), name).to(device)
        self._network.vision_encoder.neck.position_encoding = NoPositions()
        self._decode = PromptDecoder(self._network, self.input_side)
        self._batches = Batches(device, TILE_BYTES * SIZES[family].width // SIZES["sam2.1_tiny"].width)
        self._mean, self._std = (torch.tensor(v, device=device)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))

    @property
    def batch(self) -> int:
        """How many tiles are best encoded in one call; see `Predictor`."""
        return self._batches.size

    @torch.inference_mode()
    def encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        """Encode tiles of shape (n, 1024, 1024, 3), uint8 RGB; see `Predictor`."""
        return self._batches.run(range(len(tiles)), lambda part: self._encode(tiles[part[0] : part[-1] + 1]))

    def _encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        images = torch.from_numpy(tiles).to(self._device).permute(0, 3, 1, 2)
        images = (images.float() / 255 - self._mean) / self._std
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            features: Sequence[Tensor] = self._network.get_image_embeddings(images)
        return [
            Embedding(tuple(round_to_half(part[i : i + 1].float()) for part in features[::-1]))
            for i in range(len(tiles))
        ]

    def pack(self, embedding: Embedding) -> NDArray[np.float16]:
        """Return the features; see `Predictor`."""
        return pack(embedding.tensors)

    def unpack(self, values: NDArray[np.float16]) -> Embedding:
        """Return the embedding of packed values; see `Predictor`."""
        shapes = [(1, channels, self.input_side // stride, self.input_side // stride) for channels, stride in FEATURES]
        return Embedding(unpack(values, shapes, self._device))

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: TilePrompts) -> Decoded:
        """Decode the prompts of one object; see `Predictor`.

        A lone point is ambiguous and gets the three masks that were trained for that. Other prompts are clear: the
        mask for these comes with the two of the three that the model thinks most of.
        """
        return self._decode(embedding.tensors, prompts)
