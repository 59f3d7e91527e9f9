"""EfficientNet-Lite2, the variant of EfficientNet (Tan and Le 2019) for phones: the trunk of the image encoder."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.compact.layers import in_strips

STEM_CHANNELS = 32
# Kernel, stride, expansion, channels and blocks of each stage. Stages 1, 2, 4 and 6 end at strides 4, 8, 16 and 32.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 3),
    (5, 2, 6, 48, 3),
    (3, 2, 6, 88, 4),
    (5, 1, 6, 120, 4),
    (5, 2, 6, 208, 5),
    (3, 1, 6, 352, 1),
)
PYRAMID_STAGES = (1, 2, 4, 6)
# Of the batch normalization, as in TensorFlow, in which the published weights were trained.
EPSILON = 1e-3


class InvertedResidual(nn.Module):
    """An inverted residual block (Sandler et al. 2018): expansion, depthwise convolution and projection, with ReLU6.

    Parameters
    ----------
    inputs, outputs
        Channels. If they agree and the stride is 1, the input is added to the output.
    kernel, stride
        Kernel size and stride of the depthwise convolution.
    expansion
        Factor by which the first convolution multiplies the channels; 1 for a block without that convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = _convolution(inputs, inner, 1) if expansion != 1 else nn.Identity()
        self.depthwise = _convolution(inner, inner, kernel, stride, groups=inner)
        self.project = _convolution(inner, outputs, 1, activation=nn.Identity)
        self._padding = _end_padding(kernel) if stride == 2 else None
        self._has_skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        inner = self.expand(x)
        if self._padding:
            inner = F.pad(inner, self._padding)
        projected: Tensor = self.project(self.depthwise(inner))
        return x + projected if self._has_skip else projected


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite2 without its classifier, 4.3 million parameters.

    Its layers have the shapes of the published ImageNet weights; `napari_sam.training.pretrained` loads them.
    """

    channels = tuple(STAGES[stage][3] for stage in PYRAMID_STAGES)

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, STEM_CHANNELS, 3, 2)
        blocks: list[InvertedResidual] = []
        self._ends: list[int] = []
        inputs = STEM_CHANNELS
        for kernel, stride, expansion, outputs, repeats in STAGES:
            for index in range(repeats):
                step = stride if index == 0 else 1
                blocks.append(InvertedResidual(inputs, outputs, kernel=kernel, stride=step, expansion=expansion))
                inputs = outputs
            self._ends.append(len(blocks))
        self.blocks = nn.ModuleList(blocks)
        self._has_frozen_norms = False

    def freeze(self, stages: int, *, norms: bool) -> None:
        """Exclude a part of the weights from training.

        Parameters
        ----------
        stages
            Number of stages, counted from the first, that are not trained; with one or more, neither is the stem.
        norms
            Whether all batch normalizations keep their statistics, scale and offset.
        """
        frozen: list[nn.Module] = [self.stem, *self.blocks[: self._ends[stages - 1]]] if stages else []
        self._has_frozen_norms = norms
        for module in [*frozen, *(self._norms() if norms else ())]:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Switch between training and evaluation; frozen normalizations stay in evaluation."""
        super().train(mode)
        if self._has_frozen_norms:
            for norm in self._norms():
                norm.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return features of strides 4, 8, 16 and 32.

        Parameters
        ----------
        x
            Shape (n, 3, side, side), float: intensities from 0 to 255, minus 127, divided by 128.

        Returns
        -------
        tuple of torch.Tensor
            Shapes (n, channels, side/stride, side/stride), with `EfficientNetLite.channels`.
        """
        finest, *coarser = PYRAMID_STAGES
        x = in_strips(self._finest, x, training=self.training)
        features = [x]
        for stage in range(finest + 1, len(self._ends)):
            x = self._stage(x, stage)
            if stage in coarser:
                features.append(x)
        x4, x8, x16, x32 = features
        return x4, x8, x16, x32

    def _finest(self, x: Tensor) -> Tensor:
        """Return the features of stride 4."""
        for stage in range(PYRAMID_STAGES[0] + 1):
            x = self._stage(x, stage)
        return x

    def _stage(self, x: Tensor, stage: int) -> Tensor:
        device = x.device.type
        # On a processor the gradient of a depthwise convolution takes twice as long in bfloat16 as in float32.
        exact = self.training and device == "cpu"
        # The first weights are large. Masks computed in bfloat16 throughout had an IoU of 0.970 with those of float32,
        # and with the stem and the first stage in float32 0.993, for 10 % more time. This was measured in the middle of
        # training; with the weights that ship the IoU of the best masks is 0.988.
        narrow = torch.is_autocast_enabled(device) and stage > 0 and not exact
        with torch.autocast(device, enabled=narrow):
            if stage == 0:
                x = self.stem(F.pad(x.float(), _end_padding(3)))
            for block in self.blocks[self._ends[stage - 1] if stage else 0 : self._ends[stage]]:
                x = block(x)
        return x

    def _norms(self) -> Iterable[nn.Module]:
        return (module for module in self.modules() if isinstance(module, nn.BatchNorm2d))


def _convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: type[nn.Module] = nn.ReLU6,
) -> nn.Sequential:
    """Return a convolution with its normalization and activation; with stride 2 the caller pads."""
    padding = 0 if stride == 2 else kernel // 2
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, eps=EPSILON), activation())


def _end_padding(kernel: int) -> tuple[int, int, int, int]:
    """Return TensorFlow's padding for stride 2 and an even side, for `F.pad`: one more at the right and the bottom."""
    before = (kernel - 2) // 2
    after = kernel - 2 - before
    return before, after, before, after
