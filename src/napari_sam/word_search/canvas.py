"""Canvas: examples and a part of the searched image in one picture."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.tiles import Tile
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.word_search.exemplars import PlacedExemplars
from napari_sam.word_search.mask_ranker import picture_tile

# The canvas is divided into 4 x 4 squares. The target takes 3 x 3 of them, and examples the left column, from the top,
# and then the bottom row.
SQUARES = 4
PLACES = (*((row, 0) for row in range(SQUARES)), *((SQUARES - 1, col) for col in range(1, SQUARES)))


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A picture with examples, and with space for a target.

    Parameters
    ----------
    pixels
        Shape (side, side, 3), uint8: the examples, and black.
    boxes
        Around the examples, in pixel edges of the canvas.
    labels
        Shape (n,), bool: which of them are like the objects that are searched.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    boxes: tuple[Box, ...]
    labels: NDArray[np.bool_]

    @classmethod
    def of(cls, exemplars: PlacedExemplars, side: int, downsample: float) -> Canvas:
        """Draw examples, each in the middle of a square; of more than seven those that are like the objects first.

        Parameters
        ----------
        exemplars
            The examples.
        side
            Side of the canvas in pixels, a multiple of 16.
        downsample
            Pixels of their image, in units, for each pixel of the canvas; more where an example would not fit.
        """
        square = side // SQUARES
        chosen = np.argsort(~exemplars.labels, kind="stable")[: len(PLACES)]
        pixels, boxes = np.zeros((side, side, 3), np.uint8), []
        for i, (row, col) in zip(chosen, PLACES, strict=False):
            box = exemplars.boxes[i]
            tile = picture_tile(exemplars.volume, exemplars.plane, box, square, square * downsample)
            top, left = row * square, col * square
            rendered = exemplars.volume.render(exemplars.plane, tile, exemplars.rendering)
            pixels[top : top + square, left : left + square] = rendered
            boxes.append(tile.box_to_tile(box).moved(top, left))
        return cls(pixels, tuple(boxes), exemplars.labels[chosen])

    def target(self, tile: Tile) -> Tile:
        """Return a tile of the same pixels as another one at three quarters of its resolution, for the target."""
        rows, cols = tile.step
        share = (SQUARES - 1) / SQUARES
        return replace(tile, side=round(tile.side * share), step=(rows / share, cols / share))

    def with_target(self, rendered: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the pixels with those of a target in their place."""
        pixels = self.pixels.copy()
        side = len(rendered)
        pixels[:side, -side:] = rendered
        return pixels

    def of_target(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the part of logits over the canvas, shape (n, cells, cells), that covers the target."""
        side = logits.shape[-1] * (SQUARES - 1) // SQUARES
        return logits[:, :side, -side:]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnExemplars:
    """Examples as plain data, wherever they are from.

    Parameters
    ----------
    boxes, labels
        Those that lie in the plane that is searched, as in `PlacedExemplars`.
    canvas
        A picture with all of them.
    """

    boxes: tuple[Box, ...]
    labels: NDArray[np.bool_]
    canvas: Canvas

    @classmethod
    def of(cls, exemplars: PlacedExemplars, encoder: TileEncoder, plane: Plane, downsample: float) -> DrawnExemplars:
        """Draw examples for a search.

        Parameters
        ----------
        exemplars
            The examples.
        encoder, plane, downsample
            Of the image that is searched, and of its tiles.

        Raises
        ------
        ImageError
            An example cannot be read.
        """
        canvas = Canvas.of(exemplars, encoder.predictor.input_side, downsample * SQUARES / (SQUARES - 1))
        if exemplars.volume is encoder.volume and exemplars.plane == plane:
            return cls(exemplars.boxes, exemplars.labels, canvas)
        return cls((), np.zeros(0, bool), canvas)
