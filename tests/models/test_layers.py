"""FusedConvolution and strips: the same results as the layers that they replace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_sam.models import load_predictor
from napari_sam.models.compact import predictor as compact
from napari_sam.models.compact.layers import FusedConvolution, can_fuse, fuse_convolutions, in_strips

needs_onednn = pytest.mark.skipif(not can_fuse(), reason="this build of torch has no fused convolutions")


@needs_onednn
@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU(), nn.ReLU6()])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "groups", "bias"),
    [(1, 1, 0, 1, True), (3, 2, 1, 1, False), (3, 1, 1, 8, True), (5, 2, 0, 8, True)],
)
@pytest.mark.parametrize("shape", [(1, 8, 64, 64), (2, 8, 37, 91)])
def test_a_fused_convolution_is_the_convolution_and_its_activation(
    activation, kernel, stride, padding, groups, bias, shape
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, kernel, stride=stride, padding=padding, groups=groups, bias=bias).eval()
    x = (10 * torch.randn(shape)).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        torch.testing.assert_close(FusedConvolution(conv, activation)(x), activation(conv(x)), atol=1e-4, rtol=1e-4)


@needs_onednn
def test_other_layers_stay_as_they_are() -> None:
    layers = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.ReLU6()),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
    )
    fuse_convolutions(layers)
    assert isinstance(layers[0], FusedConvolution)
    assert isinstance(layers[1], nn.Sequential)
    assert isinstance(layers[2], FusedConvolution)
    assert isinstance(layers[3], nn.BatchNorm2d)


def test_the_model_gives_the_same_embedding_where_torch_cannot_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = np.random.default_rng(0).integers(0, 255, (1, 256, 256, 3), np.uint8)
    (here,) = load_predictor("compact").encode(tiles)
    monkeypatch.setattr(compact, "can_fuse", lambda: False)
    plain = load_predictor("compact")
    assert not any(isinstance(module, FusedConvolution) for module in plain._network.modules())
    (there,) = plain.encode(tiles)
    for one, other in zip(here.tensors, there.tensors, strict=True):
        # Features are rounded to half precision, so some differ by its last digit.
        torch.testing.assert_close(one, other, atol=0.02, rtol=2e-3)


@pytest.mark.parametrize("shape", [(1, 3, 512, 640), (1, 3, 1280, 1280), (2, 3, 640, 640)])
def test_strips_give_the_same_features(shape: tuple[int, ...]) -> None:
    encoder = load_predictor("compact")._network.image_encoder
    image = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    calls = []
    for part in (encoder.trunk, encoder.detail):
        layers = part._finest if part is encoder.trunk else part
        with torch.inference_mode():
            strips = in_strips(lambda x, layers=layers: calls.append(x.shape) or layers(x), image)
            torch.testing.assert_close(strips, layers(image), atol=1e-5, rtol=1e-5)
    assert len(calls) > 2, "there are several strips"
