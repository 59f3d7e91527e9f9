"""MemoryPredictor: the protocol of models that follow objects by what they remember of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.predictor import Embedding

# An encoded tile, and the share of each of its pixels that an object's mask covers: (side, side), float32, 0 to 1.
SeenObject = tuple[Embedding, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class MemoryAnswer:
    """What a memory finds of its object on one tile.

    Parameters
    ----------
    logits
        Shape (side / 4, side / 4), float32; positive inside. Nowhere positive where the object is not there.
    iou_prediction
        Estimate of the mask's IoU with the object if that is there, 0 to 1.
    presence
        Probability that the object is there, 0 to 1.
    """

    logits: NDArray[np.float32]
    iou_prediction: float
    presence: float


class ObjectMemory(Protocol):
    """The memory of one object, on the tiles of one place and in one direction; planes are named by their position.

    Attributes
    ----------
    reach
        Number of planes, the last ones before the present one, of which it holds features.
    """

    reach: int

    def recall(self, at: int, seen: SeenObject) -> None:
        """Take what was found of the object in an earlier plane, and not accepted."""
        ...

    def follow(self, at: int, embedding: Embedding) -> MemoryAnswer:
        """Find the object in a plane, and remember the answer."""
        ...


@runtime_checkable
class MemoryPredictor(Protocol):
    """A predictor that follows objects from plane to plane by what it remembers of them.

    Attributes
    ----------
    has_memory
        Whether the loaded weights can do so.
    """

    has_memory: bool

    def memory(self, accepted: Mapping[int, Callable[[], SeenObject]], *, planes: int, reverse: bool) -> ObjectMemory:
        """Return the memory of one object; raise ModelError if the loaded weights have none.

        Parameters
        ----------
        accepted
            What the user accepted of it, by position: one at least, also ahead. Called when the memory needs it.
        planes, reverse
            Number of planes along the axis, and whether it is followed towards position 0.
        """
        ...
