"""Segmenter.find by examples: on their own tile, beside other tiles, and from another image."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.everything.scenes import segmenter_of
from tests.word_search.models import DiscDetector, LikeFinder
from tests.word_search.test_find import LABELS, PIXELS, SHAPE, truths_of

from napari_sam import Segmenter
from napari_sam.core.geometry import Box
from napari_sam.errors import ModelError, NapariSamError, PromptError
from napari_sam.testing import FakePredictor
from napari_sam.word_search.canvas import Canvas
from napari_sam.word_search.exemplars import Exemplars

BRIGHT, DARK = (38, 38, 62, 62), (38, 138, 62, 162)
ODD, EVEN = list(range(1, 13, 2)), list(range(2, 13, 2))


@pytest.fixture
def model() -> LikeFinder:
    return LikeFinder()


@pytest.fixture
def segmenter(model: LikeFinder) -> Segmenter:
    return segmenter_of(PIXELS, model)


@pytest.mark.parametrize(("example", "expected"), [(BRIGHT, ODD), (DARK, EVEN)])
def test_an_example_finds_those_like_it_on_its_tile_and_on_others(
    segmenter: Segmenter, model: LikeFinder, example: tuple[int, ...], expected: list[int]
) -> None:
    found = segmenter.find(exemplars=[example])
    assert sorted(truths_of(found)) == expected
    places = {boxes[0].as_tuple() for boxes, _, _ in model.asked}
    here = {box for box in places if box[2] - box[0] == 24}
    assert len(here) >= 1
    assert len(places - here) == 1, "the example lies at the same place of each canvas"


def test_text_and_counterexamples_reach_the_model(segmenter: Segmenter, model: LikeFinder) -> None:
    found = segmenter.find("disc", exemplars=Exemplars([BRIGHT, DARK], [0, 1]), box=(0, 0, 100, 400))
    assert sorted(truths_of(found)) == [2, 4]
    assert {text for _, _, text in model.asked} == {"disc"}
    assert {tuple(labels) for _, labels, _ in model.asked} >= {(True, False)}, "on a canvas examples come first"


def test_examples_of_another_image_or_plane_find_those_like_them(model: LikeFinder) -> None:
    other = np.full((90, 70), 20, np.uint8)
    other[20:46, 30:52] = 120
    other[60:80, 30:52] = 220
    found = segmenter_of(PIXELS, model).find(exemplars=Exemplars([(20, 30, 46, 52)], image=other))
    assert sorted(truths_of(found)) == EVEN
    found = segmenter_of(PIXELS, model).find(exemplars=Exemplars([(60, 30, 80, 52)], image=segmenter_of(other, model)))
    assert sorted(truths_of(found)) == ODD
    volume = np.stack([PIXELS, np.full(SHAPE, 20, np.uint8)])
    volume[1, 100:120, 100:120] = 220
    segmenter = segmenter_of(volume, model)
    found = segmenter.find(plane=0, exemplars=Exemplars([(100, 100, 120, 120)], plane=1))
    assert sorted(truths_of(found)) == ODD


def test_a_canvas_holds_seven_examples_whole_and_a_target(segmenter: Segmenter) -> None:
    boxes = [Box(*BRIGHT).moved(row, col) for row in (0, 100) for col in (0, 100, 200, 300)]
    exemplars = Exemplars(boxes, [0] + [1] * 7).checked(segmenter.encoder, segmenter.plane())
    canvas = Canvas.of(exemplars, 64, 4 / 3)
    assert canvas.labels.all()
    assert len(canvas.boxes) == 7
    for box in canvas.boxes:
        assert canvas.pixels[tuple(int(at) for at in box.center)].mean() > 100
        inside = canvas.pixels[box.rounded_out().slices]
        assert (inside > 60).mean() > 0.5
    assert not canvas.pixels[:48, 16:].any()
    filled = canvas.with_target(np.full((48, 48, 3), 7, np.uint8))
    assert (filled[:48, 16:] == 7).all()
    logits = np.zeros((1, 16, 16), np.float32)
    logits[0, :12, 4:] = 1
    assert (canvas.of_target(logits) == 1).all()
    assert canvas.of_target(logits).shape == (1, 12, 12)


def test_examples_of_any_size_are_shown_whole(segmenter: Segmenter) -> None:
    for edges in ((0, 0, 300, 400), (10, 10, 11, 11), (0, 380, 300, 400)):
        exemplars = Exemplars([edges]).checked(segmenter.encoder, segmenter.plane())
        (box,) = Canvas.of(exemplars, 64, 1.0).boxes
        assert Box(0, 0, 16, 16).contains(box)
        ratio = (edges[2] - edges[0]) / (edges[3] - edges[1])
        assert box.height / box.width == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exemplars": [(900, 900, 950, 950)]}, PromptError, "outside the image"),
        ({"exemplars": []}, PromptError, "No example shows"),
        ({"exemplars": BRIGHT}, PromptError, "four numbers"),
        ({"exemplars": "all"}, PromptError, "give boxes"),
        ({"exemplars": Exemplars([BRIGHT], [0])}, PromptError, "No example shows"),
        ({"exemplars": Exemplars([BRIGHT], [1, 1])}, PromptError, "one label for each"),
        ({"exemplars": [BRIGHT], "detector": DiscDetector()}, PromptError, "leave one of them out"),
        (
            {"exemplars": Exemplars([(0, 0, 9, 9)], image=np.zeros((4, 4, 4, 90, 90), np.uint8))},
            NapariSamError,
            "plane",
        ),
    ],
)
def test_examples_that_make_no_sense_are_refused_in_one_sentence(
    segmenter: Segmenter, options: dict, error: type[NapariSamError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        segmenter.find_steps(**options)
    assert not re.search(r"[.!?]\s+[A-Z]|\n", str(caught.value))


def test_a_model_that_takes_no_examples_says_which_does() -> None:
    with pytest.raises(ModelError, match="use SAM 3"):
        segmenter_of(PIXELS, FakePredictor()).find(exemplars=[BRIGHT])


def test_an_example_of_the_background_finds_no_disc_that_is_not_there(segmenter: Segmenter) -> None:
    assert LABELS[100, 100] == 0
    found = segmenter.find(exemplars=[(40, 40, 60, 60)], box=(90, 90, 110, 110))
    assert len(found) == 0
