"""Our SAM-HQ against the reference implementation, which needs torchvision and timm for parts not used here."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from napari_sam.models.prompt_tokens import BOTTOM_RIGHT, TOP_LEFT
from napari_sam.models.sam import SIZES
from napari_sam.models.sam.hq import MaskDecoderHQ
from napari_sam.models.sam.image_encoder import ImageEncoderViT
from napari_sam.models.sam.prompt_encoder import NOT_A_POINT, PromptEncoder
from napari_sam.models.sam.tiny_vit import TinyViT

SIDE = 256
EARLY = 96
TOLERANCE = 1e-4


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
            "DropPath": nn.Identity,
            "to_2tuple": lambda side: (side, side),
            "trunc_normal_": nn.init.trunc_normal_,
        },
        "timm.models.registry": {"register_model": lambda function: function},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, members in names.items():
            stub = ModuleType(name)
            stub.__dict__.update(members)
            patch.setitem(sys.modules, name, stub)
        yield pytest.importorskip("segment_anything_hq", reason="pip install '.[test]'")


class Parts(nn.Module):
    """The three parts under the official names."""

    def __init__(self, image_encoder, prompt_encoder, mask_decoder):
        super().__init__()
        self.image_encoder, self.prompt_encoder, self.mask_decoder = image_encoder, prompt_encoder, mask_decoder


@pytest.fixture(scope="module")
def pair(reference):
    """The decoders and prompt encoders, ours and the reference's, with the same weights; none of them degenerate."""
    modeling = sys.modules["segment_anything_hq.modeling"]
    torch.manual_seed(0)
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = modeling.MaskDecoderHQ(transformer_dim=256, transformer=transformer, vit_dim=EARLY)
    grid = SIDE // 16
    prompts = modeling.PromptEncoder(
        embed_dim=256, image_embedding_size=(grid, grid), input_image_size=(SIDE, SIDE), mask_in_chans=16
    )
    theirs = Parts(nn.Identity(), prompts, decoder)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith("layers.2.weight") and ("hypernetworks" in name or "hf_mlp" in name):
                parameter.mul_(10)
            elif parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    ours = Parts(nn.Identity(), PromptEncoder(side=SIDE, grid=grid), MaskDecoderHQ(early_width=EARLY))
    assert ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs.eval(), ours.eval()


@pytest.fixture(scope="module")
def image():
    """An image embedding and an early feature."""
    random = torch.Generator().manual_seed(1)
    return torch.randn(1, 256, 16, 16, generator=random), torch.randn(1, 16, 16, EARLY, generator=random)


def close(a, b):
    assert a.shape == b.shape
    assert (a - b).abs().max() <= TOLERANCE * b.abs().max()


def prompts_for(kind, count):
    """Return the prompts as the reference takes them, and as coordinates and types."""
    random = torch.Generator().manual_seed(2)
    points = torch.rand(count, 2, 2, generator=random) * SIDE
    labels = torch.tensor([[1, 0], [1, 1], [0, 1]])[:count]
    box = torch.tensor([[10.0, 20.0, 150.0, 200.0]]).expand(count, 4)
    coords, types = [torch.zeros(count, 0, 2)], [torch.zeros(count, 0, dtype=torch.long)]
    if "points" in kind:
        coords, types = [*coords, points], [*types, labels]
    if "box" in kind:
        coords, types = [*coords, box.reshape(count, 2, 2)], [*types, torch.tensor([[TOP_LEFT, BOTTOM_RIGHT]] * count)]
    elif "points" in kind:
        coords, types = [*coords, torch.zeros(count, 1, 2)], [*types, torch.full((count, 1), NOT_A_POINT)]
    masks = torch.randn(count, 1, SIDE // 4, SIDE // 4, generator=random) * 4 if "mask" in kind else None
    theirs = {
        "points": (points, labels) if "points" in kind else None,
        "boxes": box if "box" in kind else None,
        "masks": masks,
    }
    return theirs, (torch.cat(coords, 1), torch.cat(types, 1), masks)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["points", "box", "points, box", "points, mask", "box, mask", "mask"])
@torch.inference_mode()
def test_the_masks_put_together_are_the_references(pair, image, kind, count):
    theirs, ours = pair
    embedding, early = image
    prompts, our_prompts = prompts_for(kind, count)
    sparse, dense = theirs.prompt_encoder(**prompts)
    our_sparse, our_dense = ours.prompt_encoder(*our_prompts)
    features = ours.mask_decoder.hq_features(embedding, early)
    assert features.shape == (1, 32, SIDE // 4, SIDE // 4)
    position = ours.prompt_encoder.dense_position()
    logits, hq_logits, scores = ours.mask_decoder(embedding, features, position, our_sparse, our_dense)
    best = scores[:, 1:].argmax(1)
    ambiguous = logits[torch.arange(count), 1 + best] + hq_logits, scores[:, 1:].amax(1)
    answers = {
        (False, False): (logits[:, 0] + hq_logits, scores[:, 0]),
        (True, False): ambiguous,
        (False, True): (hq_logits, scores[:, 0]),
        (True, True): (hq_logits, ambiguous[1]),
    }
    for (multimask, hq_token_only), (mask, score) in answers.items():
        expected, expected_scores = theirs.mask_decoder(
            image_embeddings=embedding,
            image_pe=theirs.prompt_encoder.get_dense_pe(),
            # Without points and box the reference's has one object, whatever the masks.
            sparse_prompt_embeddings=our_sparse if kind == "mask" else sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            hq_token_only=hq_token_only,
            interm_embeddings=[early],
        )
        assert expected.std() > 0.5
        close(mask, expected[:, 0])
        close(score, expected_scores[:, 0])


@torch.inference_mode()
def test_the_features_count_as_much_as_the_masks(pair, image):
    _, ours = pair
    embedding, early = image
    features = ours.mask_decoder.hq_features(embedding, early)
    sparse, dense = ours.prompt_encoder(*prompts_for("box", 1)[1])
    position = ours.prompt_encoder.dense_position()
    _, with_features, _ = ours.mask_decoder(embedding, features, position, sparse, dense)
    _, without, _ = ours.mask_decoder(embedding, torch.zeros_like(features), position, sparse, dense)
    assert (with_features - without).std() > 0.2 * with_features.std()


def test_gradients_reach_every_parameter(image):
    decoder = MaskDecoderHQ(early_width=EARLY)
    prompts = PromptEncoder(side=SIDE, grid=SIDE // 16)
    embedding, early = image
    sparse, dense = prompts(*prompts_for("points, mask", 3)[1])
    outputs = decoder(embedding, decoder.hq_features(embedding, early), prompts.dense_position(), sparse, dense)
    sum(part.square().mean() for part in outputs).backward()
    assert [name for name, parameter in decoder.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h", "vit_tiny"])
def test_official_checkpoints_of_every_size_fit_both_ways(reference, name):
    size = SIZES.get(name)
    # The reference asks for values while it makes a TinyViT, so that one is made in memory.
    with torch.device("meta" if size else "cpu"):
        theirs = reference.sam_model_registry[name]()
        encoder = (
            ImageEncoderViT(width=size.width, depth=size.depth, heads=size.heads, global_blocks=size.global_blocks)
            if size
            else TinyViT()
        )
        ours = Parts(encoder, PromptEncoder(), MaskDecoderHQ(early_width=size.width if size else 160))
    ours.load_state_dict(theirs.state_dict(), strict=True, assign=True)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)


@torch.inference_mode()
def test_the_early_feature_of_a_vit_is_the_references(reference):
    modeling = sys.modules["segment_anything_hq.modeling"]
    torch.manual_seed(3)
    theirs = modeling.ImageEncoderViT(
        depth=4,
        embed_dim=EARLY,
        img_size=SIDE,
        mlp_ratio=4,
        norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6),
        num_heads=3,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=[1, 3],
        window_size=7,
        out_chans=256,
    ).eval()
    for name, parameter in theirs.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            parameter.normal_(0, 0.2)
    ours = ImageEncoderViT(width=EARLY, depth=4, heads=3, global_blocks=(1, 3), side=SIDE, window=7).eval()
    assert ours.load_state_dict(theirs.state_dict(), strict=True)
    pixels = torch.randn(1, 3, SIDE, SIDE)
    expected, early = theirs(pixels)
    embedding, our_early = ours.forward_with_early(pixels)
    close(embedding, expected)
    close(our_early, early[0])
