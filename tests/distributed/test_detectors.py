"""Detectors whose weights are files are loaded by the workers of a cluster, each once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.distributed.test_finding import PIXELS, Connect, both, image
from tests.models.test_open_vocabulary import clip, owlv2, publish, write_words

from napari_sam.errors import ModelError
from napari_sam.testing import DiscFinder
from napari_sam.word_search.shared_detector import SharedDetector

__all__ = ["clip", "image", "owlv2", "publish"]


@pytest.mark.parametrize("kind", ["owlv2", "clip"])
def test_a_detector_from_a_file_is_loaded_once_by_each_worker(
    scheduler: str,
    connect: Connect,
    image: Path,
    publish: Callable[..., Path],
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    cluster = connect(scheduler)
    weights = publish(request.getfixturevalue(kind), write_words)
    here, there = both(image, DiscFinder, cluster)
    threshold = 0.1
    found = here.find("nucleus", detector=weights, threshold=threshold)
    for _ in range(2):
        others = there.find("nucleus", detector=weights, threshold=threshold)
        np.testing.assert_array_equal(found.labels(PIXELS.shape), others.labels(PIXELS.shape))
    assert len(found)
    assert there.predictor.encoded == []
    loaded = cluster.client.run(loads_twice, SharedDetector.of(here._detector(weights)))
    assert set(loaded.values()) == {True}


def loads_twice(detector: SharedDetector) -> bool:
    return detector.load() is detector.load()


def test_a_worker_with_other_weights_of_a_detector_says_so(publish: Callable[..., Path], clip: object) -> None:
    weights = publish(clip, write_words)
    with pytest.raises(ModelError, match=r"^It has other weights of .*: copy the same file to all machines\.$"):
        SharedDetector(str(weights), "0" * 64).load()
