"""Measuring a lesson: objects found alone, the rehearsal, and the share of the way that is kept."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.training.teaching.conftest import CENTERS, SHAPE, disc

from napari_sam.core.masks import mask_of
from napari_sam.training.teaching.measuring import alone
from napari_sam.training.teaching.measuring.choice import SHARES, Choice, choose, sized
from napari_sam.training.teaching.measuring.held_back import Figures, either, held_back, watched
from napari_sam.training.teaching.measuring.rehearsal import rehearsal
from napari_sam.training.teaching.measuring.sizes import LEAST_SPREAD, usual_log_area
from napari_sam.training.teaching.regions import Region


def discs(background):
    count = len(CENTERS)
    objects = np.full(SHAPE, background, np.int32)
    for number, center in enumerate(CENTERS, 1):
        objects[disc(center)] = number
    numbers = np.arange(1, count + 1, dtype=np.int32)
    return Region(np.zeros((*SHAPE, 3), np.uint8), objects, numbers, numbers.astype(np.int64), np.zeros(count, bool))


@pytest.fixture
def found(monkeypatch):
    """Masks that a search finds, in place of those of a model."""
    masks, places = [], []

    class Found:
        def __init__(self, *_, **__):
            pass

        def everything(self, *, within, sizes):
            places.append(within)
            inside = [mask_of(one) for one in masks if (one & within).any()]
            return SimpleNamespace(select=lambda: range(len(inside)), mask=inside.__getitem__)

    monkeypatch.setattr(alone, "Segmenter", Found)
    return masks, places


def test_only_held_back_objects_and_what_lies_next_to_them_count(found):
    masks, places = found
    # The second disc is held back and found; the fourth one is held back and is missed; something lies next to it.
    masks += [disc(CENTERS[1], 17), disc((40, 250), 8), disc(CENTERS[0]), disc((80, 80), 6)]
    held = [np.isin(np.arange(12), (1, 3))]
    region = discs(0)
    result = alone.found_alone([region], held, None)
    assert (result.found, result.missed, result.wrong) == (1, 1, 1)
    assert (result.measure, result.value) == ("F1", 0.5)
    # Far from them nothing is searched.
    assert not places[0][CENTERS[11]]


def test_where_nothing_is_complete_it_is_the_recall(found):
    masks, _ = found
    masks += [disc(CENTERS[1], 17), disc((40, 250), 8)]
    result = alone.found_alone([discs(-1)], [np.isin(np.arange(12), (1, 3))], None)
    assert (result.measure, result.value, result.wrong) == ("recall", 0.5, 0)


def test_complete_places_are_preferred(found):
    masks, _ = found
    masks.append(disc(CENTERS[3], 17))
    region = discs(-1)
    region.objects[:140, 190:][region.objects[:140, 190:] == -1] = 0
    result = alone.found_alone([region], [np.isin(np.arange(12), (0, 3))], None)
    assert (result.measure, result.found, result.missed) == ("F1", 1, 0)


def test_the_rehearsal_has_objects_of_three_kinds_that_are_whole():
    regions = rehearsal()
    assert [len(region.numbers) for region in regions] == [3, 2, 1, 3]
    for region in regions:
        areas = np.bincount(region.objects.ravel())[region.numbers]
        assert areas.min() > 40
        assert areas.max() < 0.3 * region.objects.size
        inside = [region.pixels[region.objects == number].std(0).mean() for number in region.numbers]
        assert max(inside) < region.pixels.std((0, 1)).mean()


def figures(value):
    return Figures(*np.full((3, 4), value))


@pytest.mark.parametrize(
    ("gains", "losses", "share"),
    [
        ({1.0: 0.2, 0.8: 0.15, 0.6: 0.1, 0.4: 0.05}, {1.0: 0.02}, 1.0),
        ({1.0: 0.2, 0.8: 0.15, 0.6: 0.1, 0.4: 0.05}, {1.0: 0.08, 0.8: 0.05, 0.6: 0.02}, 0.6),
        ({1.0: 0.1, 0.8: 0.15, 0.6: 0.12, 0.4: 0.05}, {0.8: 0.03}, 0.8),
        ({1.0: 0.2, 0.8: 0.15, 0.6: 0.1, 0.4: 0.05}, {1.0: 0.2, 0.8: 0.15, 0.6: 0.1, 0.4: 0.06}, 0.4),
    ],
)
def test_the_share_with_the_largest_gain_is_taken_that_forgets_little(gains, losses, share):
    base, last = {"w": torch.zeros(2)}, {"w": torch.tensor([1.0, 2.0])}

    def of(weights):
        return round(float(weights["w"][0]), 3)

    choice = choose(base, last, 0.75, lambda w, name: figures(0.5 + gains[of(w)]), lambda w, name: 0.75 - losses[of(w)])
    assert choice.share == share
    assert torch.allclose(choice.weights["w"], share * last["w"])
    assert choice.others == pytest.approx(0.75 - losses[share])
    assert [one for one, _, _ in choice.tried] == list(SHARES)
    # What was not needed was not rehearsed.
    assert {one for one, _, others in choice.tried if others is not None} == losses.keys()


@pytest.mark.parametrize(
    ("score", "others", "is_taken"),
    [(0.66, 0.74, True), (0.66, 0.71, False), (0.6, 0.75, False)],
)
def test_the_usual_size_is_kept_where_it_is_better_and_little_is_lost(score, others, is_taken):
    plain = Choice({"w": torch.zeros(2)}, 0.8, figures(0.6), 0.745)
    size = {"size": torch.ones(2)}
    choice = sized(plain, size, 0.75, lambda w, name: figures(score), lambda w, name: others)
    assert choice.knows_size is is_taken
    assert choice.weights.keys() == ({"w", "size"} if is_taken else {"w"})
    assert choice.others == (others if is_taken else 0.745)
    assert sized(plain, {}, 0.75, None, None) is plain


def test_the_usual_size_is_that_of_the_objects_that_teach():
    region, hidden = discs(-1), np.isin(np.arange(12), (0, 5))
    region.objects[region.objects == 1] = -1
    log_area = usual_log_area([region], [hidden])
    assert float(log_area[0]) == pytest.approx(np.log(np.pi * 18**2), abs=0.02)
    assert float(log_area[1]) == pytest.approx(LEAST_SPREAD, abs=0.01)
    assert usual_log_area([replace(region, step=2)], [hidden]) is None


def test_watched_objects_are_others_than_those_held_back_and_only_of_many():
    many = [Region(*_fields(40), image=image) for image in (0, 1)]
    held = held_back(many, seed=3)
    watch = watched(many, held, seed=3)
    assert sum(int(one.sum()) for one in watch) == 8
    assert not any((one & other).any() for one, other in zip(held, watch, strict=True))
    assert sum(int(one.sum()) for one in either(held, watch)) == 24
    few = [discs(-1)]
    assert not any(one.any() for one in watched(few, held_back(few, seed=3), seed=3))


def _fields(count):
    numbers = np.arange(1, count + 1, dtype=np.int32)
    objects = np.repeat(numbers[None], 4, 0)
    return np.zeros((4, count, 3), np.uint8), objects, numbers, numbers.astype(np.int64), np.zeros(count, bool)
