"""Our SAM against the reference implementation, which needs torchvision for parts that are not used here."""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.models.official_sam import official_package

from napari_sam import Segmenter
from napari_sam.core.geometry import Box
from napari_sam.core.prompts import TilePrompts
from napari_sam.models import load_predictor
from napari_sam.models.base import round_to_half
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.prompt_tokens import BOTTOM_RIGHT, TOP_LEFT
from napari_sam.models.sam import SIZES, Sam, SamPredictor, size_of
from napari_sam.models.sam.prompt_encoder import NOT_A_POINT

SIDE = 256
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def reference():
    """The package segment_anything."""
    with official_package() as package:
        yield package


@pytest.fixture(scope="module")
def pair(reference):
    """The reference and ours at ViT-B's width, on 256 pixels, with the same weights; none of them degenerate."""
    from segment_anything.build_sam import _build_sam

    torch.manual_seed(0)
    theirs = _build_sam(768, 12, 12, [2, 5, 8, 11])
    modeling = sys.modules["segment_anything.modeling"]
    theirs.image_encoder = modeling.ImageEncoderViT(
        depth=12,
        embed_dim=768,
        img_size=SIDE,
        mlp_ratio=4,
        norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),
        num_heads=12,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=[2, 5, 8, 11],
        window_size=14,
        out_chans=256,
    )
    theirs.prompt_encoder = modeling.PromptEncoder(
        embed_dim=256, image_embedding_size=(16, 16), input_image_size=(SIDE, SIDE), mask_in_chans=16
    )
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                parameter.normal_(0, 0.2)
            elif "hypernetworks" in name and "layers.2.weight" in name:
                parameter.mul_(10)
    ours = Sam(SIZES["vit_b"], side=SIDE)
    assert ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs.eval(), ours.eval()


def close(a, b):
    assert (a - b).abs().max() <= TOLERANCE * b.abs().max()


@torch.inference_mode()
def test_the_image_encoder_is_the_reference(pair):
    theirs, ours = pair
    image = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    expected = theirs.image_encoder(image)
    assert expected.std() > 0.5
    close(ours.image_encoder(image), expected)


@torch.inference_mode()
def test_in_bfloat16_the_image_encoder_gives_nearly_the_same(pair):
    _, ours = pair
    image = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    exact = ours.image_encoder(image)
    rough = copy.deepcopy(ours.image_encoder).to(torch.bfloat16)(image.bfloat16()).float()
    assert (rough - exact).abs().mean() <= 0.05 * exact.std()


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("kind", ["points", "box", "points and box", "nothing else"])
@torch.inference_mode()
def test_prompts_and_masks_are_the_references(pair, kind, with_mask, multimask):
    if kind == "nothing else" and not with_mask:
        return
    theirs, ours = pair
    random = torch.Generator().manual_seed(2)
    count = 3
    image = torch.randn(1, 256, 16, 16, generator=random)
    points = torch.rand(count, 2, 2, generator=random) * SIDE
    labels = torch.tensor([[1, 0], [1, 1], [0, 1]])
    box = torch.tensor([[10.0, 20.0, 150.0, 200.0]]).expand(count, 4)
    masks = torch.randn(count, 1, 64, 64, generator=random) * 4 if with_mask else None
    has_points, has_box = "points" in kind, "box" in kind
    coords, types = [torch.zeros(count, 0, 2)], [torch.zeros(count, 0, dtype=torch.long)]
    if has_points:
        coords, types = [*coords, points], [*types, labels]
    if has_box:
        coords, types = [*coords, box.reshape(count, 2, 2)], [*types, torch.tensor([[TOP_LEFT, BOTTOM_RIGHT]] * count)]
    elif has_points:
        coords, types = [*coords, torch.zeros(count, 1, 2)], [*types, torch.full((count, 1), NOT_A_POINT)]

    sparse, dense = theirs.prompt_encoder(
        points=(points, labels) if has_points else None, boxes=box if has_box else None, masks=masks
    )
    our_sparse, our_dense = ours.prompt_encoder(torch.cat(coords, 1), torch.cat(types, 1), masks)
    if kind != "nothing else":
        close(our_sparse, sparse)
    close(our_dense, dense)

    expected, scores = theirs.mask_decoder(
        image_embeddings=image,
        image_pe=theirs.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse if kind != "nothing else" else our_sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )
    answers, our_scores = ours.mask_decoder(image, ours.prompt_encoder.dense_position(), our_sparse, our_dense)
    chosen = slice(1, 4) if multimask else slice(0, 1)
    assert expected.std() > 0.5
    close(answers[:, chosen], expected)
    close(our_scores[:, chosen], scores)


@pytest.mark.parametrize("size", list(SIZES))
def test_official_checkpoints_of_every_size_fit_by_name_and_shape(reference, size, tmp_path):
    with torch.device("meta"):
        theirs = reference.sam_model_registry[size]().state_dict()
        ours = Sam(SIZES[size])
    assert size_of(theirs) == size
    ours.load_state_dict(theirs, strict=True, assign=True)
    for prefix in ("", "sam.", "module.sam."):
        family, state = detect_architecture(
            {prefix + key: value for key, value in theirs.items()}, tmp_path / "any name.pth"
        )
        assert family == size
        assert set(state) == set(theirs)


def test_gradients_reach_every_parameter():
    network = Sam(SIZES["vit_b"], side=64)
    coords, types = torch.rand(1, 3, 2) * 64, torch.tensor([[1, 0, NOT_A_POINT]])
    boxes, corners = torch.rand(1, 2, 2) * 64, torch.tensor([[TOP_LEFT, BOTTOM_RIGHT]])
    first = network(torch.randn(1, 3, 64, 64), coords, types, None)
    second = network(torch.randn(1, 3, 64, 64), boxes, corners, torch.randn(1, 1, 16, 16))
    sum(part.float().square().mean() for part in (*first, *second)).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.fixture(scope="module")
def small_sam(monkeymodule):
    """A SAM of full width and two blocks, so that the whole path runs in a second."""
    from napari_sam.models.sam.network import ViTSize

    tiny = ViTSize(96, 2, 3, (1,))
    monkeymodule.setitem(SIZES, "vit_b", tiny)
    torch.manual_seed(3)
    network = Sam(tiny)
    with torch.no_grad():
        network.image_encoder.pos_embed.normal_(0, 0.1)
    return network


@pytest.fixture(scope="module")
def monkeymodule():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_a_sam_checkpoint_segments_through_the_segmenter(small_sam, tmp_path):
    path = tmp_path / "of any name.safetensors"
    save_file({f"sam.{key}": value.contiguous() for key, value in small_sam.state_dict().items()}, path)
    predictor = load_predictor(path, "cpu")
    assert isinstance(predictor, SamPredictor)
    image = np.random.default_rng(0).integers(0, 255, (300, 400), np.uint8)
    segmenter = Segmenter(image, model=predictor)
    first = segmenter.segment(points=[(100, 120)])
    again = segmenter.segment(points=[(100, 120), (150, 160)], labels=[1, 0])
    boxed = segmenter.segment(box=(50, 60, 150, 160))
    for candidates in (first, again, boxed):
        assert len(candidates) == 3
        assert [mask.area for mask in candidates] == sorted(mask.area for mask in candidates)


def test_a_lone_point_gets_the_three_masks_for_ambiguity_and_a_clear_prompt_its_own(small_sam):
    cpu = torch.device("cpu")
    predictor = SamPredictor(small_sam.state_dict(), "vit_b", name="tiny", digest="0", device=cpu, precision="float32")
    tile = np.random.default_rng(0).integers(0, 255, (1, 1024, 1024, 3), np.uint8)
    (embedding,) = predictor.encode(tile)
    assert embedding.nbytes == 256 * 64 * 64 * 4
    pixels = (torch.from_numpy(tile).permute(0, 3, 1, 2).float() - predictor._mean) / predictor._std
    # An embedding is kept in half precision: what the decoder makes of that must be the same.
    rounded = small_sam.image_encoder.register_forward_hook(lambda module, inputs, features: round_to_half(features))
    with torch.inference_mode(), rounded:
        at, kinds = torch.tensor([[[300.0, 200.0], [0, 0]]]), torch.tensor([[1, NOT_A_POINT]])
        answers, scores = small_sam.eval()(pixels, at, kinds, None)
        point = predictor.decode(embedding, TilePrompts(np.array([[200, 300]], np.float32), np.array([True])))
        np.testing.assert_allclose(point.logits, answers[0, 1:], atol=1e-4)
        np.testing.assert_allclose(point.iou_prediction, scores[0, 1:].clamp(0, 1), atol=1e-5)
        corners = torch.tensor([[[40.0, 30.0], [140.0, 90.0]]])
        answers, _ = small_sam(pixels, corners, torch.tensor([[TOP_LEFT, BOTTOM_RIGHT]]), None)
        boxed = predictor.decode(embedding, TilePrompts(box=Box(30, 40, 90, 140)))
        np.testing.assert_allclose(boxed.logits[0], answers[0, 0], atol=1e-4)
