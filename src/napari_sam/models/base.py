"""The Predictor protocol: what a model must offer to be used on tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

HALF_MOST = 65504.0


def round_to_half(tensor: torch.Tensor) -> torch.Tensor:
    """Round a feature to what half precision holds, so that an embedding is the same whether it was kept or not."""
    return tensor.clamp(-HALF_MOST, HALF_MOST).half().float()


def pack(tensors: Sequence[torch.Tensor]) -> NDArray[np.float16]:
    """Return tensors that were `round_to_half` as one flat array."""
    flat = torch.cat([tensor.half().flatten() for tensor in tensors])
    return np.asarray(flat.cpu().numpy(), np.float16)


def unpack(
    values: NDArray[np.float16], shapes: Sequence[Sequence[int]], device: torch.device
) -> tuple[torch.Tensor, ...]:
    """Return the tensors of these shapes, in float32, that `pack` made a flat array of."""
    sizes = [math.prod(shape) for shape in shapes]
    parts = torch.split(torch.from_numpy(np.array(values)).to(device).float(), sizes)
    return tuple(part.reshape(*shape) for part, shape in zip(parts, shapes, strict=True))
