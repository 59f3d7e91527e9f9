"""Fixtures of the tests of evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_sam.evaluation.datasets import (
    LabelledImage,
)


@pytest.fixture
def labelled(tmp_path: Path) -> Callable[..., LabelledImage]:
    """Write labels (and an image of the same pixels) and return the entry of a manifest."""

    def write(labels: np.ndarray, kind: str = "instance", subset: str = "mine", **more: Any) -> LabelledImage:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tif"
        tifffile.imwrite(path, labels, photometric="minisblack")
        return LabelledImage(image=path, mask=path, subset=subset, kind=kind, **more)

    return write
