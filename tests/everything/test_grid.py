"""GridProposer: any model asked at points, with the thresholds of SAM's mask generator."""

from __future__ import annotations

import numpy as np
import pytest
from tests.everything.scenes import assert_each_is_found_once, discs, picture, segmenter_of

from napari_sam.core.predictor import Decoded
from napari_sam.errors import NapariSamError
from napari_sam.everything.options import GridOptions
from napari_sam.testing import BlobFinder, FakePredictor

SHAPE = (120, 150)
# The fake is sure of regions that fill a third of its tile of 64 pixels.
LABELS = discs(SHAPE, [(20, 20), (30, 75), (64, 32), (64, 96), (96, 64), (100, 130)], 10)
# The sizes of which a tile reads 64 x 64 pixels.
ONE_LEVEL = (30, 36)
# Of points at its border the fake finds rests of an object, and thinks less of them.
POINTS = {"points_per_side": 8, "pred_iou_thresh": 0.9, "stability_score_thresh": 0.9}


def grid(**changes: object) -> GridOptions:
    return GridOptions(**{**POINTS, **changes})  # type: ignore[arg-type]


def found_with(options: GridOptions, model: FakePredictor | None = None, pixels: np.ndarray | None = None, **more):
    segmenter = segmenter_of(picture(LABELS) if pixels is None else pixels, model or FakePredictor())
    return segmenter.everything(grid=options, **{"sizes": ONE_LEVEL, **more})


def test_a_model_that_guesses_nothing_finds_each_object_once_and_whole() -> None:
    assert_each_is_found_once(found_with(grid()), LABELS, 0.7)


def test_points_that_are_explained_are_not_asked_again_and_the_objects_are_the_same() -> None:
    sparing, thorough = FakePredictor(), FakePredictor()
    few, many = found_with(grid(), sparing), found_with(grid(adaptive=False), thorough)
    assert len(sparing.decoded) < len(thorough.decoded)
    assert_each_is_found_once(few, LABELS, 0.7)
    assert_each_is_found_once(many, LABELS, 0.7)


def test_every_point_of_the_grid_is_asked_on_one_tile_only() -> None:
    """Tiles overlap, and a point belongs to the tile that owns it."""
    model = FakePredictor()
    pixels = np.full((128, 128), 20, np.uint8)
    pixels[::2] = 24  # Not uniform, and without objects.
    found_with(grid(adaptive=False), model, pixels, sizes=ONE_LEVEL)
    tiles = len(model.encoded)
    assert tiles > 4
    assert len(model.decoded) == pytest.approx((128 / 64 * 8) ** 2, rel=0.01)


def test_a_model_with_guesses_is_asked_at_the_grid_only_on_request() -> None:
    model = BlobFinder()
    segmenter = segmenter_of(picture(LABELS), model)
    segmenter.everything(sizes=ONE_LEVEL)
    assert model.windows
    assert not model.decoded
    model.windows.clear()
    found = segmenter.everything(sizes=ONE_LEVEL, grid=grid())
    assert model.decoded
    assert not model.windows
    assert_each_is_found_once(found, LABELS, 0.7)


class Unsure(FakePredictor):
    """Model whose masks have set scores and logits: the first is sure, the second is not stable."""

    def decode(self, embedding, prompts) -> Decoded:
        answer = super().decode(embedding, prompts)
        logits = np.sign(answer.logits) * np.array([5, 0.5, 5], np.float32)[:, None, None]
        return Decoded(logits, np.array([0.6, 0.95, 0.3], np.float32))


@pytest.mark.parametrize(
    ("least_iou", "least_stability", "scores"),
    [
        (0.0, 0.0, {0.6, 0.95, 0.3}),
        (0.5, 0.0, {0.6, 0.95}),
        (0.0, 0.9, {0.6, 0.3}),
        (0.5, 0.9, {0.6}),
        (0.7, 0.9, set()),
    ],
)
def test_only_masks_that_pass_both_thresholds_are_proposed(least_iou, least_stability, scores) -> None:
    options = grid(
        pred_iou_thresh=least_iou, stability_score_thresh=least_stability, box_nms_thresh=1.0, adaptive=False
    )
    found = found_with(options, Unsure(), discs(SHAPE, [(64, 64)], 10).astype(np.uint8) * 200)
    on_object = found.scores[found.areas < 2000]
    assert {round(float(score), 2) for score in on_object} == scores


def test_of_masks_with_nearly_one_box_the_best_one_is_proposed() -> None:
    pixels = picture(discs(SHAPE, [(64, 64)], 10))
    strict = found_with(grid(box_nms_thresh=0.3, pred_iou_thresh=0.5, adaptive=False), None, pixels)
    loose = found_with(grid(box_nms_thresh=1.0, pred_iou_thresh=0.5, adaptive=False), None, pixels)
    assert len(strict) < len(loose)
    assert strict.scores.max() == loose.scores.max()


def test_small_parts_and_holes_are_removed_at_the_size_of_the_image() -> None:
    labels = discs(SHAPE, [(64, 64)], 11)
    labels[60:68, 60:68] = 0  # Whole cells of the fake.
    found, cleaned = (found_with(grid(min_mask_region_area=least), None, picture(labels)) for least in (0, 100))
    best, whole = (each.mask(int(each.select()[0])) for each in (found, cleaned))
    middle = 64 - best.box.top, 64 - best.box.left
    assert not best.pixels[middle]
    assert whole.pixels[64 - whole.box.top, 64 - whole.box.left]
    none = found_with(grid(min_mask_region_area=5000), None, picture(labels))
    assert not [area for area in none.areas if area < 5000]


def test_more_layers_ask_at_finer_levels_too() -> None:
    labels = discs((500, 500), [(120, 120), (300, 320)], 60)
    labels = np.where(discs((500, 500), [(420, 80), (80, 420)], 30) > 0, 3, labels)
    segmenter = segmenter_of(picture(labels), FakePredictor())
    levels = [segmenter.sweep(plane=segmenter.plane(), grid=grid(crop_n_layers=layers)).levels for layers in (0, 1, 2)]
    assert [len(each) for each in levels] == [1, 2, 3]
    assert set(levels[0]) < set(levels[1]) < set(levels[2])
    assert max(levels[2]) - min(levels[2]) == 2
    assert max(levels[2]) == max(levels[0]), "finer ones"
    one, three = (segmenter.everything(grid=grid(crop_n_layers=layers)) for layers in (0, 2))
    assert set(one.proposals.levels.tolist()) < set(three.proposals.levels.tolist())


def test_finer_layers_ask_fewer_points_by_the_downscale_factor() -> None:
    pixels = np.full((128, 128), 20, np.uint8)
    pixels[::2] = 24  # Not uniform, and without objects.
    asked = []
    for factor in (1, 2):
        model = FakePredictor()
        options = grid(adaptive=False, crop_n_layers=1, crop_n_points_downscale_factor=factor)
        found_with(options, model, pixels, sizes=None)
        asked.append(len(model.decoded))
    coarse, fine = (128 / 64 * 8) ** 2, (256 / 64 * 8) ** 2
    assert asked == [pytest.approx(coarse + fine, rel=0.02), pytest.approx(coarse + fine / 4, rel=0.02)]


def test_tiles_that_overlap_less_are_fewer() -> None:
    assert GridOptions().tile_overlap == 0.5
    segmenter = segmenter_of(picture(discs((500, 500), [(120, 120)], 60)), FakePredictor())
    tiles = [
        len(segmenter.sweep(plane=segmenter.plane(), sizes=ONE_LEVEL, grid=grid(crop_overlap_ratio=ratio)).tiles)
        for ratio in (0.0, 0.1, 512 / 1500)
    ]
    assert tiles[0] == 64, "no overlap"
    assert tiles == sorted(set(tiles))


def test_the_offset_of_the_stability_score_decides_which_masks_are_stable() -> None:
    pixels = discs(SHAPE, [(64, 64)], 10).astype(np.uint8) * 200
    options = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.9, "box_nms_thresh": 1.0, "adaptive": False}
    found = [found_with(grid(stability_score_offset=offset, **options), Unsure(), pixels) for offset in (1.0, 0.2)]
    scores = [{round(float(score), 2) for score in each.scores[each.areas < 2000]} for each in found]
    assert scores == [{0.6}, {0.6, 0.95}]


def test_a_mask_that_its_tile_cuts_suppresses_none_that_is_whole() -> None:
    """Of two masks with nearly one box the better one reaches the border of the tile inside the image."""
    labels = discs(SHAPE, [(40, 50)], 12)
    found = found_with(grid(box_nms_thresh=0.05), None, picture(labels))
    assert_each_is_found_once(found, labels, 0.7)


def test_a_mask_without_a_positive_logit_is_no_proposal_even_without_thresholds() -> None:
    options = grid(pred_iou_thresh=0.0, stability_score_thresh=0.0, adaptive=False)
    found = found_with(options, None, picture(discs(SHAPE, [(64, 64)], 3)))
    assert (found.areas > 0).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("points_per_side", 0),
        ("points_per_side", 2.5),
        ("pred_iou_thresh", 1.5),
        ("stability_score_thresh", float("nan")),
        ("box_nms_thresh", "0.7"),
        ("crop_n_layers", -1),
        ("min_mask_region_area", -5),
        ("stability_score_offset", -1.0),
        ("crop_overlap_ratio", 2),
        ("crop_n_points_downscale_factor", 0),
    ],
)
def test_options_that_make_no_sense_are_refused(name: str, value: object) -> None:
    with pytest.raises(NapariSamError, match=name):
        GridOptions(**{name: value})  # type: ignore[arg-type]
