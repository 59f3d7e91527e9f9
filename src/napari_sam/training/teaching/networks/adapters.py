"""Low-rank adapters (Hu et al. 2021) of an image encoder: what is added to the weights of its attention, and merged."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from napari_sam.models.nested_checkpoints import State

# The layers of attention that get an adapter, by their names in SAM, MobileSAM and SAM 2.
ADAPTED = (".attn.qkv", ".attn.proj")
ORIGINAL, ADDED = ".parametrizations.weight.original", ".parametrizations.weight.0"


class LowRank(nn.Module):
    """Adds the product of two narrow matrices to a weight; nothing at first.

    Parameters
    ----------
    weight
        Shape (rows, cols).
    rank
        Width of the matrices.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, cols = weight.shape
        self.down = nn.Parameter(torch.empty(rank, cols, device=weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def adapt(encoder: nn.Module, rank: int) -> None:
    """Give each attention layer of an image encoder an adapter; the rest of the encoder no longer learns.

    Parameters
    ----------
    encoder
        Of SAM, MobileSAM or SAM 2.
    rank
        Width of the adapters, at most that of the layer.
    """
    encoder.requires_grad_(False)
    for layer in list(_attention_layers(encoder)):
        adapter = LowRank(layer.weight, min(rank, *layer.weight.shape))
        parametrize.register_parametrization(layer, "weight", adapter)


def merged(state: State) -> State:
    """Return the state dict of an adapted network as that of a plain one; another state dict stays as it is."""
    found = {key: value for key, value in state.items() if ADDED not in key and not key.endswith(ORIGINAL)}
    for key, value in state.items():
        if key.endswith(ORIGINAL):
            layer = key.removesuffix(ORIGINAL)
            up, down = (state[f"{layer}{ADDED}.{name}"].float() for name in ("up", "down"))
            found[f"{layer}.weight"] = (value.float() + up @ down).to(value.dtype)
    return found


def _attention_layers(encoder: nn.Module) -> Iterator[nn.Linear]:
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(ADAPTED):
            yield module
