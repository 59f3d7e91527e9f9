"""What a cluster finds by words, detectors, exemplars and examples is what one process finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.everything.scenes import SIZES, discs, picture
from tests.similarity.scenes import SeeingFinder
from tests.word_search.models import BrightnessRanker, DiscDetector, LikeFinder

from napari_sam import Segmenter
from napari_sam.distributed.cluster import Cluster
from napari_sam.everything.found import FoundObjects
from napari_sam.testing import DiscFinder, FakePredictor
from napari_sam.word_search.exemplars import Exemplars

Connect = Callable[..., Cluster]
PIXELS = picture(discs((200, 260), [(40, 50), (120, 60), (110, 190)]))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "image.tif", PIXELS)
    return tmp_path / "image.tif"


def both(image: Path, model: type[FakePredictor], cluster: Cluster) -> tuple[Segmenter, Segmenter]:
    """Return two segmenters, of which the second one has a cluster."""
    here, there = (
        Segmenter(image, model=model(), contrast_limits=(0, 255), scheduler=each) for each in (None, cluster)
    )
    return here, there


def assert_same(one: FoundObjects, other: FoundObjects, count: int) -> None:
    chosen = one.select()
    assert len(chosen) == count
    np.testing.assert_array_equal(one.labels(PIXELS.shape, chosen), other.labels(PIXELS.shape, other.select()))


def test_words_find_the_same(scheduler: str, connect: Connect, image: Path) -> None:
    here, there = both(image, DiscFinder, connect(scheduler))
    assert_same(here.find("disc"), there.find("disc"), 3)
    assert here.predictor.encoded
    assert there.predictor.encoded == []


def test_examples_find_the_same(scheduler: str, connect: Connect, image: Path) -> None:
    here, there = both(image, SeeingFinder, connect(scheduler))
    mask = np.zeros(PIXELS.shape, bool)
    mask[26:55, 36:65] = PIXELS[26:55, 36:65] > 100
    query = here.examples(mask)
    here.predictor.encoded.clear()
    found = here.find_similar(query, sizes=SIZES)
    assert here.predictor.encoded
    assert_same(found, there.find_similar(query, sizes=SIZES), len(found.select()))
    assert len(found.select())
    assert there.predictor.encoded == []


def test_a_detector_and_its_boxes_find_the_same(scheduler: str, connect: Connect, image: Path) -> None:
    here, there = both(image, FakePredictor, connect(scheduler))
    ours, theirs = DiscDetector(), DiscDetector()
    assert_same(here.find("disc", detector=ours), there.find("disc", detector=theirs), 3)
    assert ours.seen
    assert theirs.seen == there.predictor.encoded == []


def test_a_ranker_chooses_the_same(scheduler: str, connect: Connect, image: Path) -> None:
    here, there = both(image, DiscFinder, connect(scheduler))
    ours, theirs = BrightnessRanker(), BrightnessRanker()
    assert_same(here.find("bright", detector=ours), there.find("bright", detector=theirs), 3)
    assert ours.pictures
    assert theirs.pictures == there.predictor.encoded == []


@pytest.mark.parametrize("other", [None, np.where(PIXELS[::-1] > 100, 210, 30).astype(np.uint8)])
def test_exemplars_of_this_and_of_another_image_find_the_same(
    scheduler: str, connect: Connect, image: Path, other: np.ndarray | None
) -> None:
    here, there = both(image, LikeFinder, connect(scheduler))
    box = (24, 34, 57, 67) if other is None else (143, 34, 176, 67)
    exemplars = Exemplars([box], image=other)
    assert_same(here.find(exemplars=exemplars), there.find(exemplars=exemplars), 3)
    assert here.predictor.encoded
    assert there.predictor.encoded == []
