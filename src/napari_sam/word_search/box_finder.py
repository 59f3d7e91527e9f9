"""BoxFinder: the boxes of a detector, each filled by the model that segments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from napari_sam.core.finding.open_vocabulary import TextDetector
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import near_border
from napari_sam.core.prompts import Prompts
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.distributed.shared_image import SharedImage
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.embeddings.round_decoder import RoundDecoder
from napari_sam.everything.proposing.grid import distinct
from napari_sam.everything.proposing.guided import MARGIN, is_uniform
from napari_sam.word_search.shared_detector import SharedDetector
from napari_sam.word_search.views import View, without_logits

# Of two boxes of one tile with a larger IoU the one with the lower score is left out.
MOST_IOU = 0.5


@dataclass(frozen=True, slots=True)
class BoxFinder:
    """Finds the objects of one tile after the other by a detector and a model that segments.

    Parameters
    ----------
    detector
        The detector.
    encoder, decoder
        Of the image and the model that fills the boxes.
    plane
        The plane.
    text, threshold
        What is searched, and the score that the boxes must exceed.
    """

    detector: TextDetector
    encoder: TileEncoder
    decoder: RoundDecoder
    plane: Plane
    text: str
    threshold: float

    @property
    def grid(self) -> TileGrid:
        """The tiles that the detector sees."""
        return replace(self.encoder.grid(self.plane), side=self.detector.input_side)

    def find(self, tile: Tile) -> list[View]:
        """Return the objects whose boxes have their center in what the tile owns, or a little beside it.

        Raises
        ------
        PromptError
            The text is empty.
        ModelError
            The vocabulary of the detector is missing or another's.
        ImageError
            The tile cannot be read.
        """
        shape = self.plane.shape_in(self.encoder.volume.shape)
        views = []
        for box, score in self._boxes(tile):
            mask = self.decoder.answer(self.plane, Prompts.of(box=box, shape=shape)).best
            if mask.area:
                views.append(View(replace(mask, iou_prediction=score), near_border(box, tile, shape)))
        return views

    def do(self, item: Tile, *, again: bool = False) -> list[View]:
        """Return the objects of a tile as they are sent."""
        return without_logits(self.find(item))

    def _boxes(self, tile: Tile) -> Iterator[tuple[Box, float]]:
        """Yield the boxes with their scores, in level-0 pixels."""
        rendered = self.encoder.volume.render(self.plane, tile, self.encoder.rendering)
        if is_uniform(rendered, tile):
            return
        lengths = (tile.read.height, tile.read.width)
        rows, cols = (max(1, int(length / step)) for length, step in zip(lengths, tile.step, strict=True))
        detected = self.detector.detect(rendered[:rows, :cols], self.text, self.threshold)
        near = tile.owned.grown(MARGIN * max(tile.step))
        for i in distinct(detected.boxes, detected.scores.astype(np.float64), MOST_IOU):
            box = _from_tile(tile, Box(*detected.boxes[i].tolist())).intersection(tile.read)
            if near.contains_point(*box.center) and min(box.height, box.width) >= 1:
                yield box, float(detected.scores[i])


@dataclass(frozen=True, slots=True)
class BoxFinderPlan:
    """An image in which a detector looks for a text.

    Parameters
    ----------
    image
        The image with the model that fills the boxes.
    detector
        The detector.
    plane, text, threshold
        As in `BoxFinder`.
    """

    image: SharedImage
    detector: SharedDetector
    plane: Plane
    text: str
    threshold: float

    def open(self) -> BoxFinder:
        """Open the image and both models.

        Raises
        ------
        ImageError, ModelError
            There is no such image or model here, or it is another one.
        """
        detector, encoder = self.detector.load(), self.image.open()
        assert isinstance(detector, TextDetector)
        return BoxFinder(detector, encoder, RoundDecoder(encoder), self.plane, self.text, self.threshold)


def _from_tile(tile: Tile, box: Box) -> Box:
    """Return a box in tile pixel edges in level-0 pixel edges."""
    rows, cols = tile.step
    return Box(box.top * rows, box.left * cols, box.bottom * rows, box.right * cols).moved(
        tile.read.top, tile.read.left
    )
