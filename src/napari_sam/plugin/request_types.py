"""Requests to the model for one object, and the answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.core.cleaning import Cleaning
from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask
from napari_sam.plugin.layers.adapters import LayerPrompts
from napari_sam.segmenter import Candidates

if TYPE_CHECKING:
    from napari.layers import Image, Labels

# Cleaning a mask in a box of more pixels takes too long to do at every move of the mouse.
MAX_SYNC_PIXELS = 512**2
NO_CLEANING = Cleaning()


@dataclass(frozen=True, slots=True, eq=False)
class PredictionRequest:
    """One question to the segmenter, complete in itself: the worker reads no layer.

    Parameters
    ----------
    image, layers
        The image layer, and the layers that the encoder sees as its channels.
    plane, prompts
        The prompts on one plane of the image.
    previous
        The mask that the decoder refines, or None.
    downsample
        Image pixels per screen pixel.
    cleaning
        Clean-up that is applied to the answer.
    """

    image: Image
    layers: tuple[Image, ...]
    plane: Plane
    prompts: LayerPrompts
    previous: Mask | None
    downsample: float
    cleaning: Cleaning = NO_CLEANING

    def is_like(self, other: PredictionRequest) -> bool:
        """Say whether another request has the same prompts on the same plane."""
        return self.plane == other.plane and self.prompts.is_like(other.prompts)


@dataclass(frozen=True, slots=True, eq=False)
class CleanedCandidates:
    """Candidates, a clean-up, and the cleaned masks."""

    candidates: Candidates
    cleaning: Cleaning
    masks: tuple[Mask, ...]

    @classmethod
    def of(cls, candidates: Candidates, cleaning: Cleaning, shape: tuple[int, int]) -> CleanedCandidates:
        """Clean candidates on a plane of `shape`; safe in any thread."""
        return cls(candidates, cleaning, tuple(cleaning(mask, shape) for mask in candidates))


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The answer to a request.

    Parameters
    ----------
    candidates
        Three masks.
    target, highest
        A Labels layer that was searched along the way, and its highest label; None where none was.
    cleaned
        The cleaned candidates, or None where they were not cleaned yet.
    """

    candidates: Candidates
    target: Labels | None = None
    highest: int = 0
    cleaned: CleanedCandidates | None = None


def is_small(mask: Mask) -> bool:
    """Say whether a mask can be cleaned without a noticeable delay."""
    return math.prod(mask.box.pixel_shape) <= MAX_SYNC_PIXELS
