"""SAM behind the Predictor protocol."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.predictor import Decoded, Embedding, PointAnswer
from napari_sam.core.prompts import TilePrompts
from napari_sam.models.base import TilePredictor, split_tiles, strided_shapes
from napari_sam.models.empty_networks import without_values
from napari_sam.models.nested_checkpoints import State
from napari_sam.models.prompt_tokens import prompt_tokens
from napari_sam.models.sam.decoders.point_decoder import PointDecoder, PointSide
from napari_sam.models.sam.decoders.tile_decoder import ImageSide, TileDecoder
from napari_sam.models.sam.hq import MaskDecoderHQ
from napari_sam.models.sam.image_encoder import ImageEncoderViT
from napari_sam.models.sam.network import HQ, SIZES, build
from napari_sam.models.sam.prompt_encoder import NOT_A_POINT
from napari_sam.models.sam.tiny_vit import TinyViT

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
# Channels and strides of an embedding's tensors: SAM's own, and the one that SAM-HQ adds.
FEATURES, HQ_FEATURES = ((256, 16),), ((256, 16), (32, 4))
# Memory that an image encoder of ViT-B's width needs for one tile; wider ones need more in proportion.
TILE_BYTES, TILE_WIDTH = 400 * 2**20, 768
# Tiles whose share of the decoding is cached: that of the current object, its neighbors and its other levels.
SIDES_KEPT = 4


class SamPredictor(TilePredictor):
    """Encode and decode with a SAM, MobileSAM or SAM-HQ of one of the official sizes.

    Parameters
    ----------
    state
        State dict with the official keys.
    family
        Which of `build`'s networks it is.
    name, digest, device, precision
        See `TilePredictor`. "bfloat16" applies to the mask decoder as well; "auto" leaves that in float32.
    """

    def __init__(
        self, state: State, family: str, *, name: str, digest: str, device: torch.device, precision: str = "auto"
    ) -> None:
        super().__init__(name=name, digest=digest, device=device, precision=precision)
        with without_values():
            network = build(family)
        network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
        network.eval().requires_grad_(False)
        self._encoder = self._ready(network.image_encoder)
        self._through_encoder: Callable[[Tensor], tuple[Tensor, Tensor]] = self._encoder.forward_with_early
        self._prompt_encoder = network.prompt_encoder.to(device)
        decoder = network.mask_decoder.to(device)
        self._mask_decoder = decoder
        self._hq = copy.deepcopy(decoder) if isinstance(decoder, MaskDecoderHQ) else None
        self._decoder = TileDecoder(
            decoder,
            self._prompt_encoder.dense_position(),
            self._prompt_encoder.no_mask_embed.weight,
            torch.bfloat16 if precision == "bfloat16" else torch.float32,
        )
        self._sides: tuple[tuple[Embedding, ImageSide], ...] = ()
        self._last_points: tuple[Embedding, PointSide] | None = None
        size = SIZES.get(family.removeprefix(HQ))
        self.tile_bytes = TILE_BYTES * (size.width if size else TILE_WIDTH) // TILE_WIDTH

    def _ready(self, encoder: ImageEncoderViT | TinyViT) -> ImageEncoderViT | TinyViT:
        mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
        self._mean, self._std = (x.to(self._device)[:, None, None] for x in (mean, std))
        self._folded = isinstance(encoder, ImageEncoderViT)
        if isinstance(encoder, ImageEncoderViT):
            encoder.patch_embed.fold(mean, std)
            encoder.to(self._dtype)
        return encoder.to(self._device)

    def compile(self, backend: str = "inductor") -> None:
        """Let torch compile the image encoder: minutes at the first tile of each batch size, faster after that."""
        self._through_encoder = torch.compile(self._encoder.forward_with_early, backend=backend)

    def _encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        embeddings, early = (x.float() for x in self._through(tiles))
        encoded: list[Embedding] = []
        for index in range(len(tiles)):
            parts = [embeddings[index : index + 1]]
            if self._hq is not None:
                parts.append(self._hq.hq_features(parts[0], early[index : index + 1]))
            encoded += map(Embedding, split_tiles(parts, 1))
        return encoded

    def _through(self, tiles: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Run the image encoder; on gray tiles with one channel where it can."""
        is_gray = self._folded and np.array_equal(tiles[..., 0], tiles[..., 1])
        is_gray = is_gray and np.array_equal(tiles[..., 0], tiles[..., 2])
        pixels = torch.from_numpy(np.ascontiguousarray(tiles[..., :1] if is_gray else tiles))
        if self._device.type == "cuda":
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        images = pixels.to(self._device).permute(0, 3, 1, 2)
        if self._folded:  # bfloat16 holds the pixels' 256 values exactly.
            return self._through_encoder(images.to(self._dtype))
        with self._autocast():
            return self._through_encoder((images.float() - self._mean) / self._std)

    def _shapes(self) -> list[tuple[int, ...]]:
        return strided_shapes(FEATURES if self._hq is None else HQ_FEATURES, self.input_side)

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: TilePrompts) -> Decoded:
        """Decode the prompts of one object; see `Predictor`.

        A lone point is ambiguous and gets the three masks that were trained for that. Other prompts are clear: the
        mask for these comes with the two of the three that the model thinks most of. SAM-HQ sharpens the mask for a
        clear prompt, and of three the one that the model thinks most of.
        """
        coords, types = prompt_tokens(prompts, box_first=False, padding=NOT_A_POINT)
        logits = prompts.mask_logits
        masks = None if logits is None else torch.from_numpy(np.ascontiguousarray(logits))[None, None].to(self._device)
        sparse, dense = self._prompt_encoder(
            torch.from_numpy(coords)[None].to(self._device), torch.from_numpy(types)[None].to(self._device), masks
        )
        side = self._side(embedding)
        answers, scores, hq_logits = self._decoder.decode(side, sparse, None if masks is None else dense)
        order = 1 + scores[1:].argsort(descending=True)
        is_clear = prompts.box is not None or logits is not None or len(prompts.points) > 1
        if hq_logits is not None:
            answers[0 if is_clear else order[0]] += hq_logits
        chosen = torch.cat([order.new_zeros(1), order[:2]]) if is_clear else torch.arange(1, 4)
        return Decoded(answers[chosen].cpu().numpy(), scores[chosen].clamp(0, 1).cpu().numpy())

    @torch.inference_mode()
    def decode_points(
        self, embedding: Embedding, points: NDArray[np.floating[Any]], least_iou: float
    ) -> Iterator[PointAnswer]:
        """Decode lone points; see `PointsPredictor`. SAM-HQ decodes them one by one."""
        prompts = [TilePrompts(point[None].astype(np.float32), np.ones(1, bool)) for point in points]
        if self._hq is not None:
            for index, prompt in enumerate(prompts):
                answer = self.decode(embedding, prompt)
                passes = answer.iou_prediction >= least_iou
                if passes.any():
                    yield PointAnswer(index, answer.logits[passes], answer.iou_prediction[passes])
            return
        if not prompts:
            return
        tokens = [prompt_tokens(prompt, box_first=False, padding=NOT_A_POINT) for prompt in prompts]
        coords, types = (torch.from_numpy(np.stack(part)).to(self._device) for part in zip(*tokens, strict=True))
        sparse, _ = self._prompt_encoder(coords, types, None)
        for index, logits, scores in self._point_decoder.decode(self._point_side(embedding), sparse, least_iou):
            yield PointAnswer(index, logits.cpu().numpy(), scores.cpu().numpy())

    @cached_property
    def _point_decoder(self) -> PointDecoder:
        encoder, decoder = self._prompt_encoder, self._mask_decoder
        if self._decoder.dtype != torch.float32:
            decoder = copy.deepcopy(decoder).float()
        return PointDecoder(decoder, encoder.dense_position(), encoder.no_mask_embed.weight)

    def _point_side(self, embedding: Embedding) -> PointSide:
        """Return a tile's share of the decoding of points, cached for the last tile."""
        known, side = self._last_points or (None, None)
        if side is None or known is not embedding:
            side = self._point_decoder.prepare(embedding.tensors[0])
            self._last_points = embedding, side
        return side

    def _side(self, embedding: Embedding) -> ImageSide:
        """Return a tile's share of the decoding, cached for the tiles that were prompted last."""
        cached = self._sides
        side = next((side for known, side in cached if known is embedding), None)
        if side is None:
            side = self._decoder.prepare(*embedding.tensors)
        others = tuple(pair for pair in cached if pair[0] is not embedding)
        self._sides = ((embedding, side), *others[: SIDES_KEPT - 1])
        return side
