"""MaskRanker: how well a text describes the pictures around masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.finding.open_vocabulary import TextRanker
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.tiles import Tile
from napari_sam.distributed.proposing import ProposingPlan
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.everything.options import FilterOptions
from napari_sam.everything.sweep import Sweep
from napari_sam.images.volume import Volume
from napari_sam.word_search.shared_detector import SharedDetector
from napari_sam.word_search.views import View, without_logits

# A picture shows the object and a little of its surroundings: this multiple of the longer side of its box, and no less
# than so many pixels, of which an enlarged picture is made.
CONTEXT = 1.25
LEAST_SPAN = 32.0
# Pictures in memory.
AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class MaskRanker:
    """Scores masks of one plane by a text.

    Parameters
    ----------
    ranker
        The model that knows words.
    encoder
        Of the image.
    plane
        The plane.
    text
        A short noun phrase.
    """

    ranker: TextRanker
    encoder: TileEncoder
    plane: Plane
    text: str

    def scores(self, boxes: Sequence[Box]) -> NDArray[np.float32]:
        """Return the score of each box of an object, 0 to 1.

        Raises
        ------
        PromptError
            The text is empty.
        ModelError
            The vocabulary of the model is missing or another's.
        ImageError
            A part of the image cannot be read.
        """
        volume, rendering = self.encoder.volume, self.encoder.rendering
        scores = [np.zeros(0, np.float32)]
        for start in range(0, len(boxes), AT_ONCE):
            tiles = [
                picture_tile(volume, self.plane, box, self.ranker.picture_side)
                for box in boxes[start : start + AT_ONCE]
            ]
            pictures = [volume.render(self.plane, tile, rendering) for tile in tiles]
            scores.append(self.ranker.rank(pictures, self.text))
        return np.concatenate(scores)


def picture_tile(volume: Volume, plane: Plane, box: Box, side: int, span: float = 0.0) -> Tile:
    """Return the tile of a picture around a box, moved into the plane where it reaches outside.

    Parameters
    ----------
    volume, plane
        The image.
    box
        In level-0 pixels.
    side
        Side of the picture, in its pixels.
    span
        Least side of what it shows, in units.
    """
    shape, sizes = plane.shape_in(volume.shape), volume.pixel_size(plane)
    extent = max(box.height * sizes[0], box.width * sizes[1])
    span = max(CONTEXT * extent, span, LEAST_SPAN)
    edges, steps = [], []
    for center, length, size in zip(box.center, shape, sizes, strict=True):
        pixels = math.ceil(span / size)
        start = min(max(round(center - pixels / 2), 0), max(length - pixels, 0))
        edges.append((start, min(start + pixels, length)))
        steps.append(pixels / side)
    read = Box(edges[0][0], edges[1][0], edges[0][1], edges[1][1])
    return Tile(round(math.log2(span / side)), 0, 0, side, read, read, (steps[0], steps[1]))


@dataclass(frozen=True, slots=True)
class RankedFinder:
    """Finds all objects of one tile after the other, and keeps those that a text describes.

    Parameters
    ----------
    sweep
        The search for all objects.
    ranker
        Scores them.
    threshold
        Lowest score that is kept.
    """

    sweep: Sweep
    ranker: MaskRanker
    threshold: float

    def find(self, tile: Tile) -> list[View]:
        """Return the objects of a tile; see `MaskRanker.scores` for errors."""
        proposals = self.sweep.proposals(tile)
        likely = proposals.taken(np.flatnonzero(proposals.scores >= FilterOptions().confidence))
        scores = self.ranker.scores([likely.box(i) for i in range(len(likely))])
        return [
            View(replace(likely.mask(int(i)), iou_prediction=float(scores[i])), is_cut=False)
            for i in np.flatnonzero(scores >= self.threshold)
        ]

    def do(self, item: Tile, *, again: bool = False) -> list[View]:
        """Return the objects of a tile as they are sent."""
        return without_logits(self.find(item))


@dataclass(frozen=True, slots=True)
class RankedFinderPlan:
    """A search for all objects of which those count that a text describes.

    Parameters
    ----------
    proposing
        The search for all objects.
    ranker
        The model that knows words.
    text, threshold
        As in `MaskRanker` and `RankedFinder`.
    """

    proposing: ProposingPlan
    ranker: SharedDetector
    text: str
    threshold: float

    def open(self) -> RankedFinder:
        """Open the image and both models.

        Raises
        ------
        ImageError, ModelError
            There is no such image or model here, or it is another one.
        """
        ranker, sweep = self.ranker.load(), self.proposing.open_sweep()
        assert isinstance(ranker, TextRanker)
        return RankedFinder(sweep, MaskRanker(ranker, sweep.encoder, sweep.plane, self.text), self.threshold)
