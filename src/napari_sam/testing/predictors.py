"""Models without weights: they answer in about a millisecond, and always the same."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.core.predictor import Decoded, DenseGuesses, Embedding
from napari_sam.core.prompts import TilePrompts

SIDE = 64
CELL = 4  # Tile pixels to a side of a logit, as in SAM.


class FakePredictor:
    """Model that segments the evenly bright region under the prompts, by thresholds instead of a network.

    A positive point selects the connected cells of 4 x 4 tile pixels whose mean is within 60 gray values of the cell
    under the point; a negative point only clears its own cell; a box clips the region, and without positive points
    selects what is brighter than the mean inside it. The three candidates are the region, eroded and dilated by one
    cell; the region itself has the highest predicted IoU, most of all where it fills a third of the tile.
    It implements `napari_sam.core.predictor.Predictor`, so it can be the `model` of a `Segmenter`.

    Attributes
    ----------
    encoded : list of ndarray
        Every tile that was encoded, each of shape (64, 64, 3), uint8.
    decoded : list of TilePrompts
        The prompts of every call of `decode`, in the pixels of the tile.
    """

    name = "fake"
    input_side = SIDE
    object_fraction = 1 / 3
    object_range = (0.1, 0.75)
    probe_levels = 2
    encode_is_slow = False
    batch = 1
    digest = "fake/1"

    def __init__(self) -> None:
        self.encoded: list[NDArray[np.uint8]] = []
        self.decoded: list[TilePrompts] = []

    def encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        """Return the tiles themselves as embeddings, and append them to `encoded`."""
        import torch  # As in all models, not before the first tile.

        self.encoded += list(tiles)
        return [Embedding((torch.from_numpy(tile.copy()).permute(2, 0, 1)[None],)) for tile in tiles]

    def pack(self, embedding: Embedding) -> NDArray[np.float16]:
        """Return the values of an embedding, shape (64 * 64 * 3,)."""
        values: NDArray[np.float16] = embedding.tensors[0].numpy().astype(np.float16).ravel()
        return values

    def unpack(self, values: NDArray[np.float16]) -> Embedding:
        """Return the embedding that `pack` was given."""
        import torch

        return Embedding((torch.from_numpy(values.astype(np.uint8)).reshape(1, 3, SIDE, SIDE),))

    def decode(self, embedding: Embedding, prompts: TilePrompts) -> Decoded:
        """Segment one object, and append its prompts to `decoded`."""
        self.decoded.append(prompts)
        cells = _cell_means(embedding)
        region = self._region(cells, prompts)
        nested = ndimage.binary_erosion(region), region, ndimage.binary_dilation(region)
        logits = np.stack([np.where(blob, 4, -4) for blob in nested]).astype(np.float32)
        negative = _cells_under(prompts)[~prompts.labels]
        logits[:, negative[:, 0], negative[:, 1]] = -50
        if prompts.mask_logits is not None:  # Too little to change a sign, enough for a test to see it.
            logits += prompts.mask_logits * np.float32(0.01)
        rows, cols = region.any(axis=1).sum(), region.any(axis=0).sum()
        fit = 1 - abs(max(rows, cols) * CELL / SIDE - self.object_fraction)
        # Sorted neither by area nor by score, so that code that forgets to sort is found out.
        order = [2, 1, 0]
        return Decoded(logits[order], np.array([0.8 * fit, fit, 0.9 * fit], np.float32))

    def _region(self, cells: NDArray[Any], prompts: TilePrompts) -> NDArray[np.bool_]:
        allowed = np.ones(cells.shape, bool)
        if prompts.box is not None:
            centers = (np.arange(len(cells)) + 0.5) * CELL
            inside_rows = (centers >= prompts.box.top) & (centers < prompts.box.bottom)
            inside_cols = (centers >= prompts.box.left) & (centers < prompts.box.right)
            allowed &= np.outer(inside_rows, inside_cols)
        region = np.zeros(cells.shape, bool)
        for row, col in _cells_under(prompts)[prompts.labels]:
            parts, _ = ndimage.label(allowed & (np.abs(cells - cells[row, col]) < 60))
            region |= (parts == parts[row, col]) & (parts > 0)
        if not prompts.labels.any():
            region |= allowed & (cells > cells[allowed].mean() if allowed.any() else False)
        return region


class DiscFinder(FakePredictor):
    """Model that also takes text: it finds the bright regions of a tile for "disc", and nothing for other words.

    For tests of `napari_sam.find` and `napari-sam find`, whose smallest real model has 3 GB.
    """

    finds_text = True

    def find(self, embedding: Embedding, text: str, threshold: float = 0.5) -> SimpleNamespace:
        """Find all bright regions of a tile.

        Parameters
        ----------
        embedding
            The encoded tile.
        text
            Name of the objects; only "disc" finds any.
        threshold
            Ignored: every region has the score 0.9.

        Returns
        -------
        SimpleNamespace
            `logits` of shape (n, 16, 16), float32, and `scores` of shape (n,).
        """
        bright = embedding.tensors[0][0].float().mean(0).numpy() > 100
        count_side = SIDE // CELL
        shares = bright.reshape(count_side, CELL, count_side, CELL).mean((1, 3))
        parts, count = ndimage.label(shares > 0.3)
        logits = [np.where(parts == number, 5, -5) for number in range(1, count + 1)] if text == "disc" else []
        return SimpleNamespace(
            logits=np.array(logits, np.float32).reshape(-1, count_side, count_side),
            scores=np.full(len(logits), 0.9),
        )


class BlobFinder(FakePredictor):
    """Model that guesses where the bright regions of a tile are, without a prompt, and decodes them on windows.

    For tests of `Segmenter.everything` with a model that guesses. The guesses are exact; a mask covers the region under
    its positive point as well as cells of 4 x 4 tile pixels can show it. The three candidates are nested, as those of
    `FakePredictor`, and the second of them has the highest predicted IoU, 0.9.
    It implements `napari_sam.core.predictor.WindowPredictor`.

    Attributes
    ----------
    windows : list of TilePrompts
        The prompts of every object that was decoded on a window, in the pixels of the window.
    """

    name = "fake-blobs"
    digest = "fake-blobs/1"
    sweep_side = 3 * SIDE
    window_side = 3 * SIDE // 2
    guesses_foreground = True
    # Gray value of the pixels of an object.
    least_gray = 100

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[TilePrompts] = []

    def dense_guesses(self, embedding: Embedding) -> DenseGuesses:
        """Return the center and the size of the bright region that each cell lies on."""
        parts, count = self._regions(embedding)
        side = parts.shape[0] // CELL
        cells = parts.reshape(side, CELL, side, CELL).max((1, 3))
        numbers = np.arange(1, count + 1)
        centers = np.array([(0, 0), *ndimage.center_of_mass(parts > 0, parts, numbers)], np.float32)
        sizes = np.sqrt(np.bincount(parts.ravel(), minlength=count + 1)).astype(np.float32)
        middles = np.indices((side, side)) * CELL + (CELL - 1) / 2
        offsets = np.moveaxis(centers[cells], -1, 0) - middles
        return DenseGuesses(offsets.astype(np.float32), sizes[cells], (cells > 0).astype(np.float32))

    def window_origins(self, points: NDArray[np.floating[Any]], side: int) -> NDArray[np.intp]:
        """Return where the window around each point begins: at a whole cell, and inside the tile."""
        first = np.rint((np.asarray(points).reshape(-1, 2) - self.window_side / 2) / CELL) * CELL
        return np.asarray(np.clip(first, 0, side - self.window_side), np.intp)

    def decode_windows(
        self, embedding: Embedding, origins: NDArray[np.intp], prompts: Sequence[TilePrompts]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Segment the region under the positive point of each prompt, and append the prompts to `windows`."""
        self.windows += prompts
        parts, _ = self._regions(embedding)
        count = self.window_side // CELL
        logits = np.zeros((len(prompts), 3, count, count), np.float32)
        for answer, (top, left), prompt in zip(logits, origins, prompts, strict=True):
            window = parts[top : top + self.window_side, left : left + self.window_side]
            row, col = np.clip(prompt.points[prompt.labels][0] + 0.5, 0, self.window_side - 1).astype(np.intp)
            region = (window == window[row, col]) & (window > 0)
            share = region.reshape(count, CELL, count, CELL).mean((1, 3))
            # Unsorted, as the answers of `FakePredictor`. Half a cell is the outline.
            for mask, change in zip(answer, (0.25, 0.0, -0.25), strict=True):
                mask[:] = 16 * (share - 0.5 + change * (share > 0))
        return logits, np.tile(np.array([0.7, 0.9, 0.8], np.float32), (len(prompts), 1))

    def _regions(self, embedding: Embedding) -> tuple[NDArray[np.intp], int]:
        """Return the number of the bright region that each pixel of a tile lies on, and how many there are."""
        gray = embedding.tensors[0][0].float().mean(0).numpy()
        parts, count = ndimage.label(gray > self.least_gray)
        return parts, int(count)


def _cell_means(embedding: Embedding) -> NDArray[np.float32]:
    gray = embedding.tensors[0][0].float().mean(0)
    means: NDArray[np.float32] = gray.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).mean((1, 3)).numpy()
    return means


def _cells_under(prompts: TilePrompts) -> NDArray[np.intp]:
    """Return the cells under the points, (row, col) each."""
    cells: NDArray[np.intp] = (np.clip(prompts.points + 0.5, 0, SIDE - 1) // CELL).astype(np.intp)
    return cells
