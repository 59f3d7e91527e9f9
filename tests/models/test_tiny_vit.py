"""Our TinyViT against the one of light HQ-SAM, which is MobileSAM's, and against one written to be read."""

from __future__ import annotations

import math
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_sam.models.sam.tiny_vit import BAND, TinyViT

TOLERANCE = 1e-4
UNUSED = ("norm_head", "head")


@pytest.fixture(scope="module")
def reference(one_thread):
    """The package segment_anything_hq, with what it imports of torchvision and timm replaced by the least of it."""
    names = {
        "torchvision": {},
        "torchvision.ops": {},
        "torchvision.ops.boxes": {"batched_nms": None, "box_area": None},
        "torchvision.transforms": {},
        "torchvision.transforms.functional": {"resize": None, "to_pil_image": None},
        "timm": {},
        "timm.models": {},
        "timm.models.layers": {
            "DropPath": torch.nn.Identity,
            "to_2tuple": lambda side: (side, side),
            "trunc_normal_": torch.nn.init.trunc_normal_,
        },
        "timm.models.registry": {"register_model": lambda function: function},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, members in names.items():
            stub = ModuleType(name)
            stub.__dict__.update(members)
            patch.setitem(sys.modules, name, stub)
        yield pytest.importorskip("segment_anything_hq", reason="pip install '.[test]'")


@pytest.fixture(scope="module")
def weights(one_thread):
    """Weights of which none is degenerate: no bias, table or statistic is at its start."""
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = TinyViT()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("attention_biases"):
                tensor.normal_(0, 1, generator=random)
            elif name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
                tensor.uniform_(0.5, 1.5, generator=random)
            elif name.endswith(("running_mean", "bias")):
                tensor.normal_(0, 0.3, generator=random)
            elif name.endswith("qkv.weight"):
                tensor.mul_(4)
    return network.state_dict()


@pytest.fixture
def ours(weights):
    network = TinyViT()
    network.load_state_dict(weights)
    return network.eval()


def close(a, b, tolerance=TOLERANCE):
    assert a.shape == b.shape
    assert (a - b).abs().max() <= tolerance * b.abs().max()


def picture(count, side, seed=1):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_the_encoder_and_its_early_feature_are_the_reference(reference, weights, ours):
    theirs = reference.sam_model_registry["vit_tiny"]().image_encoder
    theirs.load_state_dict(weights, strict=True)
    # It gathers its biases when it is put to evaluation, not when it is loaded.
    theirs.train().eval()
    image = picture(1, 1024)
    expected, (early,) = theirs(image)
    assert expected.std() > 0.5
    assert early.std() > 0.1
    embedding, our_early = ours.forward_with_early(image)
    assert embedding.shape == (1, 256, 64, 64)
    assert our_early.shape == (1, 64, 64, 160)
    close(embedding, expected)
    close(our_early, early)


def test_official_checkpoints_fit_both_ways(reference):
    theirs, ours = reference.sam_model_registry["vit_tiny"]().image_encoder, TinyViT()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)


def test_a_network_made_without_memory_runs_once_it_is_loaded(weights, ours):
    # As checkpoints come: counters stripped, and the tables that some trainers store beside the weights.
    state = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    state["layers.1.blocks.0.attn.attention_bias_idxs"] = torch.zeros(49, 49, dtype=torch.long)
    state["layers.1.blocks.0.attn.ab"] = torch.zeros(4, 49, 49)
    with torch.device("meta"):
        network = TinyViT()
    network.load_state_dict(state, strict=True, assign=True)
    with torch.inference_mode():
        assert torch.equal(network.eval()(picture(1, 64)), ours(picture(1, 64)))


# At 160, no grid is a whole number of windows, and the rows are one band and a part. At 112, windows are whole.
@pytest.mark.parametrize("side", [112, 160])
@torch.inference_mode()
def test_the_encoder_is_the_one_written_to_be_read(weights, ours, side):
    assert BAND < 160 // 4 < 2 * BAND
    state = {key: value.double() for key, value in weights.items()}
    image = picture(2, side).double()
    embedding, early = ours.double().forward_with_early(image)
    expected, expected_early = Plain(state).encode(image)
    assert embedding.shape == (2, 256, side // 16, side // 16)
    close(embedding, expected, 1e-10)
    close(early, expected_early, 1e-10)


@torch.no_grad()
def test_in_training_the_statistics_are_those_of_the_batch(weights, ours):
    state = {key: value.double() for key, value in weights.items()}
    image = picture(2, 160).double()
    embedding = ours.double().train()(image)
    expected, _ = Plain(state, training=True).encode(image)
    close(embedding, expected, 1e-9)
    name = "layers.0.blocks.1.conv2.bn.running_mean"
    assert not torch.equal(ours.state_dict()[name], weights[name])


def test_gradients_reach_every_parameter_but_the_classifiers(ours):
    ours(picture(1, 64)).square().mean().backward()
    without = {name.split(".")[0] for name, parameter in ours.named_parameters() if parameter.grad is None}
    assert without == set(UNUSED)
    assert not any(name.startswith(UNUSED) for name in TinyViT(classes=0).state_dict())


class Plain:
    """TinyViT-5M from its papers: one window at a time, and a bias looked up for each pair of its tokens."""

    def __init__(self, state, training=False):
        self.state, self.training = state, training

    def conv(self, name, x, stride=1, groups=1):
        weight = self.state[f"{name}.c.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        mean, var, gain, bias = (
            self.state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean.clone(), var.clone(), gain, bias, training=self.training)

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name, x):
        mean, var = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def attention(self, name, tokens, heads, side):
        """Mix the side * side tokens of one window, (tokens, width)."""
        qkv = self.linear(f"{name}.qkv", self.norm(f"{name}.norm", tokens)).chunk(heads, -1)
        at = [(row, col) for row in range(side) for col in range(side)]
        entry = torch.tensor([[abs(a - c) * side + abs(b - d) for c, d in at] for a, b in at])
        mixed = []
        for head, part in enumerate(qkv):
            q, k, v = part.chunk(3, -1)
            scores = q @ k.T / math.sqrt(q.shape[-1]) + self.state[f"{name}.attention_biases"][head][entry]
            mixed.append(scores.softmax(-1) @ v)
        return self.linear(f"{name}.proj", torch.cat(mixed, -1))

    def block(self, name, x, heads, side):
        n, width, rows, cols = x.shape
        filled = F.pad(x, (0, -cols % side, 0, -rows % side))
        out = torch.zeros_like(filled)
        for i in range(n):
            for top in range(0, filled.shape[2], side):
                for left in range(0, filled.shape[3], side):
                    place = i, slice(None), slice(top, top + side), slice(left, left + side)
                    tokens = self.attention(f"{name}.attn", filled[place].flatten(1).T, heads, side)
                    out[place] = tokens.T.reshape(width, side, side)
        x = self.conv(f"{name}.local_conv", x + out[:, :, :rows, :cols], groups=width)
        tokens = x.flatten(2).transpose(1, 2)
        hidden = F.gelu(self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.mlp.norm", tokens)))
        return x + self.linear(f"{name}.mlp.fc2", hidden).transpose(1, 2).reshape(x.shape)

    def bottleneck(self, name, x, stride=1):
        x = F.gelu(self.conv(f"{name}.conv1", x))
        x = F.gelu(self.conv(f"{name}.conv2", x, stride=stride, groups=x.shape[1]))
        return self.conv(f"{name}.conv3", x)

    def encode(self, x):
        x = self.conv("patch_embed.seq.2", F.gelu(self.conv("patch_embed.seq.0", x, stride=2)), stride=2)
        for block in range(2):
            x = F.gelu(x + self.bottleneck(f"layers.0.blocks.{block}", x))
        x = self.bottleneck("layers.0.downsample", x, 2)
        for stage, depth, heads, side, stride in ((1, 2, 4, 7, 2), (2, 6, 5, 14, 1), (3, 2, 10, 7, None)):
            for block in range(depth):
                x = self.block(f"layers.{stage}.blocks.{block}", x, heads, side)
            if stride:
                x = self.bottleneck(f"layers.{stage}.downsample", x, stride)
            if stage == 1:
                early = x.permute(0, 2, 3, 1)
        for conv, norm in ((0, 1), (2, 3)):
            x = F.conv2d(x, self.state[f"neck.{conv}.weight"], padding=conv // 2)
            mean, var = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
            gain, bias = (self.state[f"neck.{norm}.{part}"][:, None, None] for part in ("weight", "bias"))
            x = (x - mean) / (var + 1e-6).sqrt() * gain + bias
        return x, early


def test_mobile_sam_segments_through_its_predictor(one_thread):
    from napari_sam.core.prompts import TilePrompts
    from napari_sam.models.sam import SamPredictor, build

    torch.manual_seed(4)
    network = build("vit_t").eval().requires_grad_(False)
    cpu = torch.device("cpu")
    predictor = SamPredictor(
        network.state_dict(), "vit_t", name="mobile_sam", digest="0", device=cpu, precision="float32"
    )
    tile = np.random.default_rng(0).integers(0, 255, (1, 1024, 1024, 3), np.uint8)
    (embedding,) = predictor.encode(tile)
    mean, std = (torch.tensor(x)[:, None, None] for x in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    with torch.inference_mode():
        expected = network.image_encoder((torch.from_numpy(tile).permute(0, 3, 1, 2) - mean) / std)
    torch.testing.assert_close(embedding.tensors[0], expected, atol=2e-3, rtol=2e-3)
    answer = predictor.decode(embedding, TilePrompts(np.array([[200, 300]], np.float32), np.array([True])))
    assert answer.logits.shape == (3, 256, 256)
