"""An image of discs in a file, with a journal of accepted ones."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from skimage.draw import disk

from napari_sam.core.masks import mask_of
from napari_sam.core.prompts import Prompts
from napari_sam.journal.journal import Journal
from napari_sam.segmenter import Segmenter
from napari_sam.testing import FakePredictor

SHAPE = (240, 320)
CENTERS = [(row, col) for row in (40, 120, 200) for col in (40, 120, 200, 280)]


@pytest.fixture(autouse=True)
def own_models(tmp_path, monkeypatch):
    """Models that are taught, and lessons, are of this test only."""
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "models" / "taught"


def disc(center, radius=18):
    mask = np.zeros(SHAPE, bool)
    mask[disk(center, radius, shape=SHAPE)] = True
    return mask


@pytest.fixture(scope="session")
def pixels():
    rng = np.random.default_rng(0)
    image = rng.normal(70, 12, SHAPE)
    for at, center in enumerate(CENTERS):
        image[disc(center)] += 60 + 6 * (at % 3)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture
def image(tmp_path, pixels):
    path = tmp_path / "discs.tif"
    tifffile.imwrite(path, pixels)
    return path


@pytest.fixture
def journal(image, tmp_path):
    """Ten of the twelve discs, accepted: the first one again after a correction, the second one after two clicks."""
    segmenter = Segmenter(image, model=FakePredictor(), labels=tmp_path / "labels.zarr", journal=True)
    with segmenter:
        assert isinstance(segmenter.journal, Journal)
        for at, center in enumerate(CENTERS[:10]):
            points = [center, (center[0], center[1] + 8)] if at == 1 else [center]
            prompts = Prompts.of(points, shape=SHAPE)
            segmenter.journal.accept(segmenter.plane(), mask_of(disc(center)), prompts=prompts)
        prompts = Prompts.of([CENTERS[0]], shape=SHAPE)
        segmenter.journal.accept(segmenter.plane(), mask_of(disc(CENTERS[0], 17)), 1, prompts=prompts)
    return tmp_path / "labels.zarr"
