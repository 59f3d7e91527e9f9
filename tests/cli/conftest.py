"""Images and models for the tests of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from skimage.data import coins

from napari_sam import models


@pytest.fixture(scope="module")
def one_predictor() -> Iterator[None]:
    """Load each model once, and do not let torch's threads wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_predictor", lru_cache(models.load_predictor))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a cache of its own: what another one has searched would not be encoded again."""
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The coins as a TIFF."""
    path = tmp_path / "coins.tif"
    tifffile.imwrite(path, coins())
    return path


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Three planes of coins as a zarr array."""
    path = tmp_path / "volume.zarr"
    array = zarr.create_array(path, shape=(3, *coins().shape), chunks=(1, 128, 128), dtype="u1")
    array[...] = np.stack([coins()] * 3)
    return path
