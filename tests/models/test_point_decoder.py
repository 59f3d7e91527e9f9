"""Many lone points of one tile: the answers of one point after the other, and only those that pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam.core.predictor import Embedding, PointsPredictor
from napari_sam.core.prompts import TilePrompts
from napari_sam.models.sam import SamPredictor, build
from napari_sam.models.sam import network as networks
from napari_sam.models.sam.decoders import point_decoder
from napari_sam.models.sam.network import ViTSize

POINTS = np.random.default_rng(0).uniform(0, 1024, (5, 2))


def predictor_of(family, precision="float32"):
    """A SAM of full width behind a small image encoder; none of its weights is degenerate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.SIZES, "vit_b", ViTSize(96, 2, 3, (1,)))
        torch.manual_seed(5)
        network = build(family).eval().requires_grad_(False)
        with torch.no_grad():
            for name, parameter in network.mask_decoder.named_parameters():
                if "hypernetworks" in name and "layers.2.weight" in name:
                    parameter.mul_(10)
                elif "norm" in name or "bias" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        cpu = torch.device("cpu")
        return SamPredictor(network.state_dict(), family, name="any", digest="0", device=cpu, precision=precision)


@pytest.fixture(scope="module", params=["vit_b", "hq_vit_b"])
def predictor(request):
    return predictor_of(request.param)


@pytest.fixture(scope="module")
def embedding(predictor):
    random = torch.Generator().manual_seed(1)
    shapes = [(1, 256, 64, 64), (1, 32, 256, 256)][: 1 if predictor._hq is None else 2]
    return Embedding(tuple(torch.randn(shape, generator=random) for shape in shapes))


@pytest.fixture(scope="module")
def singly(predictor, embedding):
    """The answer to each point alone."""
    prompts = [TilePrompts(point[None].astype(np.float32), np.ones(1, bool)) for point in POINTS]
    return [predictor.decode(embedding, prompt) for prompt in prompts]


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_the_answers_are_those_of_one_point_after_the_other(predictor, embedding, singly, at_once, monkeypatch) -> None:
    monkeypatch.setitem(point_decoder.POINTS_AT_ONCE, "cpu", at_once)
    assert isinstance(predictor, PointsPredictor)
    answers = list(predictor.decode_points(embedding, POINTS, -1.0))
    assert [answer.index for answer in answers] == list(range(len(POINTS)))
    for answer, single in zip(answers, singly, strict=True):
        assert single.logits.std() > 0.5
        np.testing.assert_allclose(answer.logits, single.logits, atol=1e-4 * np.abs(single.logits).max())
        np.testing.assert_allclose(answer.iou_prediction, single.iou_prediction, atol=1e-5)


def test_only_masks_whose_predicted_iou_passes_come_back(predictor, embedding, singly) -> None:
    scores = np.array([single.iou_prediction for single in singly])
    least = float(np.sort(scores.ravel())[-4] + np.sort(scores.ravel())[-5]) / 2
    answers = list(predictor.decode_points(embedding, POINTS, least))
    passing = [(i, np.flatnonzero(each >= least)) for i, each in enumerate(scores) if (each >= least).any()]
    assert [answer.index for answer in answers] == [i for i, _ in passing]
    for answer, (i, masks) in zip(answers, passing, strict=True):
        np.testing.assert_allclose(answer.iou_prediction, scores[i, masks], atol=1e-5)
        np.testing.assert_allclose(answer.logits, singly[i].logits[masks], atol=1e-3)
    assert sum(len(answer.logits) for answer in answers) == 4
    assert not list(predictor.decode_points(embedding, POINTS, 2.0))
    assert not list(predictor.decode_points(embedding, POINTS[:0], -1.0))


def test_another_tile_gets_answers_of_its_own(predictor, embedding) -> None:
    other = Embedding(tuple(torch.roll(part, 5, -1) for part in embedding.tensors))
    here, there, again = (next(iter(predictor.decode_points(e, POINTS, -1.0))) for e in (embedding, other, embedding))
    assert not np.array_equal(here.logits, there.logits)
    np.testing.assert_array_equal(here.logits, again.logits)


def test_a_predictor_in_bfloat16_answers_nearly_the_same() -> None:
    embedding = Embedding((torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(1)),))
    exact, rough = (
        next(iter(predictor_of("vit_b", precision).decode_points(embedding, POINTS, -1.0)))
        for precision in ("float32", "bfloat16")
    )
    assert np.abs(exact.logits - rough.logits).mean() < 0.05 * exact.logits.std()
