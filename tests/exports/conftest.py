"""Labels with everything that is hard about them, and a journal with classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.journal.journal import Journal
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid

CLASSES = {1: "Zelle „groß“", 2: "=1+1", 3: None, 4: "Zelle „groß“"}


@pytest.fixture
def scene() -> np.ndarray:
    """Shape (40, 60): a ring around another object, neighbors, one pixel, two parts, corners that meet, and edges."""
    labels = np.zeros((40, 60), np.uint16)
    labels[2:14, 3:17] = 1
    labels[5:11, 6:14] = 0
    labels[7:9, 8:10] = 2
    labels[2:14, 17:22] = 3
    labels[20, 30] = 4
    labels[25:28, 5:9] = labels[31:36, 20:24] = 5
    labels[22:24, 40:42] = labels[24:26, 42:44] = 6
    labels[26:28, 44:46] = 7
    labels[36:40, 50:60] = 8
    return labels


@pytest.fixture
def classified(tmp_path: Path) -> Path:
    """The path of labels with four objects in two classes, with their journal."""
    path = tmp_path / "work.ome.zarr"
    target = LabelArray(LabelPyramid.create(path, (30, 40)))
    with Journal(path.with_name("work.ome.zarr.journal"), target) as journal:
        for label, name in CLASSES.items():
            box = Box(5 * label, 6 * label, 5 * label + 4, 6 * label + 5)
            mask = Mask(box, np.ones(box.pixel_shape, bool), 0.5 + label / 10, 0.75)
            journal.accept(Plane.of((30, 40)), mask, label, class_name=name)
    return path
