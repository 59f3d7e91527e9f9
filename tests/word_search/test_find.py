"""Segmenter.find: by a model that reads, by a detector whose boxes are filled, and by a ranker of all objects."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.everything.scenes import discs, segmenter_of
from tests.word_search.models import BrightnessRanker, DiscDetector

from napari_sam import FoundObjects, Segmenter
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.errors import ModelError, NapariSamError, PromptError
from napari_sam.everything.proposals import Proposals
from napari_sam.testing import DiscFinder, FakePredictor
from napari_sam.word_search.mask_ranker import picture_tile
from napari_sam.word_search.views import whole_objects

SHAPE = (300, 400)
CENTERS = [(row, col) for row in (50, 150, 250) for col in (50, 150, 250, 350)]
LABELS = discs(SHAPE, CENTERS, 11)
# The discs with an odd label are bright.
PIXELS = np.select([LABELS == 0, LABELS % 2 == 1], [20, 220], 120).astype(np.uint8)


def truths_of(found: FoundObjects) -> list[int]:
    """Return for each found object, by falling score, the disc that it covers with an IoU above 0.7."""
    numbers = []
    for i in range(len(found)):
        mask = found.mask(i).to_array(SHAPE)
        number = int(np.bincount(LABELS[mask]).argmax())
        assert (mask & (number == LABELS)).sum() / (mask | (number == LABELS)).sum() > 0.7
        numbers.append(number)
    return numbers


@pytest.fixture
def segmenter() -> Segmenter:
    return segmenter_of(PIXELS, FakePredictor())


@pytest.fixture
def detector() -> DiscDetector:
    return DiscDetector()


def test_a_model_that_reads_finds_each_object_once_in_steps_that_grow() -> None:
    segmenter = segmenter_of(PIXELS, DiscFinder())
    steps = segmenter.find_steps("disc")
    first = next(steps)
    assert (first.done, len(first.found)) == (0, 0)
    counts = [len(progress.found) for progress in steps]
    assert len(counts) == first.total
    assert 0 < counts[0] < counts[-1] == 12
    found = segmenter.find("disc")
    assert sorted(truths_of(found)) == list(range(1, 13))
    np.testing.assert_array_equal(found.select(), np.arange(12))
    assert len(segmenter.find("unicorn")) == 0


def test_a_search_can_be_closed_after_any_tile(segmenter: Segmenter, detector: DiscDetector) -> None:
    steps = segmenter.find_steps("disc", detector=detector)
    next(steps)
    assert detector.seen == []
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert len(detector.seen) == 1


def test_boxes_of_a_detector_are_filled_and_each_object_is_there_once(
    segmenter: Segmenter, detector: DiscDetector
) -> None:
    found = segmenter.find("disc", detector=detector)
    assert sorted(truths_of(found)) == list(range(1, 13))
    assert [number % 2 for number in truths_of(found)] == [1] * 6 + [0] * 6
    np.testing.assert_allclose(found.scores, [220 / 255] * 6 + [120 / 255] * 6, atol=0.05)
    for i in range(12):
        point = found.prompts(i).points[0]
        assert found.mask(i).to_array(SHAPE)[tuple(np.rint(point).astype(int))]
    # Objects are decoded on the tile that owns their center, or beside it where that is near a border.
    assert len(segmenter.predictor.decoded) < 6 * 12


def test_found_objects_are_accepted_with_one_undo(segmenter: Segmenter, detector: DiscDetector) -> None:
    found = segmenter.find("disc", detector=detector, threshold=0.6)
    assert len(found) == 6
    assert segmenter.accept_found(found) == [1, 2, 3, 4, 5, 6]
    assert set(np.unique(segmenter.labels)) == set(range(7))
    segmenter.undo()
    assert not np.any(segmenter.labels)


def test_only_the_region_is_searched(segmenter: Segmenter, detector: DiscDetector) -> None:
    found = segmenter.find("disc", detector=detector, box=(0, 0, 100, 200))
    assert sorted(truths_of(found)) == [1, 2]
    few = len(detector.seen)
    within = np.zeros(SHAPE, bool)
    within[200:, 300:] = True
    assert truths_of(segmenter.find("disc", detector=detector, within=within)) == [12]
    assert len(detector.seen) - few < few + 1 < 12


def test_a_detector_sees_neither_empty_tiles_nor_what_is_beyond_the_image(detector: DiscDetector) -> None:
    pixels = np.full((300, 1000), 20, np.uint8)
    pixels[:, :400] = PIXELS
    found = segmenter_of(pixels, FakePredictor()).find("disc", detector=detector)
    assert len(found) == 12
    assert len(detector.seen) < 4 * 15
    detector.seen.clear()
    small = segmenter_of(PIXELS[:100, :70], FakePredictor()).find("disc", detector=detector)
    assert detector.seen == [(100, 70, 3)]
    assert len(small) == 1
    assert len(segmenter_of(pixels[:100, 500:700], FakePredictor()).find("disc", detector=detector)) == 0


def test_an_object_is_found_at_another_scale_too(segmenter: Segmenter, detector: DiscDetector) -> None:
    fine = segmenter.find("disc", detector=detector)
    tiles = len(detector.seen)
    coarse = segmenter.find("disc", detector=detector, downsample=2)
    assert sorted(truths_of(coarse)) == sorted(truths_of(fine))
    assert len(detector.seen) - tiles < tiles / 2


def test_elongated_pixels_and_planes_of_a_volume_are_searched(detector: DiscDetector) -> None:
    volume = np.stack([np.full(SHAPE, 20, np.uint8), PIXELS])[:, ::2]
    segmenter = segmenter_of(volume, FakePredictor(), spacing=(1, 2, 1))
    assert len(segmenter.find("disc", detector=detector, plane=0)) == 0
    found = segmenter.find("disc", detector=detector, plane=1)
    assert len(found) == 12
    centers = sorted(tuple(round(at) for at in found.proposals.box(i).center) for i in range(12))
    np.testing.assert_allclose(centers, [(row / 2, col) for row, col in CENTERS], atol=3)


# Ranking


def test_a_text_ranks_what_was_found_and_its_scores_replace_or_multiply(segmenter: Segmenter) -> None:
    found = segmenter.find("disc", detector=DiscDetector())
    ranker = BrightnessRanker()
    dark = segmenter.rank_by_words(found, "dark", ranker=ranker)
    assert isinstance(dark, FoundObjects)
    chosen = dark.select()
    assert sorted(truths_of(found)[int(i)] for i in chosen) == [2, 4, 6, 8, 10, 12]
    assert len(dark) == 12
    np.testing.assert_array_equal(dark.boxes, found.boxes)
    both = segmenter.rank_by_words(found, "bright", ranker=ranker, multiply=True)
    bright = segmenter.rank_by_words(found, "bright", ranker=ranker)
    np.testing.assert_allclose(both.scores, bright.scores * found.scores)
    assert len(ranker.pictures) == 36
    assert len(segmenter.rank_by_words(FoundObjects(found.plane, Proposals.none()), "dark", ranker=ranker)) == 0


def test_a_ranker_chooses_among_all_objects() -> None:
    ranker = BrightnessRanker()
    segmenter = segmenter_of(PIXELS)
    found = segmenter.find("bright", detector=ranker)
    assert sorted(truths_of(found)) == [1, 3, 5, 7, 9, 11]
    assert len(found.select()) == 6
    assert sorted(truths_of(segmenter.find("dark", detector=ranker, box=(0, 100, 200, 400)))) == [2, 4, 6, 8]


@pytest.mark.parametrize("box", [Box(0, 0, 20, 10), Box(280, 390, 300, 400), Box(0, 0, 300, 400), Box(10, 3, 11, 4)])
def test_the_picture_of_an_object_holds_it_and_lies_in_the_image(segmenter: Segmenter, box: Box) -> None:
    tile = picture_tile(segmenter.volume, segmenter.plane(), box, 32)
    assert tile.read.contains(box)
    assert Box(0, 0, *SHAPE).contains(tile.read)
    assert tile.step[0] == tile.step[1]
    assert max(box.extent * 1.25, 32) <= tile.step[0] * 32 <= max(box.extent * 1.25, 32) + 1


# Views of one object


def test_of_views_of_an_object_the_whole_one_remains_whatever_their_order() -> None:
    masks = [
        Mask(Box(20, 20, 40, 60), np.ones((20, 40), bool), 0.6, 1.0),
        Mask(Box(20, 32, 40, 60), np.ones((20, 28), bool), 0.9, 1.0),
        Mask(Box(45, 20, 60, 60), np.ones((15, 40), bool), 0.3, 1.0),
    ]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        proposals = Proposals.of([masks[i] for i in order], np.zeros((3, 2)), 0)
        kept = whole_objects(proposals, np.array([i == 1 for i in order]))
        assert [order[i] for i in kept] == [0, 2]


# What cannot be searched


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"text": "  "}, PromptError, "name the objects"),
        ({"text": 3}, PromptError, "name the objects"),
        ({"text": "disc"}, ModelError, "use SAM 3, or one of owlv2, grounding-dino, clip as detector"),
        ({"text": "disc", "detector": "yolo"}, ModelError, "no detector 'yolo'"),
        ({"text": "disc", "detector": 7}, ModelError, "detector cannot be 7"),
        ({"text": "disc", "detector": DiscDetector(), "downsample": 0}, PromptError, "above 0"),
        ({"text": "disc", "detector": DiscDetector(), "threshold": 2}, PromptError, "from 0 to 1"),
        ({"text": "disc", "detector": DiscDetector(), "box": (900, 900, 950, 950)}, PromptError, "outside the image"),
        ({"text": "disc", "detector": DiscDetector(), "within": np.zeros(SHAPE, bool)}, PromptError, "empty"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_at_once(
    segmenter: Segmenter, options: dict, error: type[NapariSamError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        segmenter.find_steps(**options)
    assert not re.search(r"[.!?]\s+[A-Z]|\n", str(caught.value))


def test_ranking_without_words_or_by_a_detector_is_refused(segmenter: Segmenter) -> None:
    found = segmenter.find("disc", detector=DiscDetector())
    with pytest.raises(PromptError, match="name the objects"):
        segmenter.rank_by_words(found, " ", ranker=BrightnessRanker())
    with pytest.raises(ModelError, match="ranks nothing: use clip"):
        segmenter.rank_by_words(found, "disc", ranker=DiscDetector())  # type: ignore[arg-type]
