"""TilePredictor: the part of a predictor that does not depend on its network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.predictor import Embedding
from napari_sam.models.device import Batches, precision_for, precision_name

MAX_HALF = torch.finfo(torch.float16).max


class TilePredictor(ABC):
    """Number format, digest, batches and packed embeddings; see the protocol `Predictor`.

    A subclass builds its network, and defines `_encode`, `_shapes`, `tile_bytes` and `decode`.

    Parameters
    ----------
    name
        The model's name in the registry, or the path of its weights.
    digest
        Hash of the weights. The precision is appended, since embeddings of different precisions differ.
    device
        Device of the network.
    precision
        Precision of the image encoder, see `precision_for`. "auto" is `auto_precision`.
    """

    input_side = 1024
    object_fraction = 1 / 6
    object_range = (0.03, 0.75)
    probe_levels = 0
    encode_is_slow = True
    auto_precision: ClassVar[str] = "auto"
    # Memory that the image encoder needs for one tile, roughly.
    tile_bytes: int

    def __init__(self, *, name: str, digest: str, device: torch.device, precision: str = "auto") -> None:
        self.name = name
        self._device = device
        self._dtype = precision_for(device, self.auto_precision if precision == "auto" else precision)
        self.digest = f"{digest}/{precision_name(self._dtype, precision)}"

    @property
    def device(self) -> str:
        """The device of the network, by its name in torch."""
        return str(self._device)

    @abstractmethod
    def _encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        """Encode tiles of shape (n, side, side, 3) in one batch."""

    @abstractmethod
    def _shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of each packed tensor of an embedding."""

    @property
    def feature_strides(self) -> list[tuple[int, int]]:
        """Channels and stride of each map of features, the coarsest one first; see `FeaturePredictor`."""
        shapes = self._shapes()
        return [(shapes[at][1], self.input_side // shapes[at][-1]) for at in self._feature_maps]

    def features(self, embedding: Embedding) -> list[NDArray[np.float32]]:
        """Return the maps of features of a tile; see `FeaturePredictor`."""
        return [np.asarray(embedding.tensors[at][0].float().cpu().numpy()) for at in self._feature_maps]

    @cached_property
    def _feature_maps(self) -> list[int]:
        """Which tensors of an embedding are compared: the first one of each resolution."""
        first: dict[int, int] = {}
        for at, shape in enumerate(self._shapes()):
            first.setdefault(shape[-1], at)
        return [first[cells] for cells in sorted(first)]

    @cached_property
    def _batches(self) -> Batches:
        # Sized at the first use: by then the weights have taken their share of the device's memory.
        return Batches(self._device, self.tile_bytes)

    @property
    def batch(self) -> int:
        """Number of tiles that are best encoded in one call; see `Predictor`."""
        return self._batches.size

    @torch.inference_mode()
    def encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        """Encode tiles of shape (n, side, side, 3), uint8 RGB; see `Predictor`."""
        return self._batches.run(range(len(tiles)), lambda part: self._encode(tiles[part[0] : part[-1] + 1]))

    def pack(self, embedding: Embedding) -> NDArray[np.float16]:
        """Return the features; see `Predictor`."""
        return pack(embedding.tensors)

    def unpack(self, values: NDArray[np.float16]) -> Embedding:
        """Return the embedding of packed values; see `Predictor`."""
        return Embedding(unpack(values, self._shapes(), self._device))

    def _normalized(self, tiles: NDArray[np.uint8], mean: Tensor | float, std: Tensor | float) -> Tensor:
        """Return tiles as (n, 3, side, side), float32, normalized with the mean and spread of values from 0 to 1."""
        images = torch.from_numpy(tiles).to(self._device).permute(0, 3, 1, 2)
        return (images.float() / 255 - mean) / std

    def _autocast(self) -> torch.autocast:
        """Return the context in which the image encoder runs in its precision."""
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32)


def best_first(scores: Tensor, threshold: float) -> Tensor:
    """Return the numbers of the scores above a threshold, the highest first."""
    order = scores.argsort(descending=True, stable=True)
    return order[scores[order] > threshold]


def strided_shapes(features: Sequence[tuple[int, int]], side: int) -> list[tuple[int, ...]]:
    """Return the shapes of feature maps of one tile, from the channels and the stride of each."""
    return [(1, channels, side // stride, side // stride) for channels, stride in features]


def split_tiles(features: Sequence[Tensor], count: int) -> list[tuple[Tensor, ...]]:
    """Return the features of each of `count` tiles, rounded to half precision, from those of the whole batch."""
    # Each tile gets memory of its own: a view would keep its whole batch alive.
    return [tuple(round_to_half(feature[i : i + 1].float()) for feature in features) for i in range(count)]


def round_to_half(tensor: Tensor) -> Tensor:
    """Round to half precision, in float32, so that answers are the same from a new and from a stored embedding."""
    return tensor.clamp(-MAX_HALF, MAX_HALF).half().float()


def pack(tensors: Sequence[Tensor]) -> NDArray[np.float16]:
    """Concatenate tensors, rounded by `round_to_half`, into one flat array."""
    flat = torch.cat([tensor.half().flatten() for tensor in tensors])
    return np.asarray(flat.cpu().numpy(), np.float16)


def unpack(values: NDArray[np.float16], shapes: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, ...]:
    """Split a flat array of `pack` into float32 tensors of the given shapes."""
    sizes = [math.prod(shape) for shape in shapes]
    parts = torch.split(torch.from_numpy(np.array(values)).to(device).float(), sizes)
    return tuple(part.reshape(*shape) for part, shape in zip(parts, shapes, strict=True))
