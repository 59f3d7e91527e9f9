"""Models that know the words disc, bright and dark, without weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from napari_sam.core.finding.open_vocabulary import Detected
from napari_sam.core.geometry import Box
from napari_sam.core.predictor import Embedding, Found
from napari_sam.testing import FakePredictor
from napari_sam.testing.predictors import CELL, SIDE

FOREGROUND = 60


class DiscDetector:
    """Detector of what is brighter than the background; the score says how bright."""

    name = "discs"
    input_side = 128
    usual_threshold = 0.3

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def detect(self, picture: np.ndarray, text: str, threshold: float) -> Detected:
        self.seen.append(picture.shape)
        gray = picture.mean(axis=2)
        parts, _ = ndimage.label(gray > FOREGROUND)
        found = [] if text != "disc" else ndimage.find_objects(parts)
        boxes = [[rows.start, cols.start, rows.stop, cols.stop] for rows, cols in found]
        scores = np.array([gray[parts == number].mean() / 255 for number in range(1, len(found) + 1)], np.float32)
        # As a real detector, it also guesses each object once more, a little beside.
        all_boxes = np.array([*boxes, *(np.array(boxes) + 1)], np.float64).reshape(-1, 4)
        all_scores = np.concatenate([scores, scores * np.float32(0.9)])
        kept = all_scores > threshold
        return Detected(all_boxes[kept], all_scores[kept])


class BrightnessRanker:
    """Ranker of pictures by the gray value in their middle: high for bright, low for dark."""

    name = "brightness"
    picture_side = 32
    usual_threshold = 0.5

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []

    def rank(self, pictures: Sequence[np.ndarray], text: str) -> np.ndarray:
        self.pictures += pictures
        middles = np.array([picture[14:18, 14:18].mean() / 255 for picture in pictures], np.float32)
        return middles if text == "bright" else 1 - middles


class LikeFinder(FakePredictor):
    """Model that finds regions of the gray value of the examples; those of a gray value of counterexamples are not."""

    finds_exemplars = True
    digest = "fake-like/1"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[tuple[Box, ...], list[bool], str]] = []

    def find_like(
        self, embedding: Embedding, boxes: Sequence[Box], labels: Any, text: str = "", threshold: float = 0.5
    ) -> Found:
        self.asked.append((tuple(boxes), labels.tolist(), text))
        gray = embedding.tensors[0][0].float().mean(0).numpy()
        inside = [gray[box.rounded_out().slices] for box in boxes]
        levels = [float(part[part > FOREGROUND].mean()) for part in inside]
        parts, count = ndimage.label(gray > FOREGROUND)
        logits = []
        for number in range(1, count + 1):
            region = ndimage.binary_erosion(parts == number)
            if not region.any():
                continue
            nearest = int(np.argmin([abs(level - np.median(gray[region])) for level in levels]))
            if labels[nearest] and abs(levels[nearest] - np.median(gray[region])) < 40:
                shares = (parts == number).reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).mean((1, 3))
                logits.append(10 * (shares - 0.5))
        cells = np.array(logits, np.float32).reshape(-1, SIDE // CELL, SIDE // CELL)
        return Found(cells, np.full(len(cells), 0.8, np.float32), np.zeros((len(cells), 4), np.float32))
