"""MaskFuser: the protocol of what decides on the mask of a followed object, from all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.predictor import Embedding

# Side of the square around an object in which it is followed, in cells.
WINDOW_CELLS = 96
# Cells of a tile, to a side, that have appearance features.
FEATURE_CELLS = 64
# What is known of each cell of the window, and of the object.
CHANNELS = (
    "pixels", "previous pixels", "accepted pixels", "previous mask", "mask before that", "accepted mask",
    "best logits", "second logits", "third logits", "logits with a point",
    "likeness to the previous plane", "likeness to the accepted plane",
)  # fmt: skip
SCALARS = ("best IoU", "second IoU", "third IoU", "IoU with a point", "distance")


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """What a fuser answers for several objects.

    Parameters
    ----------
    logits
        Shape (n, WINDOW_CELLS, WINDOW_CELLS), float32; positive inside.
    confidence
        Shape (n,), float32: estimate of the IoU of each mask with its object, 0 to 1.
    presence
        Shape (n,), float32: probability that the object is in the plane at all.
    """

    logits: NDArray[np.float32]
    confidence: NDArray[np.float32]
    presence: NDArray[np.float32]


class MaskFuser(Protocol):
    """Decides where an object is that was followed into a plane.

    Attributes
    ----------
    digest
        Hash of its weights.
    """

    digest: str

    def features(self, embedding: Embedding) -> NDArray[np.float32]:
        """Return the appearance of each cell of a tile, shape (channels, FEATURE_CELLS, FEATURE_CELLS).

        Each channel has mean 0 and standard deviation 1 over the tile.
        """
        ...

    def fuse(self, channels: NDArray[np.floating[Any]], scalars: NDArray[np.floating[Any]]) -> Fused:
        """Decide on the masks of n objects.

        Parameters
        ----------
        channels
            Shape (n, len(CHANNELS), WINDOW_CELLS, WINDOW_CELLS): pixels and masks from 0 to 1, logits divided by 8,
            likeness from -3 to 3.
        scalars
            Shape (n, len(SCALARS)): predicted IoUs from 0 to 1, and the distance to the accepted plane, in 16 planes.
        """
        ...
