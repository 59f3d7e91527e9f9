"""The compact network behind the Predictor protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam.core.predictor import Decoded, DenseGuesses, Embedding
from napari_sam.core.prompts import TilePrompts
from napari_sam.core.tiles import Tile
from napari_sam.models.base import TilePredictor, pack, split_tiles, strided_shapes, unpack
from napari_sam.models.compact.candidate_scorer import comparison_features, dense_features, prompt_features
from napari_sam.models.compact.image_encoder import PIXEL_MEAN, PIXEL_STD
from napari_sam.models.compact.layers import can_fuse
from napari_sam.models.compact.network import Compact
from napari_sam.models.compact.prompt_encoder import NOT_A_POINT
from napari_sam.models.compact.recorded_module import Recorded
from napari_sam.models.nested_checkpoints import State
from napari_sam.models.prompt_tokens import prompt_tokens

# Weight of the decoder's own predicted IoU beside that of the candidate scorer.
DECODERS_SHARE = 1 / 6
# Channels and strides of the image encoder's features.
FEATURES = ((128, 16), (64, 8), (32, 4))
# Windows begin where cells of the coarsest features do.
WINDOW_STEP = 16
# Windows that are decoded in one call: more gain nothing, and take memory.
WINDOWS_AT_ONCE = 32


class CompactPredictor(TilePredictor):
    """Encode and decode with a trained `Compact`, in float32.

    Parameters
    ----------
    state
        The network's state dict; half precision is widened.
    name, digest, device, precision
        See `TilePredictor`. "auto" is float32, so that the answers to one image do not depend on the processor; with
        bfloat16 a tile takes about half as long where the processor has it.
    """

    input_side = 256
    object_fraction = 1 / 3
    object_range = (0.1, 0.75)
    probe_levels = 2
    auto_precision = "float32"
    tile_bytes = 32 * 2**20
    encode_is_slow = False
    sweep_side = 640
    window_side = 128

    def __init__(self, state: State, *, name: str, digest: str, device: torch.device, precision: str = "auto") -> None:
        super().__init__(name=name, digest=digest, device=device, precision=precision)
        network = Compact.matching(state)
        network.load_state_dict({key: value.float() for key, value in state.items()})
        network.eval().requires_grad_(False)
        network.fold_batch_norms()
        if self._device.type == "cpu" and self._dtype == torch.float32 and can_fuse():
            network.image_encoder.fuse_convolutions()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network.to(device)
        self._decoder = Recorded(_Decoder(self._network).eval())
        self.compares_tiles = network.scorer is not None
        self.guesses_foreground = network.dense_head is not None

    def _encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        images = self._normalized(tiles, PIXEL_MEAN, PIXEL_STD).contiguous(memory_format=torch.channels_last)
        with self._autocast():
            features = self._network.image_encoder.features(images)
        return [self._embedding(tile) for tile in split_tiles(features, len(tiles))]

    def _embedding(self, features: Sequence[Tensor]) -> Embedding:
        last = [feature.contiguous(memory_format=torch.channels_last) for feature in features]
        return Embedding((*last, *self._network.image_encoder.guesses(last[-1])))

    def pack(self, embedding: Embedding) -> NDArray[np.float16]:
        """Return the features; each pixel's guess of its object follows from the finest; see `Predictor`."""
        return pack(embedding.tensors[:3])

    @torch.inference_mode()
    def unpack(self, values: NDArray[np.float16]) -> Embedding:
        """Return the embedding of packed values; see `Predictor`."""
        return self._embedding(unpack(values, self._shapes(), self._device))

    def _shapes(self) -> list[tuple[int, ...]]:
        return strided_shapes(FEATURES, self.input_side)

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: TilePrompts) -> Decoded:
        """Decode the prompts of one object; see `Predictor`."""
        coords, types = prompt_tokens(prompts, box_first=True, padding=NOT_A_POINT)
        count = self.input_side // 4
        logits = np.zeros((count, count), np.float32) if prompts.mask_logits is None else prompts.mask_logits
        masks, iou_prediction, features = self._decoder(
            *embedding.tensors,
            torch.from_numpy(coords)[None].to(self._device),
            torch.from_numpy(types)[None].to(self._device),
            torch.from_numpy(np.ascontiguousarray(logits))[None].to(self._device),
        )
        answer = masks[0].cpu().numpy(), iou_prediction[0].clamp(0, 1).cpu().numpy()
        if not self.compares_tiles:
            return Decoded(*answer)
        described = [features[0].cpu().numpy(), prompt_features(answer[0], prompts)]
        return Decoded(*answer, np.concatenate(described, axis=-1))

    def window_origins(self, points: NDArray[np.floating[Any]], side: int) -> NDArray[np.intp]:
        """Return where the window around each point begins; see `WindowPredictor`."""
        first = np.rint((np.asarray(points).reshape(-1, 2) - self.window_side / 2) / WINDOW_STEP) * WINDOW_STEP
        return np.asarray(np.clip(first, 0, side - self.window_side), np.intp)

    @torch.inference_mode()
    def decode_windows(
        self, embedding: Embedding, origins: NDArray[np.intp], prompts: Sequence[TilePrompts]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode the prompts of many objects on windows of one tile; see `WindowPredictor`."""
        count = self.window_side // 4
        logits = np.empty((len(prompts), 3, count, count), np.float32)
        scores = np.empty((len(prompts), 3), np.float32)
        for start in range(0, len(prompts), WINDOWS_AT_ONCE):
            part = slice(start, start + WINDOWS_AT_ONCE)
            f16, f8, f4, *guesses = _windows(embedding.tensors, origins[part], self.window_side)
            encoded = self._network.prompt_encoder(*guesses, *self._tokens(prompts[part], count))
            answer, iou_prediction = self._network.mask_decoder(f16, f8, f4, encoded)
            logits[part], scores[part] = answer.cpu().numpy(), iou_prediction.clamp(0, 1).cpu().numpy()
        return logits, scores

    def _tokens(self, prompts: Sequence[TilePrompts], count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return coordinates, types and earlier logits of several objects, filled up to one number of tokens."""
        tokens = [prompt_tokens(one, box_first=True, padding=NOT_A_POINT) for one in prompts]
        most = max(len(types) for _, types in tokens)
        coords = np.zeros((len(prompts), most, 2), np.float32)
        types = np.full((len(prompts), most), NOT_A_POINT)
        logits = np.zeros((len(prompts), count, count), np.float32)
        for i, ((at, kinds), one) in enumerate(zip(tokens, prompts, strict=True)):
            coords[i, : len(kinds)], types[i, : len(kinds)] = at, kinds
            if one.mask_logits is not None:
                logits[i] = one.mask_logits
        return tuple(torch.from_numpy(values).to(self._device) for values in (coords, types, logits))  # type: ignore[return-value]

    @torch.inference_mode()
    def score(self, answers: Sequence[tuple[Tile, Decoded]]) -> NDArray[np.float32]:
        """Estimate the IoU of the masks of several tiles; see `ScoringPredictor`."""
        assert self._network.scorer is not None
        described = [torch.from_numpy(decoded.features) for _, decoded in answers if decoded.features is not None]
        compared = torch.from_numpy(comparison_features(answers))
        scores = self._network.scorer(torch.stack(described).to(self._device), compared.to(self._device))
        # Masks of a clear object have nearly equal scores; among them the decoder knows which outline is exact.
        decoders = np.stack([decoded.iou_prediction for _, decoded in answers])
        both = (1 - DECODERS_SHARE) * scores.sigmoid().cpu().numpy() + DECODERS_SHARE * decoders
        usual = self._network.usual_size
        return np.asarray(both if usual is None else usual.adjusted(both, answers), np.float32)

    @torch.inference_mode()
    def dense_guesses(self, embedding: Embedding) -> DenseGuesses:
        """Return what every cell guesses of its object; see `DensePredictor`."""
        f4, _, centers = embedding.tensors[-3:]
        radius = centers[0, 2].exp()
        guesses = [centers[0, :2].flip(0) * radius, radius]
        head = self._network.dense_head
        if head is not None:
            guesses += head(f4)[0].float().sigmoid()
        return DenseGuesses(*(guess.cpu().numpy() for guess in guesses))


def _windows(features: Sequence[Tensor], origins: NDArray[np.intp], side: int) -> list[Tensor]:
    """Return windows of a tile's features, of each stride one after the other."""
    tile_side = features[0].shape[-1] * WINDOW_STEP
    windows = []
    for tensor in features:
        stride = tile_side // tensor.shape[-1]
        count, first = side // stride, (origins // stride).tolist()
        windows.append(torch.cat([tensor[..., row : row + count, col : col + count] for row, col in first]))
    return windows


class _Decoder(nn.Module):
    """From an embedding and prompts to masks, as one module."""

    def __init__(self, network: Compact) -> None:
        super().__init__()
        self._prompt_encoder, self._mask_decoder = network.prompt_encoder, network.mask_decoder
        # Only the scorer needs it.
        self._dense_head = None if network.scorer is None else network.dense_head

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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, predicted IoU and features of three masks."""
        encoded = self._prompt_encoder(pixels, centers, coords, types, mask_logits)
        logits, iou_prediction, features = self._mask_decoder.described(f16, f8, f4, encoded)
        if self._dense_head is not None:
            region = self._dense_head(f4).sigmoid()
            features = torch.cat([features, dense_features(logits, region, centers)], -1)
        return logits, iou_prediction, features
