"""The mask decoder of one object on one tile against the plain modules, which are held to the reference elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam.core.geometry import Box
from napari_sam.core.predictor import Embedding
from napari_sam.core.prompts import TilePrompts
from napari_sam.errors import ModelError
from napari_sam.models import load_predictor
from napari_sam.models.prompt_tokens import BOTTOM_RIGHT, TOP_LEFT
from napari_sam.models.sam import SamPredictor, build
from napari_sam.models.sam import network as networks
from napari_sam.models.sam.network import ViTSize
from napari_sam.models.sam.predictor import SIDES_KEPT
from napari_sam.models.sam.prompt_encoder import NOT_A_POINT

TOLERANCE = 1e-4
CPU = torch.device("cpu")
PROMPTS = {
    "point": TilePrompts(np.array([[200, 300]], np.float32), np.array([True])),
    "points": TilePrompts(np.array([[200, 300], [10, 900], [640, 2]], np.float32), np.array([True, False, True])),
    "many points": TilePrompts(
        np.random.default_rng(0).uniform(0, 1024, (40, 2)).astype(np.float32), np.arange(40) % 3 > 0
    ),
    "box": TilePrompts(box=Box(30, 40, 400, 700)),
    "box and point": TilePrompts(np.array([[200, 300]], np.float32), np.array([True]), box=Box(30, 40, 400, 700)),
    "mask and point": TilePrompts(
        np.array([[200, 300]], np.float32),
        np.array([True]),
        mask_logits=np.random.default_rng(1).normal(0, 4, (256, 256)).astype(np.float32),
    ),
    "mask": TilePrompts(mask_logits=np.random.default_rng(2).normal(0, 4, (256, 256)).astype(np.float32)),
}


@pytest.fixture(scope="module", params=["vit_b", "hq_vit_b"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def network(family):
    """A SAM or SAM-HQ of full width behind a small image encoder, whose logits are of the size of real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.SIZES, "vit_b", ViTSize(96, 2, 3, (1,)))
        torch.manual_seed(5)
        made = build(family).eval().requires_grad_(False)
        with torch.no_grad():
            made.image_encoder.pos_embed.normal_(0, 0.1)
            for name, parameter in made.mask_decoder.named_parameters():
                if ("hypernetworks" in name or "hf_mlp" in name) and "layers.2.weight" in name:
                    parameter.mul_(10)
        yield made


def predictor_of(network, family, precision="float32"):
    return SamPredictor(network.state_dict(), family, name="any", digest="0", device=CPU, precision=precision)


@pytest.fixture(scope="module")
def predictor(network, family):
    return predictor_of(network, family)


@pytest.fixture(scope="module")
def embedding(family):
    random = torch.Generator().manual_seed(1)
    shapes = [(1, 256, 64, 64), (1, 32, 256, 256)]
    return Embedding(tuple(torch.randn(s, generator=random) for s in (shapes if "hq" in family else shapes[:1])))


def plain_answer(network, embedding, prompts, order):
    """The same by the modules themselves: the three masks that are asked for, and all four scores."""
    xy, types = prompts.points[:, ::-1], prompts.labels.astype(np.int64)
    box = prompts.box
    corners = [[box.left, box.top], [box.right, box.bottom]] if box else [[0, 0]]
    kinds = [TOP_LEFT, BOTTOM_RIGHT] if box else [NOT_A_POINT]
    coords = torch.from_numpy(np.concatenate([xy, np.array(corners, np.float32)]).astype(np.float32))[None]
    masks = None if prompts.mask_logits is None else torch.from_numpy(prompts.mask_logits)[None, None]
    sparse, dense = network.prompt_encoder(coords, torch.tensor([[*types, *kinds]]), masks)
    logits, *sharper, scores = network.mask_decoder(
        *embedding.tensors, network.prompt_encoder.dense_position(), sparse, dense
    )
    best = (1 + scores[0, 1:].argsort(descending=True)).tolist()
    for extra in sharper:
        logits[0, best[0] if order == "ambiguous" else 0] += extra[0]
    chosen = [1, 2, 3] if order == "ambiguous" else [0, *best[:2]]
    return logits[0, chosen], scores[0, chosen]


@pytest.mark.parametrize("kind", list(PROMPTS))
@torch.inference_mode()
def test_the_answer_is_that_of_the_modules(kind, network, predictor, embedding):
    logits, scores = plain_answer(network, embedding, PROMPTS[kind], "ambiguous" if kind == "point" else "clear")
    assert logits.std() > 0.5
    answer = predictor.decode(embedding, PROMPTS[kind])
    assert np.abs(answer.logits - logits.numpy()).max() < TOLERANCE * float(logits.abs().max())
    np.testing.assert_allclose(answer.iou_prediction, scores.clamp(0, 1), atol=TOLERANCE)


@pytest.mark.parametrize("kind", list(PROMPTS))
def test_a_decoder_in_bfloat16_gives_nearly_the_same(kind, network, family, predictor, embedding):
    exact = predictor.decode(embedding, PROMPTS[kind])
    rough = predictor_of(network, family, "bfloat16").decode(embedding, PROMPTS[kind])
    if kind == "point":  # Of a clear prompt, which two come along hangs on scores of random weights.
        assert np.abs(rough.logits - exact.logits).mean() < 0.05 * exact.logits.std()
    assert np.abs(rough.logits[0] - exact.logits[0]).mean() < 0.05 * exact.logits[0].std()
    assert np.isfinite(rough.logits).all()


def test_what_a_tile_keeps_for_its_prompts_never_answers_for_another_tile(predictor, embedding):
    others = [Embedding(tuple(torch.roll(part, i, -1) for part in embedding.tensors)) for i in range(1, 7)]
    first = predictor.decode(embedding, PROMPTS["point"]).logits
    each = [predictor.decode(other, PROMPTS["point"]).logits for other in others]
    assert all(not np.array_equal(first, logits) for logits in each)
    np.testing.assert_array_equal(predictor.decode(embedding, PROMPTS["point"]).logits, first)
    assert len(predictor._sides) == SIDES_KEPT


def test_an_embedding_of_either_kind_outlives_the_process(predictor, embedding):
    kept = predictor.unpack(predictor.pack(embedding))
    for one, other in zip(kept.tensors, embedding.tensors, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_grey_tiles_go_through_as_the_one_channel_that_they_are(predictor):
    grey = np.repeat(np.random.default_rng(0).integers(0, 255, (1, 1024, 1024, 1), np.uint8), 3, -1)
    coloured = grey.copy()
    coloured[0, 0, 0, 0] ^= 1
    seen = []
    handle = predictor._encoder.patch_embed.register_forward_hook(
        lambda module, inputs, out: seen.append(inputs[0].shape)
    )
    one, other = (predictor.encode(tiles)[0].tensors[0] for tiles in (grey, coloured))
    handle.remove()
    assert [shape[1] for shape in seen] == [1, 3]
    torch.testing.assert_close(one, other, atol=0.02, rtol=0.01)


def test_the_image_encoder_compiles_in_one_piece(network, family, predictor):
    """What an inductor on a GPU is given: traced by torch as a whole, with the same answer."""
    tile = np.random.default_rng(0).integers(0, 255, (1, 1024, 1024, 3), np.uint8)
    compiled = predictor_of(network, family)
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    compiled.compile(backend)
    (plain,), (answer,) = predictor.encode(tile), compiled.encode(tile)
    assert len(seen) == 1
    for one, other in zip(answer.tensors, plain.tensors, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)


def test_compiling_is_refused_where_nothing_is_gained(tmp_path):
    with pytest.raises(ModelError, match="on a GPU"):
        load_predictor("compact", "cpu", compiled=True)
