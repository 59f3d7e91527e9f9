"""TextDetector and TextRanker: models that know words and segment nothing themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box


@dataclass(frozen=True, slots=True, eq=False)
class Detected:
    """The boxes of the objects that a text names, by falling score.

    Parameters
    ----------
    boxes
        Shape (n, 4), float64: (top, left, bottom, right) in pixel edges of the picture.
    scores
        Shape (n,), float32, 0 to 1.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float32]

    def __iter__(self) -> Iterator[tuple[Box, float]]:
        for edges, score in zip(self.boxes.tolist(), self.scores.tolist(), strict=True):
            yield Box(*edges), score


@runtime_checkable
class TextDetector(Protocol):
    """A detector of any objects that a text names.

    Attributes
    ----------
    name
        The model's name or the path of its weights.
    input_side
        Side of the pictures that it sees best, in pixels.
    usual_threshold
        The threshold that its authors use.
    """

    name: str
    input_side: int
    usual_threshold: float

    def detect(self, picture: NDArray[np.uint8], text: str, threshold: float) -> Detected:
        """Detect the objects that a text names in a picture of shape (rows, cols, 3), at most `input_side` a side.

        Parameters
        ----------
        picture
            RGB.
        text
            A short noun phrase.
        threshold
            Scores must be above it.
        """
        ...


@runtime_checkable
class TextRanker(Protocol):
    """A model that says how well a text describes pictures.

    Attributes
    ----------
    name
        The model's name or the path of its weights.
    picture_side
        Side of the pictures, in pixels.
    usual_threshold
        The score from which on a text describes a picture better than words that describe anything.
    """

    name: str
    picture_side: int
    usual_threshold: float

    def rank(self, pictures: Sequence[NDArray[np.uint8]], text: str) -> NDArray[np.float32]:
        """Return the score of each picture of shape (picture_side, picture_side, 3), 0 to 1, for a text."""
        ...
