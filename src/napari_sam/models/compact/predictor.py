"""The compact network behind the Predictor protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam.core.predictor import Decoded, Embedding
from napari_sam.core.prompts import TilePrompts
from napari_sam.models.base import pack, round_to_half, unpack
from napari_sam.models.compact.network import Compact
from napari_sam.models.compact.prompt_encoder import BOTTOM_RIGHT, NEGATIVE, NOT_A_POINT, POSITIVE, TOP_LEFT
from napari_sam.models.compact.recorded import Recorded
from napari_sam.models.device import Batches, precision_for, precision_name

PIXEL_MEAN, PIXEL_STD = 0.45, 0.25
# Channels and strides of what the image encoder is asked for.
FEATURES = ((128, 16), (64, 8), (32, 4))
# Memory that one tile takes on its way through the image encoder.
TILE_BYTES = 32 * 2**20


class CompactPredictor:
    """Encode and decode with a trained `Compact`, in float32.

    Parameters
    ----------
    state
        The network's state dict; half precision is widened.
    name
        What the user calls the model.
    digest
        Hash of the weights.
    device
        Where to run.
    precision
        Of the image encoder, see `precision_for`. Left to itself it is float32, so that the answers to one image do not
        depend on the processor; with bfloat16 a tile takes about half as long where the processor has it.
    """

    input_side = 256
    object_fraction = 1 / 3
    object_range = (0.1, 0.75)
    probe_levels = 2

    def __init__(
        self, state: dict[str, Tensor], *, name: str, digest: str, device: torch.device, precision: str = "auto"
    ) -> None:
        network = Compact()
        network.load_state_dict({key: value.float() for key, value in state.items()})
        network.eval().requires_grad_(False)
        network.fold_batch_norms()
        self.name = name
        self._device = device
        self._dtype = torch.float32 if precision == "auto" else precision_for(device, precision)
        self.digest = f"{digest}/{precision_name(self._dtype, precision)}"
        self._batches = Batches(device, TILE_BYTES)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network.to(device)
        self._decoder = Recorded(_Decoder(self._network).eval())

    @torch.inference_mode()
    def encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        """Encode tiles of shape (n, 256, 256, 3), uint8 RGB; see `Predictor`."""
        return self._batches.run(range(len(tiles)), lambda part: self._encode(tiles[part[0] : part[-1] + 1]))

    @property
    def batch(self) -> int:
        """How many tiles are best encoded in one call; see `Predictor`."""
        return self._batches.size

    def _encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        images = torch.from_numpy(tiles).to(self._device).permute(0, 3, 1, 2)
        images = ((images.float() / 255 - PIXEL_MEAN) / PIXEL_STD).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            features = self._network.image_encoder.features(images)
        halves = [round_to_half(feature.float()) for feature in features]
        return [self._embedding([half[i : i + 1] for half in halves]) for i in range(len(tiles))]

    def _embedding(self, features: Sequence[Tensor]) -> Embedding:
        last = [feature.contiguous(memory_format=torch.channels_last) for feature in features]
        return Embedding((*last, *self._network.image_encoder.guesses(last[-1])))

    def pack(self, embedding: Embedding) -> NDArray[np.float16]:
        """Return the features; what each pixel thinks of its object follows from the finest; see `Predictor`."""
        return pack(embedding.tensors[:3])

    @torch.inference_mode()
    def unpack(self, values: NDArray[np.float16]) -> Embedding:
        """Return the embedding of packed values; see `Predictor`."""
        shapes = [(1, channels, self.input_side // stride, self.input_side // stride) for channels, stride in FEATURES]
        return self._embedding(unpack(values, shapes, self._device))

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: TilePrompts) -> Decoded:
        """Decode the prompts of one object; see `Predictor`."""
        coords, types = _tokens(prompts)
        count = self.input_side // 4
        logits = np.zeros((count, count), np.float32) if prompts.mask_logits is None else prompts.mask_logits
        masks, iou_prediction = self._decoder(
            *embedding.tensors,
            torch.from_numpy(coords)[None].to(self._device),
            torch.from_numpy(types)[None].to(self._device),
            torch.from_numpy(np.ascontiguousarray(logits))[None].to(self._device),
        )
        return Decoded(masks[0].cpu().numpy(), iou_prediction[0].clamp(0, 1).cpu().numpy())


class _Decoder(nn.Module):
    """From an embedding and prompts to masks, as one module."""

    def __init__(self, network: Compact) -> None:
        super().__init__()
        self._prompt_encoder, self._mask_decoder = network.prompt_encoder, network.mask_decoder

    def forward(
        self,
        f16: Tensor,
        f8: Tensor,
        f4: Tensor,
        pixels: Tensor,
        centers: Tensor,
        coords: Tensor,
        types: Tensor,
        mask_logits: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return logits and predicted IoU of three masks."""
        encoded = self._prompt_encoder(pixels, centers, coords, types, mask_logits)
        masks, iou_prediction = self._mask_decoder(f16, f8, f4, encoded)
        return masks, iou_prediction


def _tokens(prompts: TilePrompts) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return (x, y) coordinates and types: the box's corners, or a token that says there is none, then the points."""
    box = prompts.box
    corners = [(box.left, box.top), (box.right, box.bottom)] if box else [(0.0, 0.0)]
    kinds = [TOP_LEFT, BOTTOM_RIGHT] if box else [NOT_A_POINT]
    coords = np.concatenate([np.array(corners, np.float32), prompts.points[:, ::-1]]).astype(np.float32)
    types = np.concatenate([np.array(kinds), np.where(prompts.labels, POSITIVE, NEGATIVE)]).astype(np.int64)
    return coords, types
