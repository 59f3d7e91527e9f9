"""ExemplarFinder: find what looks like examples, which other tiles or another image may show."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress

from napari_sam.core.finding.exemplars import ExemplarPredictor
from napari_sam.core.geometry import Plane
from napari_sam.core.predictor import Found
from napari_sam.core.tiles import Tile
from napari_sam.distributed.shared_image import SharedImage
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.word_search.canvas import DrawnExemplars
from napari_sam.word_search.views import View, views_of, without_logits


class ExemplarFinder:
    """Finds the objects of one tile after the other by examples.

    A tile that shows an example is searched as it is. Other tiles are put onto a canvas beside the examples, at three
    quarters of their resolution.

    Parameters
    ----------
    encoder
        Of the image, with a model that is an `ExemplarPredictor`.
    plane
        The plane.
    exemplars
        The examples that lie in this plane, and the canvas with all.
    text, threshold
        A noun phrase that also describes the objects, or nothing; and the score that they must exceed.
    """

    def __init__(
        self, encoder: TileEncoder, plane: Plane, exemplars: DrawnExemplars, *, text: str, threshold: float
    ) -> None:
        assert isinstance(encoder.predictor, ExemplarPredictor)
        self._predictor: ExemplarPredictor = encoder.predictor
        self._encoder, self._plane, self._exemplars = encoder, plane, exemplars
        self._text, self._threshold = text, threshold
        self._shape = plane.shape_in(encoder.volume.shape)

    def find(self, tile: Tile) -> list[View]:
        """Return the objects of a tile.

        Raises
        ------
        ModelError
            The weights lack the part for it, or their vocabulary is missing.
        ImageError
            The tile cannot be read.
        """
        inside = [tile.read.contains(box) for box in self._exemplars.boxes]
        boxes, labels = list(compress(self._exemplars.boxes, inside)), self._exemplars.labels[inside]
        if not labels.any():
            return self._find_beside(tile)
        embedding = self._encoder.embedding(self._plane, tile)
        placed = [tile.box_to_tile(box) for box in boxes]
        found = self._predictor.find_like(embedding, placed, labels, self._text, self._threshold)
        return views_of(found, tile, self._shape)

    def do(self, item: Tile, *, again: bool = False) -> list[View]:
        """Return the objects of a tile as they are sent."""
        return without_logits(self.find(item))

    def _find_beside(self, tile: Tile) -> list[View]:
        """Return the objects of a tile that shows no example."""
        canvas = self._exemplars.canvas
        target = canvas.target(tile)
        rendered = self._encoder.volume.render(self._plane, target, self._encoder.rendering)
        (embedding,) = self._encoder.predictor.encode(canvas.with_target(rendered)[None])
        found = self._predictor.find_like(embedding, canvas.boxes, canvas.labels, self._text, self._threshold)
        logits = canvas.of_target(found.logits)
        return views_of(Found(logits, found.scores, found.boxes), target, self._shape)


@dataclass(frozen=True, slots=True)
class ExemplarFinderPlan:
    """An image in which objects like examples are searched.

    Parameters
    ----------
    image
        The image with its model.
    exemplars
        The examples; those of another image are sent as the canvas shows them.
    plane, text, threshold
        As in `ExemplarFinder`.
    """

    image: SharedImage
    exemplars: DrawnExemplars
    plane: Plane
    text: str
    threshold: float

    def open(self) -> ExemplarFinder:
        """Open image and model.

        Raises
        ------
        ImageError, ModelError
            There is no such image or model here, or it is another one.
        """
        return ExemplarFinder(self.image.open(), self.plane, self.exemplars, text=self.text, threshold=self.threshold)
