"""TextFinder: find the objects that a text names on one tile after the other, here or on workers."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam.core.geometry import Plane
from napari_sam.core.predictor import TextPredictor
from napari_sam.core.tiles import Tile
from napari_sam.distributed.shared_image import SharedImage
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.word_search.views import View, views_of, without_logits


@dataclass(frozen=True, slots=True)
class TextFinder:
    """Finds objects by a model that takes text.

    Parameters
    ----------
    encoder
        Encoder of the image, with the model.
    plane
        The plane.
    text, threshold
        What is searched, and the score that objects must exceed.
    """

    encoder: TileEncoder
    plane: Plane
    text: str
    threshold: float

    def find(self, tile: Tile) -> list[View]:
        """Return the objects on a tile.

        Raises
        ------
        ImageError
            The tile cannot be read.
        """
        predictor = self.encoder.predictor
        assert isinstance(predictor, TextPredictor)
        found = predictor.find(self.encoder.embedding(self.plane, tile), self.text, self.threshold)
        return views_of(found, tile, self.encoder.grid(self.plane).shape)

    def do(self, item: Tile, *, again: bool = False) -> list[View]:
        """Return the objects on a tile as they are sent."""
        return without_logits(self.find(item))


@dataclass(frozen=True, slots=True)
class TextFinderPlan:
    """An image in which a text is searched.

    Parameters
    ----------
    image
        The image with its model.
    plane, text, threshold
        As in `TextFinder`.
    """

    image: SharedImage
    plane: Plane
    text: str
    threshold: float

    def open(self) -> TextFinder:
        """Open image and model.

        Raises
        ------
        ImageError, ModelError
            There is no such image or model here, or it is another one.
        """
        return TextFinder(self.image.open(), self.plane, self.text, self.threshold)
