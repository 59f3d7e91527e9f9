"""The grid of points beside the official generator: the same grid, the same thresholds, the same masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.models.official_sam import official_package

from napari_sam import Segmenter
from napari_sam.core.masks import iou, stability_score
from napari_sam.everything.options import GridOptions
from napari_sam.models.sam import SamPredictor
from napari_sam.models.sam import network as networks
from napari_sam.models.sam.network import ViTSize

SIDE, POINTS = 1024, 3
SAME = 0.98


@pytest.fixture(scope="module")
def official():
    """The official SAM behind a small image encoder, whose masks are smooth parts of the image."""
    with official_package():
        from segment_anything.build_sam import _build_sam

        torch.manual_seed(3)
        sam = _build_sam(96, 2, 3, [1]).eval().requires_grad_(False)
        with torch.no_grad():
            sam.image_encoder.pos_embed.normal_(0, 0.3)
            for layer in (sam.mask_decoder.output_upscaling[0], sam.mask_decoder.output_upscaling[3]):
                layer.weight.copy_(layer.weight[:, :, :1, :1].expand_as(layer.weight))
            for mlp in sam.mask_decoder.output_hypernetworks_mlps:
                mlp.layers[-1].weight.mul_(200)
                mlp.layers[-1].bias.mul_(200)
        yield sam


@pytest.fixture(scope="module")
def predictor(official):
    """Ours, with the same weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.SIZES, "vit_b", ViTSize(96, 2, 3, (1,)))
        state = {key: value for key, value in official.state_dict().items() if not key.startswith("pixel_")}
        yield SamPredictor(state, "vit_b", name="any", digest="0", device=torch.device("cpu"), precision="float32")


@pytest.fixture(scope="module")
def image():
    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (16, 16, 3), np.uint8)
    return np.kron(coarse, np.ones((64, 64, 1), np.uint8))


def official_masks(official, image, **options):
    from segment_anything import SamAutomaticMaskGenerator

    return SamAutomaticMaskGenerator(official, points_per_side=POINTS, points_per_batch=4, **options).generate(image)


def our_masks(predictor, image, **options):
    segmenter = Segmenter(image, model=predictor, rgb=True, contrast_limits=(0, 255))
    return segmenter.everything(grid=GridOptions(points_per_side=POINTS, adaptive=False, **options))


@pytest.fixture(scope="module")
def answers(predictor, image):
    """Scores and logits of all masks, to choose thresholds between them."""
    (embedding,) = predictor.encode(image[None])
    at = (np.arange(POINTS) + 0.5) * SIDE / POINTS
    grid = np.stack(np.meshgrid(at, at, indexing="ij"), -1).reshape(-1, 2)
    found = list(predictor.decode_points(embedding, grid, -1.0))
    return np.concatenate([answer.iou_prediction for answer in found]), [m for answer in found for m in answer.logits]


def widest_gap(values: np.ndarray) -> float:
    """Return the middle of the widest gap in the inner half of some values."""
    inner = np.sort(values)[len(values) // 4 : -len(values) // 4]
    at = np.diff(inner).argmax()
    return float((inner[at] + inner[at + 1]) / 2)


@pytest.mark.parametrize(
    "options",
    [
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.001, "box_nms_thresh": 1.0},
        {"pred_iou_thresh": "gap", "stability_score_thresh": 0.001, "box_nms_thresh": 1.0},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": "gap", "box_nms_thresh": 1.0},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.001, "box_nms_thresh": 0.9},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": "gap", "stability_score_offset": 3.0, "box_nms_thresh": 1.0},
    ],
    ids=["all", "predicted IoU", "stability", "boxes", "offset"],
)
def test_the_masks_are_those_of_the_official_generator(official, predictor, image, answers, options) -> None:
    scores, logits = answers
    stable = np.array([stability_score(mask, options.get("stability_score_offset", 1.0)) for mask in logits])
    for name, values in (("pred_iou_thresh", scores), ("stability_score_thresh", stable)):
        if options[name] == "gap":
            options = {**options, name: widest_gap(values)}
    theirs, found = official_masks(official, image, **options), our_masks(predictor, image, **options)
    assert theirs
    assert len(theirs) == len(found)
    masks = [found.mask(i).to_array((SIDE, SIDE)) for i in range(len(found))]
    for each in theirs:
        best = int(np.argmax([iou(each["segmentation"], mask) for mask in masks]))
        assert iou(each["segmentation"], masks[best]) >= SAME
        assert found.scores[best] == pytest.approx(np.clip(each["predicted_iou"], 0, 1), abs=1e-4)
        # Theirs is measured after the logits are enlarged.
        assert found.stability[best] == pytest.approx(each["stability_score"], abs=0.06)
        (point,) = each["point_coords"]
        np.testing.assert_allclose(found.proposals.points[best], point[::-1], atol=1e-6)
