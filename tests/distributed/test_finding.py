"""What a cluster finds by words and by examples is what one process finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.everything.scenes import SIZES, discs, picture
from tests.similarity.scenes import SeeingFinder

from napari_sam import Segmenter
from napari_sam.distributed.cluster import Cluster
from napari_sam.everything.found import FoundObjects
from napari_sam.testing import DiscFinder, FakePredictor

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
