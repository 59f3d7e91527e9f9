"""ExemplarFinder: find what looks like examples, which other tiles or another image may show."""

from __future__ import annotations

from functools import cached_property
from itertools import compress

from napari_sam.core.finding.exemplars import ExemplarPredictor
from napari_sam.core.geometry import Plane
from napari_sam.core.predictor import Found
from napari_sam.core.tiles import Tile
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.word_search.canvas import SQUARES, Canvas
from napari_sam.word_search.exemplars import PlacedExemplars
from napari_sam.word_search.views import View, views_of


class ExemplarFinder:
    """Finds the objects of one tile after the other by examples.

    A tile that shows an example is searched as it is. Other tiles are put onto a canvas beside the examples, at three
    quarters of their resolution.

    Parameters
    ----------
    predictor
        The model.
    encoder
        Of the image.
    plane
        The plane.
    exemplars
        The examples.
    text, threshold, downsample
        A noun phrase that also describes the objects, or nothing; the score that they must exceed; and that of the
        tiles.
    """

    def __init__(
        self,
        predictor: ExemplarPredictor,
        encoder: TileEncoder,
        plane: Plane,
        exemplars: PlacedExemplars,
        *,
        text: str,
        threshold: float,
        downsample: float,
    ) -> None:
        self._predictor, self._encoder, self._plane, self._exemplars = predictor, encoder, plane, exemplars
        self._text, self._threshold, self._downsample = text, threshold, downsample
        self._shape = plane.shape_in(encoder.volume.shape)

    def find(self, tile: Tile) -> list[View]:
        """Return the objects of a tile.

        Raises
        ------
        ModelError
            The weights lack the part for it, or their vocabulary is missing.
        ImageError
            The tile or an example cannot be read.
        """
        inside = self._inside(tile)
        boxes, labels = list(compress(self._exemplars.boxes, inside)), self._exemplars.labels[inside]
        if not labels.any():
            return self._find_beside(tile)
        embedding = self._encoder.embedding(self._plane, tile)
        placed = [tile.box_to_tile(box) for box in boxes]
        found = self._predictor.find_like(embedding, placed, labels, self._text, self._threshold)
        return views_of(found, tile, self._shape)

    def _inside(self, tile: Tile) -> list[bool]:
        """Return which examples a tile shows whole."""
        is_here = self._exemplars.volume is self._encoder.volume and self._exemplars.plane == self._plane
        return [is_here and tile.read.contains(box) for box in self._exemplars.boxes]

    def _find_beside(self, tile: Tile) -> list[View]:
        """Return the objects of a tile that shows no example."""
        canvas = self._canvas
        target = canvas.target(tile)
        rendered = self._encoder.volume.render(self._plane, target, self._encoder.rendering)
        (embedding,) = self._encoder.predictor.encode(canvas.with_target(rendered)[None])
        found = self._predictor.find_like(embedding, canvas.boxes, canvas.labels, self._text, self._threshold)
        logits = canvas.of_target(found.logits)
        return views_of(Found(logits, found.scores, found.boxes), target, self._shape)

    @cached_property
    def _canvas(self) -> Canvas:
        side = self._encoder.predictor.input_side
        return Canvas.of(self._exemplars, side, self._downsample * SQUARES / (SQUARES - 1))
