"""SAM 2.1 behind the Predictor and MemoryPredictor protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.following.memory import SeenObject
from napari_sam.core.predictor import Decoded, Embedding
from napari_sam.core.prompts import TilePrompts
from napari_sam.errors import ModelError
from napari_sam.models.base import TilePredictor, split_tiles, strided_shapes
from napari_sam.models.nested_checkpoints import State
from napari_sam.models.sam2.configs import SIDE, SIZES, memory_network, network_of
from napari_sam.models.sam2.decoding import NoPositions, PromptDecoder
from napari_sam.models.sam2.keys import for_images, for_memory, for_videos
from napari_sam.models.sam2.loading import filled
from napari_sam.models.sam2.memory import MemoryNetwork, Sam2Memory

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
# Channels and strides of an embedding's tensors.
FEATURES = ((256, 16), (64, 8), (32, 4))
# Memory that the narrowest image encoder needs for one tile; wider ones need more in proportion.
TILE_BYTES = 500 * 2**20


class Sam2Predictor(TilePredictor):
    """Encode and decode with a SAM 2.1 of one of the official sizes.

    Parameters
    ----------
    state
        State dict with the official keys, or with those of transformers' models for images or videos. Of images alone,
        the predictor has no memory.
    family
        Which of `SIZES` it is.
    name, digest, device, precision
        See `TilePredictor`. Decoding is in float32.

    Raises
    ------
    ModelError
        The transformers library is missing, or weights are missing or of another shape.
    """

    input_side = SIDE

    def __init__(
        self, state: State, family: str, *, name: str, digest: str, device: torch.device, precision: str = "auto"
    ) -> None:
        super().__init__(name=name, digest=digest, device=device, precision=precision)
        state = for_videos(state)
        self._memory_state = for_memory(state)
        self.has_memory = self._memory_state is not None
        self._network: Any = filled(partial(network_of, SIZES[family]), for_images(state), name).to(device)
        self._network.vision_encoder.neck.position_encoding = NoPositions()
        self._decode = PromptDecoder(self._network, self.input_side)
        self.tile_bytes = TILE_BYTES * SIZES[family].width // SIZES["sam2.1_tiny"].width
        self._mean, self._std = (torch.tensor(v, device=device)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))

    def _encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        images = self._normalized(tiles, self._mean, self._std)
        with self._autocast():
            features: Sequence[Tensor] = self._network.get_image_embeddings(images)
        return list(map(Embedding, split_tiles(features[::-1], len(tiles))))

    def _shapes(self) -> list[tuple[int, ...]]:
        return strided_shapes(FEATURES, self.input_side)

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: TilePrompts) -> Decoded:
        """Decode the prompts of one object; see `Predictor`.

        A lone point is ambiguous and gets the three masks that were trained for that. Other prompts are clear: the
        mask for these comes with the two of the three that the model thinks most of.
        """
        return self._decode(embedding.tensors, prompts)

    def memory(
        self, accepted: Mapping[int, Callable[[], SeenObject]], *, planes: int, reverse: bool = False
    ) -> Sam2Memory:
        """Return the memory of one object; see `MemoryPredictor`."""
        return Sam2Memory(self._memory, accepted, planes=planes, reverse=reverse)

    @cached_property
    def _memory(self) -> MemoryNetwork:
        """The network that follows objects, built when it is first asked for."""
        if self._memory_state is None:
            raise ModelError(
                f"{self.name} holds a SAM 2.1 for single images, without the memory that follows objects: use a "
                "checkpoint of the whole model, such as sam2.1_tiny."
            )
        network = filled(memory_network, self._memory_state, self.name).to(self._device)
        return MemoryNetwork(network)
