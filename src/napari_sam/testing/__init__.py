"""Helpers for tests of code that uses napari-sam: small models, counting arrays and runners, all deterministic.

Importing this package needs neither napari nor Qt nor hypothesis, and no network. Three modules are imported on their
own because they need more:

- `napari_sam.testing.strategies`: hypothesis strategies for planes, boxes, masks and array indices (hypothesis).
- `napari_sam.testing.plugin`: an annotation session without a window and without a model (napari).
- `napari_sam.testing.window`: a napari window that is driven by mouse and key events (napari and pytest-qt).

Examples
--------
>>> import numpy as np
>>> from napari_sam import Segmenter
>>> from napari_sam.testing import FakePredictor
>>> image = np.full((64, 64), 20, np.uint8)
>>> image[20:36, 24:40] = 200
>>> segmenter = Segmenter(image, model=FakePredictor())
>>> segmenter.segment(points=[(28, 32)]).best.area
256
"""

from napari_sam.testing.arrays import CountingArray
from napari_sam.testing.predictors import BlobFinder, DiscFinder, FakePredictor
from napari_sam.testing.runners import HeldRunner, ImmediateRunner, WriteRunner
from napari_sam.testing.waiting import TIMEOUT

__all__ = [
    "TIMEOUT",
    "BlobFinder",
    "CountingArray",
    "DiscFinder",
    "FakePredictor",
    "HeldRunner",
    "ImmediateRunner",
    "WriteRunner",
]
