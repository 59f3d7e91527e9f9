"""ExemplarPredictor: the protocol of models that find what looks like the objects in some boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box
from napari_sam.core.predictor import Embedding, Found


@runtime_checkable
class ExemplarPredictor(Protocol):
    """A predictor that also finds every object of an encoded tile that looks like examples on it.

    Attributes
    ----------
    finds_exemplars
        Whether the loaded weights can do so.
    """

    finds_exemplars: bool

    def find_like(
        self,
        embedding: Embedding,
        boxes: Sequence[Box],
        labels: NDArray[np.bool_],
        text: str = "",
        threshold: float = 0.5,
    ) -> Found:
        """Find the objects that look like examples, the examples themselves too.

        Parameters
        ----------
        embedding
            Of the tile.
        boxes
            Around the examples, in tile pixel edges.
        labels
            Shape (n,): False for an example of what is not wanted.
        text
            A short noun phrase that also describes the objects, or nothing.
        threshold
            Scores must be above it.
        """
        ...
