"""Objects by words, over many tiles: each once, none cut, only where it was asked for."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from napari_sam import Segmenter, find
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask, touches_border
from napari_sam.errors import ModelError, PromptError
from napari_sam.word_search.views import View, proposals_of, whole_objects


@pytest.fixture
def reader(fake_predictor):
    """A model that finds the bright parts of a tile when it is asked for discs, and nothing else."""
    fake_predictor.finds_text = True
    fake_predictor.asked = []

    def find_in(embedding, text, threshold=0.5):
        fake_predictor.asked.append(text)
        bright = embedding.tensors[0][0].float().mean(0).numpy() > 100
        cells = bright.reshape(16, 4, 16, 4).mean((1, 3)) > 0.3
        parts, count = ndimage.label(cells)
        logits = [np.where(parts == number, 5, -5) for number in range(1, count + 1)] if text == "disc" else []
        scores = [0.5 + 0.4 * (parts == n).sum() / parts.size for n in range(1, len(logits) + 1)]
        return SimpleNamespace(logits=np.array(logits, np.float32).reshape(-1, 16, 16), scores=np.array(scores))

    fake_predictor.find = find_in
    return fake_predictor


@pytest.fixture
def field(counting_array):
    return counting_array(shape=(400, 500))


def test_every_object_is_found_once_and_whole(reader, field):
    masks = find(Segmenter(field, model=reader, contrast_limits=(0, 255)), "disc")
    centres = sorted((round(m.box.center[0]), round(m.box.center[1])) for m in masks)
    expected = [(50 + 100 * row, 50 + 100 * col) for row in range(4) for col in range(5)]
    assert len(masks) == 20
    np.testing.assert_allclose(centres, expected, atol=3)
    assert min(mask.area for mask in masks) > 250
    assert [m.iou_prediction for m in masks] == sorted((m.iou_prediction for m in masks), reverse=True)


def test_only_the_box_is_searched(reader, field):
    segmenter = Segmenter(field, model=reader, contrast_limits=(0, 255))
    masks = find(segmenter, "disc", box=(30, 30, 170, 70))
    assert sorted(round(mask.box.center[0] / 100 - 0.5) for mask in masks) == [0, 1]
    assert len(reader.asked) < 30
    assert find(segmenter, "unicorn") == []


def test_a_coarser_look_takes_fewer_tiles_and_finds_larger_objects(reader, field):
    segmenter = Segmenter(field, model=reader, contrast_limits=(0, 255))
    masks = find(segmenter, "disc", downsample=2)
    assert len(masks) == 20
    fine = len(reader.asked)
    reader.asked.clear()
    find(segmenter, "disc", downsample=4)
    assert 0 < len(reader.asked) < fine


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"text": "  "}, PromptError, "name the objects"),
        ({"text": "disc", "downsample": 0}, PromptError, "above 0"),
        ({"text": "disc", "box": (900, 900, 950, 950)}, PromptError, "outside the image"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(reader, field, options, error, words):
    with pytest.raises(error, match=words):
        find(Segmenter(field, model=reader, contrast_limits=(0, 255)), **options)


def test_a_model_that_takes_no_text_says_which_does(fake_predictor, field):
    with pytest.raises(ModelError, match="use SAM 3"):
        find(Segmenter(field, model=fake_predictor), "disc")


def test_of_two_views_of_an_object_the_whole_one_stays():
    from napari_sam.core.tiles import TileGrid

    grid = TileGrid((400, 400), 64)
    whole = Mask(Box(20, 20, 40, 60), np.ones((20, 40), bool), 0.6, 1.0, None, grid.tile_at(0, 32, 32))
    cut = Mask(Box(20, 32, 40, 60), np.ones((20, 28), bool), 0.9, 1.0, None, grid.tile_at(0, 20, 70))
    other = Mask(Box(45, 20, 60, 60), np.ones((15, 40), bool), 0.3, 1.0, None, grid.tile_at(0, 32, 32))
    masks = [cut, other, whole]
    is_cut = np.array([touches_border(mask, grid.shape) for mask in masks])
    proposals = proposals_of([View(*pair) for pair in zip(masks, is_cut, strict=True)], 0)
    assert [masks[i] for i in whole_objects(proposals, is_cut)] == [whole, other]
