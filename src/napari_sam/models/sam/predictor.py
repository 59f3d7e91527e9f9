"""SAM behind the Predictor protocol."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.predictor import Decoded, Embedding
from napari_sam.core.prompts import TilePrompts
from napari_sam.models.base import pack, round_to_half, unpack
from napari_sam.models.device import Batches, precision_for, precision_name
from napari_sam.models.sam.hq import MaskDecoderHQ
from napari_sam.models.sam.image_encoder import ImageEncoderViT
from napari_sam.models.sam.network import HQ, SIZES, build
from napari_sam.models.sam.prompt_encoder import BOTTOM_RIGHT, NEGATIVE, NOT_A_POINT, POSITIVE, TOP_LEFT
from napari_sam.models.sam.tile_decoder import ImageSide, TileDecoder
from napari_sam.models.sam.tiny_vit import TinyViT

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


# Memory that one tile takes on its way through an image encoder of ViT-B's width, and the widest one's share of it.
TILE_BYTES = 400 * 2**20
# Tiles whose share of the decoding is kept; a user works on one, its neighbours and its other levels.
SIDES_KEPT = 4


class SamPredictor:
    """Encode and decode with a SAM, MobileSAM or SAM-HQ of one of the official sizes.

    Parameters
    ----------
    state
        State dict with the official keys.
    family
        Which of `build`'s networks it is.
    name
        What the user calls the model.
    digest
        Hash of the weights.
    device
        Where to run.
    precision
        Of the image encoder, see `precision_for`; asked for by name, bfloat16 is the mask decoder's as well.
    """

    input_side = 1024
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
        with torch.device("meta"):
            network = build(family)
        network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
        self.name = name
        self._device = device
        self._dtype = precision_for(device, precision)
        self.digest = f"{digest}/{precision_name(self._dtype, precision)}"
        network.eval().requires_grad_(False)
        self._encoder = self._ready(network.image_encoder)
        self._through_encoder: Callable[[Tensor], tuple[Tensor, Tensor]] = self._encoder.forward_with_early
        self._prompt_encoder = network.prompt_encoder.to(device)
        decoder = network.mask_decoder.to(device)
        self._hq = copy.deepcopy(decoder) if isinstance(decoder, MaskDecoderHQ) else None
        self._decoder = TileDecoder(
            decoder,
            self._prompt_encoder.dense_position(),
            self._prompt_encoder.no_mask_embed.weight,
            torch.bfloat16 if precision == "bfloat16" else torch.float32,
        )
        self._sides: tuple[tuple[Embedding, ImageSide], ...] = ()
        size = SIZES.get(family.removeprefix(HQ))
        self._batches = Batches(device, TILE_BYTES * (size.width if size else 768) // 768)

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

    @property
    def batch(self) -> int:
        """How many tiles are best encoded in one call; see `Predictor`."""
        return self._batches.size

    @torch.inference_mode()
    def encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        """Encode tiles of shape (n, 1024, 1024, 3), uint8 RGB; see `Predictor`."""
        return self._batches.run(range(len(tiles)), lambda part: self._encode(tiles[part[0] : part[-1] + 1]))

    def _encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        embeddings, early = (x.float() for x in self._through(tiles))
        kept = []
        for index in range(len(tiles)):
            parts = [embeddings[index : index + 1]]
            if self._hq is not None:
                parts.append(self._hq.hq_features(parts[0], early[index : index + 1]))
            kept.append(Embedding(tuple(round_to_half(part) for part in parts)))
        return kept

    def _through(self, tiles: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Take tiles through the image encoder; grey ones as the one channel that they are where it can."""
        is_grey = self._folded and np.array_equal(tiles[..., 0], tiles[..., 1])
        is_grey = is_grey and np.array_equal(tiles[..., 0], tiles[..., 2])
        pixels = torch.from_numpy(np.ascontiguousarray(tiles[..., :1] if is_grey else tiles))
        if self._device.type == "cuda":
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        images = pixels.to(self._device).permute(0, 3, 1, 2)
        if self._folded:  # bfloat16 holds the pixels' 256 values exactly.
            return self._through_encoder(images.to(self._dtype))
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            return self._through_encoder((images.float() - self._mean) / self._std)

    def pack(self, embedding: Embedding) -> NDArray[np.float16]:
        """Return the features; see `Predictor`."""
        return pack(embedding.tensors)

    def unpack(self, values: NDArray[np.float16]) -> Embedding:
        """Return the embedding of packed values; see `Predictor`."""
        side = self.input_side // 16
        shapes = [(1, 256, side, side), (1, 32, 4 * side, 4 * side)]
        return Embedding(unpack(values, shapes if self._hq is not None else shapes[:1], self._device))

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: TilePrompts) -> Decoded:
        """Decode the prompts of one object; see `Predictor`.

        A lone point is ambiguous and gets the three masks that were trained for that. Other prompts are clear: the
        mask for these comes with the two of the three that the model thinks most of. SAM-HQ sharpens the mask for a
        clear prompt, and of three the one that the model thinks most of.
        """
        coords, types = _tokens(prompts)
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

    def _side(self, embedding: Embedding) -> ImageSide:
        """Return a tile's share of the decoding, kept for the tiles that were prompted last."""
        kept = self._sides
        side = next((side for one, side in kept if one is embedding), None)
        if side is None:
            side = self._decoder.prepare(*embedding.tensors)
        others = tuple(pair for pair in kept if pair[0] is not embedding)
        self._sides = ((embedding, side), *others[: SIDES_KEPT - 1])
        return side


def _tokens(prompts: TilePrompts) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return (x, y) coordinates and types: the points, then the box's corners or a token that says there is none."""
    box = prompts.box
    corners = [(box.left, box.top), (box.right, box.bottom)] if box else [(0.0, 0.0)]
    kinds = [TOP_LEFT, BOTTOM_RIGHT] if box else [NOT_A_POINT]
    coords = np.concatenate([prompts.points[:, ::-1], np.array(corners, np.float32)]).astype(np.float32)
    types = np.concatenate([np.where(prompts.labels, POSITIVE, NEGATIVE), np.array(kinds)]).astype(np.int64)
    return coords, types
