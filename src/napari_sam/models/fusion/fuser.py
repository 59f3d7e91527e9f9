"""NetworkFuser: the fusion network behind the MaskFuser protocol."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from napari_sam.core.following.mask_fuser import FEATURE_CELLS, Fused
from napari_sam.core.predictor import Embedding
from napari_sam.models.device import resolve_device
from napari_sam.models.fusion.network import FusionNetwork
from napari_sam.models.safe_load import sha256_of
from napari_sam.weights.fitted import fitted_values

WEIGHTS = Path(__file__).with_name("fusion.npz")
# Tensors of an embedding with fewer channels are guesses, not features.
LEAST_CHANNELS = 16
# Objects that are decided on in one call: more gain nothing, and take memory.
AT_ONCE = 16


class NetworkFuser:
    """Decide on masks with a trained `FusionNetwork`, in float32.

    Parameters
    ----------
    state
        The network's state dict; half precision is widened.
    device
        Where it runs.
    digest
        Hash of the weights; empty for weights that are in no file.
    """

    def __init__(self, state: dict[str, torch.Tensor], device: torch.device, digest: str = "") -> None:
        self.digest = digest
        network = FusionNetwork()
        network.load_state_dict({key: value.float() for key, value in state.items()})
        network.eval().requires_grad_(False)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network, self._device = network.to(device), device

    @torch.inference_mode()
    def features(self, embedding: Embedding) -> NDArray[np.float32]:
        """Return the appearance of each cell, from the two finest tensors, or 0 without any; see `MaskFuser`."""
        tensors = [
            each
            for each in embedding.tensors
            if isinstance(each, torch.Tensor) and each.ndim == 4 and each.shape[1] >= LEAST_CHANNELS
        ]
        if not tensors:
            return np.zeros((1, FEATURE_CELLS, FEATURE_CELLS), np.float32)
        finest = sorted(tensors, key=lambda each: -each.shape[-1])[:2]
        resized = [_resized(each.float()) for each in finest]
        values = torch.cat(resized, 1)[0]
        values = (values - values.mean((1, 2), keepdim=True)) / (values.std((1, 2), keepdim=True) + 1e-3)
        return np.asarray(values.cpu().numpy(), np.float32)

    @torch.inference_mode()
    def fuse(self, channels: NDArray[np.floating[Any]], scalars: NDArray[np.floating[Any]]) -> Fused:
        """Decide on the masks of several objects; see `MaskFuser`."""
        parts = []
        for start in range(0, len(channels), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            seen = torch.from_numpy(np.asarray(channels[part], np.float32)).to(self._device)
            known = torch.from_numpy(np.asarray(scalars[part], np.float32)).to(self._device)
            logits, confidence, presence = self._network(seen.contiguous(memory_format=torch.channels_last), known)
            parts.append([each.cpu().numpy() for each in (logits, confidence.sigmoid(), presence.sigmoid())])
        return Fused(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _resized(features: torch.Tensor) -> torch.Tensor:
    if features.shape[-1] > FEATURE_CELLS:
        return F.adaptive_avg_pool2d(features, FEATURE_CELLS)
    return F.interpolate(features, size=(FEATURE_CELLS, FEATURE_CELLS), mode="bilinear")


@lru_cache(maxsize=2)
def load_fuser(device: str = "auto") -> NetworkFuser:
    """Return the fuser with the weights of this package.

    Parameters
    ----------
    device
        As in `load_predictor`.

    Raises
    ------
    ModelError
        The device is not available, or the file of the weights is damaged.
    """
    state = {name: torch.from_numpy(values) for name, values in fitted_values(WEIGHTS).items()}
    return NetworkFuser(state, resolve_device(device), sha256_of(WEIGHTS))
