"""The candidate scorer: what it compares, and that it can be fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_sam.core.geometry import Box
from napari_sam.core.predictor import Decoded
from napari_sam.core.prompts import TilePrompts
from napari_sam.core.tiles import TileGrid
from napari_sam.models.compact import Compact, CompactPredictor
from napari_sam.models.compact.candidate_scorer import (
    COMPARED_FEATURES,
    DECODER_FEATURES,
    SIZE_WEIGHT,
    CandidateScorer,
    UsualSize,
    agreement,
    comparison_features,
    dense_features,
    prompt_features,
)
from napari_sam.training.scorer.examples import Example
from napari_sam.training.scorer.fit import fit_scorer

GRID = TileGrid((1024, 1024), 256)
CENTER = (400.0, 400.0)
CUT = 7


def square_on(tile, top, left, side):
    """Return logits (1, 64, 64) of a square in level-0 pixels, as the tile sees it."""
    cells = np.full((1, 64, 64), -8, np.float32)
    rows = tile.read.top + (np.arange(64) + 0.5) * tile.step[0] * 4
    cols = tile.read.left + (np.arange(64) + 0.5) * tile.step[1] * 4
    inside = np.outer((rows >= top) & (rows < top + side), (cols >= left) & (cols < left + side))
    cells[0, inside] = 8
    return cells


def test_masks_of_one_object_agree_on_tiles_of_two_levels():
    fine, coarse = GRID.tile_at(0, *CENTER), GRID.tile_at(1, *CENTER)
    object_ = (384, 384, 64)
    whole, common = agreement(fine, square_on(fine, *object_), coarse, square_on(coarse, *object_))
    assert whole[0, 0] == pytest.approx(1)
    assert common[0, 0] == pytest.approx(1)
    whole, _ = agreement(fine, square_on(fine, *object_), coarse, square_on(coarse, 384, 384, 128))
    assert whole[0, 0] == pytest.approx(1 / 4)
    whole, _ = agreement(fine, square_on(fine, *object_), coarse, square_on(coarse, 200, 200, 64))
    assert whole[0, 0] == 0


def test_what_the_finer_tile_does_not_see_counts_in_the_whole_and_not_in_the_common_part():
    fine, coarse = GRID.tile_at(-1, *CENTER), GRID.tile_at(2, *CENTER)
    seen = fine.read
    object_ = (seen.top, seen.left, 512)
    whole, common = agreement(fine, square_on(fine, *object_), coarse, square_on(coarse, *object_))
    assert whole[0, 0] < 0.1
    assert common[0, 0] > 0.9


def answers_at(levels, *, predicted=(0.9, 0.6, 0.3), seed=0):
    rng = np.random.default_rng(seed)
    answers = []
    for level in levels:
        tile = GRID.tile_at(level, *CENTER)
        logits = np.concatenate([square_on(tile, 384, 384, side) for side in (16, 64, 128)])
        features = rng.normal(size=(3, DECODER_FEATURES)).astype(np.float32)
        answers.append((tile, Decoded(logits, np.array(predicted, np.float32), features)))
    return answers


def test_the_order_of_the_tiles_changes_nothing():
    answers = answers_at([-1, 0, 1, 2])
    features = comparison_features(answers)
    assert features.shape == (4, 3, COMPARED_FEATURES)
    np.testing.assert_array_equal(comparison_features(answers[::-1]), features[::-1])


def test_a_single_tile_can_be_scored_too():
    features = comparison_features(answers_at([0]))
    assert np.isfinite(features).all()
    assert not features[..., 9:].any()


def test_a_mask_is_cut_by_the_border_of_its_tile_but_not_by_that_of_the_image():
    inner = GRID.tile_at(0, *CENTER)
    corner = GRID.tile_at(0, 5, 5)
    for tile, is_cut in ((inner, True), (corner, False)):
        logits = square_on(tile, tile.read.top, tile.read.left, 64)
        features = comparison_features([(tile, Decoded(logits, np.array([0.5], np.float32)))])
        assert bool(features[0, 0, CUT] > 0) is is_cut


def test_a_mask_is_compared_with_its_prompts():
    logits = np.full((2, 64, 64), -8, np.float32)
    logits[0, 10:20, 10:20] = 8
    points, labels = np.array([(60, 60), (60, 200), (44, 44)], np.float32), np.array([True, True, False])
    earlier = np.where(logits[0] > 0, 5, -5).astype(np.float32)
    earlier[10:20, 20:30] = 5
    prompts = TilePrompts(points, labels, Box(40, 40, 80, 120), earlier)
    np.testing.assert_allclose(prompt_features(logits, prompts)[0], [0.5, 1, 1, 0.5, 1, 0.5])
    np.testing.assert_allclose(prompt_features(logits, prompts)[1], [0, 0, 1, 0, 1, 0])
    assert not prompt_features(logits, TilePrompts()).any()


def test_a_mask_is_compared_with_the_guesses_of_its_cells():
    logits, region = torch.full((1, 2, 64, 64), -50.0), torch.zeros(1, 2, 64, 64)
    centers = torch.zeros(1, 3, 64, 64)
    logits[0, 0, 10:30, 10:30] = logits[0, 1, 10:20, 10:30] = 50.0
    region[0, 0, 10:30, 10:30] = 1  # The first mask is all of the foreground, the second one half of it.
    region[0, 1, 9:31, 9:31] = 1
    region[0, 1, 10:30, 10:30] = 0
    centers[:, 2] = np.log(80 / np.sqrt(np.pi))
    whole, half = dense_features(logits, region, centers)[0]
    np.testing.assert_allclose(whole, [1, 0, 0, 1, 0], atol=0.02)
    assert half[0] == pytest.approx(1, abs=0.02)
    assert half[1] > 0.2  # The rest of the object lies around it.
    assert half[3] < 0.7
    assert half[4] == pytest.approx(0.5 * np.log(2), abs=0.02)


def test_the_embedded_model_scores_what_it_decodes(compact):
    assert compact.compares_tiles
    scores = compact.score(answers_at([0, 1]))
    assert scores.shape == (2, 3)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_weights_without_a_scorer_still_load_and_compare_no_tiles():
    predictor = CompactPredictor(Compact().state_dict(), name="plain", digest="0", device=torch.device("cpu"))
    assert not predictor.compares_tiles


def made_examples(count, seed=0):
    """Examples whose best mask shows in one feature of the decoder."""
    rng = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        described = rng.normal(3, 2, (2, 3, DECODER_FEATURES)).astype(np.float16)
        ious = 1 / (1 + np.exp(3 - described[..., 5].astype(np.float32)))
        compared = rng.normal(size=(2, 3, COMPARED_FEATURES)).astype(np.float32)
        examples.append(Example(described, compared, ious, "made"))
    return examples


def test_a_fitted_scorer_finds_the_best_mask_of_new_examples():
    scorer = fit_scorer(made_examples(300), epochs=30)
    right = 0
    new = made_examples(100, seed=1)
    for example in new:
        with torch.inference_mode():
            scores = scorer(torch.from_numpy(example.described.astype(np.float32)), torch.from_numpy(example.compared))
        right += int(scores.argmax()) == int(example.ious.argmax())
    assert right > 60  # One in six by chance.


def test_equal_examples_and_seed_give_equal_scorers_and_leave_the_random_numbers_alone():
    examples = made_examples(20)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, two = (fit_scorer(examples, seed=5, epochs=2).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_examples_of_different_numbers_of_tiles_can_be_fitted_together():
    first, second = made_examples(2)
    short = replace(second, described=second.described[:1], compared=second.compared[:1], ious=second.ious[:1])
    scorer = fit_scorer([first, short], epochs=64)
    assert isinstance(scorer, CandidateScorer)
    assert all(torch.isfinite(value).all() for value in scorer.state_dict().values())


def clicked(level, **changes):
    """Return an answer to one positive click: squares of 16, 64 and 128 pixels."""
    tile, decoded = answers_at([level])[0]
    features = decoded.features.copy()
    features[:, DECODER_FEATURES - 6 :] = 0
    for column, value in changes.items():
        features[:, DECODER_FEATURES - 6 + ("positive", "negative", "box", "_", "mask").index(column)] = value
    return tile, replace(decoded, features=features)


def of_size(side, spread=0.5):
    usual = UsualSize()
    usual.load_state_dict({"log_area": torch.tensor([2 * np.log(side), spread])})
    return usual


@pytest.mark.parametrize(("side", "best"), [(16, 0), (64, 1), (128, 2)])
def test_of_answers_to_a_first_click_that_of_the_usual_size_counts_most(side, best):
    scores, answers = np.full((2, 3), 0.7, np.float32), [clicked(0, positive=1), clicked(1, positive=1)]
    adjusted = of_size(side).adjusted(scores, answers)
    assert (adjusted.argmax(axis=1) == best).all()
    assert adjusted[:, best] == pytest.approx(0.7, abs=0.005)
    # However unusual, a much better mask stays the best one.
    assert (adjusted >= 0.7 - 2 * SIZE_WEIGHT - 1e-6).all()


@pytest.mark.parametrize("prompt", ["negative", "box", "mask"])
def test_prompts_that_say_more_of_the_size_leave_the_scores_as_they_are(prompt):
    scores = np.full((1, 3), 0.7, np.float32)
    adjusted = of_size(16).adjusted(scores, [clicked(0, positive=1, **{prompt: 1})])
    assert (adjusted == scores).all()


def test_objects_of_quite_another_size_are_judged_as_before():
    scores = np.array([[0.3, 0.6, 0.5]], np.float32)
    assert of_size(4000).adjusted(scores, [clicked(0, positive=1)]) == pytest.approx(scores)


def test_weights_of_a_model_that_was_taught_hold_the_usual_size():
    network = Compact(has_scorer=True, has_usual_size=True)
    again = Compact.matching(network.state_dict())
    again.load_state_dict(network.state_dict())
    assert again.usual_size is not None
    assert Compact.matching(Compact().state_dict()).usual_size is None
