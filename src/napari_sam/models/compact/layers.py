"""Layers shared by the three parts of the compact model, and faster ones for inference."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]
# Cells of stride 4 that the first layers compute at once. Features of more do not fit into a processor's cache, and
# the system hands out memory for each tensor anew, which takes longer than the convolutions.
STRIP_CELLS = 16_000
STRIP_MARGIN = 4
# The name of each activation in oneDNN, and its parameters.
ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
# Sizes of the input for which a layer keeps its weights laid out: tiles have few.
MOST_SIZES = 6


class ChannelLayerNorm(nn.Module):
    """Layer normalization over the channels of (n, channels, rows, cols).

    Behind the prompts it stands where the encoder has batch normalization: rounds of prompts have different
    statistics, which batch normalization does not survive.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a skip (He et al. 2016)."""

    def __init__(self, channels: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(x + inner)


def downsampling(inputs: int, outputs: int) -> nn.Sequential:
    """Return a 3 x 3 convolution of stride 2 with batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def enlarge(x: Tensor) -> Tensor:
    """Double rows and columns by linear interpolation."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


def in_strips(layers: Callable[[Tensor], Tensor], x: Tensor, *, training: bool = False) -> Tensor:
    """Return what layers make of an image at stride 4, computed strip by strip: the same values, in less memory.

    Only a processor gains by it, and batches of training are normalized as a whole: else all is computed at once.

    Parameters
    ----------
    layers
        Convolutions from stride 1 to 4. A cell of the output depends on no pixel more than `STRIP_MARGIN` cells away.
    x
        Shape (n, channels, rows, cols); rows and columns are multiples of 4.
    training
        Whether the layers are in training.
    """
    n, _, rows, cols = x.shape
    count, height = rows // 4, STRIP_CELLS // (n * cols // 4) - 2 * STRIP_MARGIN
    if x.device.type != "cpu" or training or height < STRIP_MARGIN or height >= count:
        return layers(x)
    strips = []
    for first in range(0, count, height):
        last = min(first + height, count)
        above, below = max(first - STRIP_MARGIN, 0), min(last + STRIP_MARGIN, count)
        strip = layers(x[:, :, 4 * above : 4 * below])
        strips.append(strip[:, :, first - above : last - above])
    return torch.cat(strips, 2)


def grid_centers(count: int, step: float, like: Tensor) -> Tensor:
    """Return the centers of `count` cells of side `step`, in tile pixels."""
    return (torch.arange(count, device=like.device, dtype=torch.float32) + 0.5) * step


class FusedConvolution(nn.Module):
    """A convolution for inference on a processor, in float32.

    An activation of its own reads and writes all features once more, which takes a fifth of the time of an image
    encoder; and torch computes convolutions of 1 x 1 without oneDNN, which is faster.

    Parameters
    ----------
    conv
        The convolution; its weights are copied.
    activation
        What follows it: one of `ACTIVATIONS`.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self._name, self._parameters_of_activation = ACTIVATIONS[type(activation or nn.Identity())]
        assert not isinstance(conv.padding, str)
        self._geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self._plain = conv.weight.detach()
        self._laid_out: dict[tuple[int, ...], Tensor] = {}
        self._bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight(x), self._bias, *self._geometry, self._name, self._parameters_of_activation, ""
        )
        return out

    def _weight(self, x: Tensor) -> Tensor:
        """Return the weights in the layout that suits the size of the input."""
        size = tuple(x.shape)
        weight = self._laid_out.get(size)
        if weight is None:
            if len(self._laid_out) >= MOST_SIZES:
                self._laid_out.clear()
            weight = torch.ops.mkldnn._reorder_convolution_weight(self._plain, *self._geometry, list(size))
            self._laid_out[size] = weight
        return weight


def can_fuse() -> bool:
    """Return whether this build of torch has the call, which is not part of its public interface."""
    try:
        conv = nn.Conv2d(1, 1, 1)
        FusedConvolution(conv)(torch.zeros(1, 1, 8, 8))
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True


@torch.no_grad()
def fuse_convolutions(module: nn.Module) -> None:
    """Replace the convolutions of a module in evaluation by fused ones, with the activation behind each.

    Batch normalizations must be folded into the convolutions before.
    """
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            setattr(module, name, FusedConvolution(child))
        elif isinstance(child, nn.Sequential) and (fused := _fused_sequence(list(child.children()))):
            setattr(module, name, fused)
        else:
            fuse_convolutions(child)


def _fused_sequence(layers: list[nn.Module]) -> nn.Module | None:
    """Return a convolution, what is left of its normalization and an activation as one layer; None for other layers."""
    match layers:
        case [nn.Conv2d() as conv, nn.Identity(), nn.Identity() | nn.ReLU() | nn.ReLU6() as activation]:
            return FusedConvolution(conv, activation)
    return None
