"""What a segmenter finds without prompts, made from labels instead of a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask


@dataclass(frozen=True)
class FoundMasks:
    """Masks with their scores; `select` names those above a score, best first."""

    masks: tuple[np.ndarray, ...]
    scores: np.ndarray
    least: float = 0.5

    def select(self) -> np.ndarray:
        order = np.argsort(-self.scores)
        return order[self.scores[order] > self.least]

    def mask(self, index: int) -> Mask:
        pixels = self.masks[index]
        return Mask(Box.of_shape(pixels.shape), pixels).tightened()

    def labels(self, shape: tuple[int, int], chosen: np.ndarray) -> np.ndarray:
        out = np.zeros(shape, np.uint32)
        for label, index in reversed(list(enumerate(chosen, 1))):  # The best one is drawn last, over the others.
            out[self.masks[index]] = label
        return out
