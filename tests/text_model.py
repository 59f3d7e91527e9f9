"""A small model that takes text, for tests of `napari-sam find`: it finds bright discs when it is asked for them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from scipy import ndimage

from napari_sam.core.predictor import Embedding
from tests.conftest import FakePredictor


class DiscFinder(FakePredictor):
    """Finds nothing for any word but disc."""

    finds_text = True

    def find(self, embedding: Embedding, text: str, threshold: float = 0.5) -> SimpleNamespace:
        bright = embedding.tensors[0][0].float().mean(0).numpy() > 100
        parts, count = ndimage.label(bright.reshape(16, 4, 16, 4).mean((1, 3)) > 0.3)
        logits = [np.where(parts == n, 5, -5) for n in range(1, count + 1)] if text == "disc" else []
        return SimpleNamespace(
            logits=np.array(logits, np.float32).reshape(-1, 16, 16), scores=np.full(len(logits), 0.9)
        )
