"""Quality of dense guesses: foreground, borders and centers that a model guesses without a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from skimage.segmentation import find_boundaries

from napari_sam.core.masks import iou
from napari_sam.core.predictor import DenseGuesses, DensePredictor
from napari_sam.core.tiles import Tile
from napari_sam.evaluation.boundaries import f_score
from napari_sam.evaluation.datasets import TargetObject
from napari_sam.segmenter import Segmenter

# Side of a cell in tile pixels, and the distance in cells up to which borders match.
CELL = 4
TOLERANCE = 1.0
OUTSIDE = -1


@dataclass(frozen=True, slots=True)
class DenseResult:
    """Quality of the dense guesses on one tile.

    Parameters
    ----------
    foreground_iou
        IoU of the cells that are guessed to lie on objects with those that do; None if the model does not guess them.
    border_f
        F score of the cells guessed to be borders, with a tolerance of one cell; None likewise.
    center_error
        Mean distance between guessed and true center over the cells of one object, in units of its radius (the square
        root of its area); None if no cell's middle lies on it.
    """

    foreground_iou: float | None
    border_f: float | None
    center_error: float | None


def measure_guesses(segmenter: Segmenter, target: TargetObject) -> DenseResult | None:
    """Measure dense guesses on the tile that suits an object, which is also the first one for its box.

    Returns
    -------
    DenseResult or None
        None for a model without dense guesses.
    """
    predictor = segmenter.predictor
    if target.objects is None or not isinstance(predictor, DensePredictor):
        return None
    grid = segmenter.encoder.grid(target.plane)
    level = grid.level_for(grid.extent(target.box), predictor.object_fraction)
    tile = grid.tile_at(level, *target.box.center)
    return compare(predictor.dense_guesses(segmenter.encoder.embedding(target.plane, tile)), tile, target)


def compare(guesses: DenseGuesses, tile: Tile, target: TargetObject) -> DenseResult:
    """Compare guesses with the labels of a target's plane, sampled in the middle of each cell.

    Cells in ignored pixels or in the padding do not count.

    Parameters
    ----------
    guesses
        The guesses for a tile.
    tile
        The tile.
    target
        The object whose center counts, with the labels of all objects for foreground and borders.
    """
    assert target.objects is not None
    cells = _sampled(target.objects, tile)
    if target.ignored is not None:
        cells[_sampled(target.ignored, tile) == 1] = OUTSIDE
    counted = cells != OUTSIDE
    foreground_iou = border_f = None
    if guesses.foreground is not None:
        foreground_iou = iou((guesses.foreground > 0.5) & counted, cells > 0)
    if guesses.border is not None:
        # Whether a cell beside an unknown one is a border is unknown too.
        known = binary_erosion(counted, border_value=1)
        border = find_boundaries(cells, connectivity=1, mode="thick") & known
        border_f = f_score((guesses.border > 0.5) & known, border, TOLERANCE)
    return DenseResult(foreground_iou, border_f, _center_error(guesses, tile, target))


def _sampled(values: NDArray[Any], tile: Tile) -> NDArray[np.int64]:
    """Return the values of a plane in the middle of each cell of a tile, and OUTSIDE in its padding."""
    middles = (np.arange(tile.side // CELL) + 0.5) * CELL
    rows, cols = (
        np.floor(start + middles * step).astype(int)
        for start, step in zip((tile.read.top, tile.read.left), tile.step, strict=True)
    )
    cells = np.full((len(rows), len(cols)), OUTSIDE, np.int64)
    inside = (rows < values.shape[0])[:, None] & (cols < values.shape[1])
    cells[inside] = values[np.ix_(rows[rows < values.shape[0]], cols[cols < values.shape[1]])].ravel()
    return cells


def _center_error(guesses: DenseGuesses, tile: Tile, target: TargetObject) -> float | None:
    on_object = _sampled(target.truth, tile) == 1
    if not on_object.any():
        return None
    centers = [
        (float(positions.mean()) + 0.5 - start) / step
        for positions, start, step in zip(
            np.nonzero(target.truth), (tile.read.top, tile.read.left), tile.step, strict=True
        )
    ]
    radius = np.sqrt(np.count_nonzero(target.truth) / np.prod(tile.step))
    distances = [
        (at + 0.5) * CELL + offset[on_object] - center
        for at, offset, center in zip(np.nonzero(on_object), guesses.center_offsets, centers, strict=True)
    ]
    return float(np.hypot(*distances).mean() / radius)
