"""SAM behind the Predictor protocol."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.prompts import TilePrompts
from napari_sam.models.predictor import Decoded, Embedding, halved, packed, unpacked
from napari_sam.models.sam.network import SIZES, Sam
from napari_sam.models.sam.prompt_encoder import BOTTOM_RIGHT, NEGATIVE, NOT_A_POINT, POSITIVE, TOP_LEFT

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class SamPredictor:
    """Encode and decode with a SAM of one of the official sizes, in float32.

    Parameters
    ----------
    state
        State dict with the official keys.
    size
        Which of `SIZES` it is.
    name
        What the user calls the model.
    digest
        Hash of the weights.
    device
        Where to run.
    """

    input_side = 1024
    object_fraction = 1 / 6
    object_range = (0.03, 0.75)
    probe_reach = 0

    def __init__(self, state: dict[str, Tensor], size: str, *, name: str, digest: str, device: torch.device) -> None:
        with torch.device("meta"):
            network = Sam(SIZES[size])
        network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
        self.name = name
        self.digest = f"{digest}/float32"
        self._device = device
        self._network = network.eval().requires_grad_(False).to(device)
        self._mean, self._std = (torch.tensor(v, device=device)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))
        self._position = self._network.prompt_encoder.dense_position()

    @torch.inference_mode()
    def encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        """Encode tiles of shape (n, 1024, 1024, 3), uint8 RGB; see `Predictor`."""
        images = (torch.from_numpy(tiles).to(self._device).permute(0, 3, 1, 2).float() - self._mean) / self._std
        return [Embedding((halved(self._network.image_encoder(image[None])),)) for image in images]

    def pack(self, embedding: Embedding) -> NDArray[np.float16]:
        """Return the features; see `Predictor`."""
        return packed(embedding.tensors)

    def unpack(self, values: NDArray[np.float16]) -> Embedding:
        """Return the embedding of packed values; see `Predictor`."""
        side = self.input_side // 16
        return Embedding(unpacked(values, [(1, 256, side, side)], self._device))

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: TilePrompts) -> Decoded:
        """Decode the prompts of one object; see `Predictor`.

        A lone point is ambiguous and gets the three masks that were trained for that. Other prompts are clear: the
        mask for these comes with the two of the three that the model thinks most of.
        """
        coords, types = _tokens(prompts)
        logits = prompts.mask_logits
        masks = None if logits is None else torch.from_numpy(np.ascontiguousarray(logits))[None, None].to(self._device)
        sparse, dense = self._network.prompt_encoder(
            torch.from_numpy(coords)[None].to(self._device), torch.from_numpy(types)[None].to(self._device), masks
        )
        answers, scores = self._network.mask_decoder(embedding.tensors[0], self._position, sparse, dense)
        chosen = torch.arange(1, 4)
        if prompts.box is not None or logits is not None or len(prompts.points) > 1:
            chosen = torch.cat([torch.zeros(1, dtype=torch.long), 1 + scores[0, 1:].topk(2).indices.cpu()])
        return Decoded(answers[0, chosen].cpu().numpy(), scores[0, chosen].clamp(0, 1).cpu().numpy())


def _tokens(prompts: TilePrompts) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return (x, y) coordinates and types: the points, then the box's corners or a token that says there is none."""
    box = prompts.box
    corners = [(box.left, box.top), (box.right, box.bottom)] if box else [(0.0, 0.0)]
    kinds = [TOP_LEFT, BOTTOM_RIGHT] if box else [NOT_A_POINT]
    coords = np.concatenate([prompts.points[:, ::-1], np.array(corners, np.float32)]).astype(np.float32)
    types = np.concatenate([np.where(prompts.labels, POSITIVE, NEGATIVE), np.array(kinds)]).astype(np.int64)
    return coords, types
