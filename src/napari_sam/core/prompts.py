"""Prompts: points, a box and a mask for one object, checked once and converted to tile coordinates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.arguments import numbers, shape_of, shown
from napari_sam.core.geometry import Box, interpolated, overlap_matrix
from napari_sam.core.masks import Mask
from napari_sam.core.polygons import fill_polygon
from napari_sam.core.prompt_checks import check_mask_size, checked_box, checked_mask, point_signs
from napari_sam.core.tiles import Tile
from napari_sam.errors import PromptError

MASK_PROMPT_LOGIT = 8.0
# Points that are decoded one after the other; of more, the number of points doubles from round to round.
MAX_SINGLE_ROUNDS = 32
# Points that a decoder is given at once: its memory grows with their number, a SAM's with the square of it.
MAX_DECODED_POINTS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """The prompts of one object, in level-0 pixels; build it with `Prompts.of`, which checks them.

    Parameters
    ----------
    points
        Shape (n, 2), float64, (row, col); whole numbers are pixel centres.
    labels
        Shape (n,), bool: True where the point is on the object, False where it is on something else.
    box
        A box around the object, or None.
    mask
        A rough mask of the object, or None; its box is then the box where no other was given.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.bool_]
    box: Box | None = None
    mask: Mask | None = None
    _mask_keys: list[tuple[Mask, tuple[Any, ...]]] = field(default_factory=list, repr=False)

    @classmethod
    def of(
        cls,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: Box | Sequence[float] | None = None,
        mask: Mask | ArrayLike | None = None,
        *,
        shape: tuple[int, int],
    ) -> Prompts:
        """Check the prompts of one object on a plane of `shape` and return them.

        Parameters
        ----------
        points
            Shape (n, 2) or (2,): (row, col) in pixels of the plane.
        labels
            Shape (n,): 1 for a point on the object, 0 for one on something else; all 1 when left out.
        box
            (top, left, bottom, right), half-open.
        mask
            A `Mask`, or a boolean array of `shape`.
        shape
            Rows and columns of the plane.

        Raises
        ------
        PromptError
            Nothing was given, only negative points were, or something lies outside the plane or is empty.
        """
        at = np.zeros((0, 2)) if points is None else numbers(points, "Points", "one (row, col) each")
        at = at.reshape(1, 2) if at.shape == (2,) else at.reshape(0, 2) if at.size == 0 else at
        if at.ndim != 2 or at.shape[1] != 2:
            raise PromptError(f"Points must have shape (n, 2), one (row, col) each, and these have {at.shape}.")
        signs = np.ones(len(at), bool) if labels is None else point_signs(labels)
        if len(signs) != len(at):
            raise PromptError(
                f"{len(at)} points came with {len(signs)} labels: give one label (1 or 0) for each point."
            )
        plane = Box.of_shape(shape)
        outside = at[~plane.contains_points(at)]
        if len(outside):
            raise PromptError(
                f"The point ({outside[0, 0]:g}, {outside[0, 1]:g}) lies outside the image, whose rows are 0 to "
                f"{shape[0] - 1} and columns 0 to {shape[1] - 1}: put it inside."
            )
        rough = checked_mask(mask, shape)
        around = checked_box(box, plane)
        if around is None and rough is not None:
            around = (
                rough.box
            )  # A mask alone is a prompt that decoders were not trained on; with its box it is a good one.
        prompts = cls(at, signs, around, rough)
        if prompts.box is None:
            if len(at) == 0:
                raise PromptError("There is no prompt: give at least one point on the object, a box or a mask.")
            if not signs.any():
                raise PromptError("There are only negative points: add at least one positive point on the object.")
        return prompts

    @property
    def positive(self) -> NDArray[np.float64]:
        """The points on the object, shape (n, 2)."""
        return self.points[self.labels]

    @property
    def bounds(self) -> Box:
        """The smallest box, in pixel edges, that holds the box, the mask and the positive points."""
        parts = [part for part in (self.box, self.mask.box if self.mask else None) if part is not None]
        if len(self.positive):
            low, high = self.positive.min(axis=0), self.positive.max(axis=0) + 1
            parts.append(Box(float(low[0]), float(low[1]), float(high[0]), float(high[1])))
        bounds = parts[0]
        for part in parts[1:]:
            bounds = bounds.union(part)
        return bounds

    def steps(self) -> list[Prompts]:
        """Return the rounds in which the prompts are decoded, each with the answer of the one before.

        The decoders are trained on rounds: a first prompt, then one more point each time. The first round holds the
        box, the mask, or the points up to the first positive one. Up to 32 points (`MAX_SINGLE_ROUNDS`) each further
        round adds one. Beyond that rounds end at 64, 128, 256, ... points and at the last one, so 1000 points are
        decoded in 37 rounds. Where a round ends depends only on the points before it: one more point is one more
        round after rounds that were decoded already.
        """
        count = len(self.points)
        first = 0 if self.box is not None else int(np.argmax(self.labels)) + 1
        ends = list(range(first, min(count, MAX_SINGLE_ROUNDS) + 1))
        end = 2 * MAX_SINGLE_ROUNDS
        while end < count:
            ends += [end] if end >= first else []
            end *= 2
        ends += [count] if not ends or ends[-1] < count else []
        return [replace(self, points=self.points[:end], labels=self.labels[:end]) for end in ends]

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value that is equal for equal prompts."""
        return self.points.tobytes(), self.labels.tobytes(), self.box and self.box.as_tuple(), self._key_of_mask()

    def _key_of_mask(self) -> tuple[Any, ...] | None:
        """Return a digest of the mask, computed once for all rounds: a mask can have a million pixels."""
        if self.mask is None:
            return None
        if not self._mask_keys or self._mask_keys[-1][0] is not self.mask:
            logits = self.mask.low_res_logits
            known = None if logits is None else (logits.tobytes(), self.mask.tile)
            pixels = hashlib.sha256(np.packbits(self.mask.pixels).tobytes()).digest()
            self._mask_keys[:] = [(self.mask, (self.mask.box.as_tuple(), pixels, known))]
        return self._mask_keys[-1][1]


@dataclass(frozen=True, slots=True, eq=False)
class TilePrompts:
    """Prompts as a predictor takes them: in the pixels of one tile.

    Parameters
    ----------
    points
        Shape (n, 2), float32, (row, col) in tile pixels; whole numbers are pixel centres.
    labels
        Shape (n,), bool.
    box
        In tile pixel edges, or None.
    mask_logits
        Shape (side / 4, side / 4), float32: logits of an earlier answer or of a mask prompt, or None.
    """

    points: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    box: Box | None = None
    mask_logits: NDArray[np.float32] | None = None

    @classmethod
    def on(cls, tile: Tile, prompts: Prompts, previous: Mask | None = None) -> TilePrompts:
        """Turn level-0 prompts into those of `tile`; points that it does not see are left out.

        Of more than 256 points (`MAX_DECODED_POINTS`) the last of each sign in each cell of a grid is given to the
        decoder. The cells are as small as that number allows: 4 x 4 tile pixels, 8 x 8, and so on.

        Parameters
        ----------
        tile
            The tile that will be decoded.
        prompts
            The object's prompts, in level-0 pixels.
        previous
            The last answer for the same object; its logits are resampled to the tile. A mask prompt counts where
            there is no earlier answer.
        """
        seen = tile.read.contains_points(prompts.points)
        points = np.stack(tile.point_to_tile(*prompts.points[seen].T), axis=1)
        labels = prompts.labels[seen]
        decoded = _thinned(points, labels)
        hint = previous or prompts.mask
        return cls(
            points[decoded].astype(np.float32),
            labels[decoded],
            None if prompts.box is None else tile.box_to_tile(prompts.box),
            None if hint is None else logits_on(tile, hint),
        )


def logits_on(tile: Tile, mask: Mask) -> NDArray[np.float32]:
    """Resample what is known of a mask to the low-resolution logits of a tile.

    A mask that carries its decoder's logits is resampled as logits; one that is only pixels (the user's) is averaged
    over each cell and scaled to +-8. What the mask does not cover is background.

    Returns
    -------
    numpy.ndarray
        Shape (side / 4, side / 4), float32.
    """
    rows, cols, (cell_height, cell_width) = _cells(tile, tile.side // 4)
    if mask.low_res_logits is not None and mask.tile is not None:
        source, at = mask.low_res_logits, mask.tile
        at_rows, at_cols = (rows - at.read.top) / (at.step[0] * 4), (cols - at.read.left) / (at.step[1] * 4)
        values = interpolated(source, at_rows, at_cols)
        inside = _within(rows, at.read.top, at.read.bottom)[:, None] & _within(cols, at.read.left, at.read.right)
        return np.asarray(np.where(inside, values, -MASK_PROMPT_LOGIT), np.float32)
    covered = coverage(mask, rows, cols, (cell_height, cell_width))
    return (covered * 2 - 1) * np.float32(MASK_PROMPT_LOGIT)


def coverage_on(tile: Tile, mask: Mask) -> NDArray[np.float32]:
    """Return the share of each pixel of a tile that a mask covers, shape (side, side), 0 to 1."""
    return coverage(mask, *_cells(tile, tile.side))


def rasterize_polygon(vertices: ArrayLike, shape: tuple[int, int]) -> Mask:
    """Return the pixels inside a polygon as a mask prompt.

    Parameters
    ----------
    vertices
        Shape (n, 2), (row, col) in level-0 pixels, whole numbers being pixel centres.
    shape
        Rows and columns of the plane; what lies outside is cut off.

    Raises
    ------
    PromptError
        These are not the corners of a polygon, or no part of it lies inside the plane.
    """
    rows, cols = shape_of(shape, "The shape of the plane", PromptError, 2)
    shape = rows, cols
    corners = numbers(vertices, "A polygon's corners", "one (row, col) each")
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3 or not np.isfinite(corners).all():
        raise PromptError(
            "A polygon needs at least three corners (row, col), all finite, and these are "
            f"{shown(corners.tolist())}: add some."
        )
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0)) + 1
    box = Box(low[0], low[1], high[0], high[1]).intersection(Box.of_shape(shape))
    check_mask_size(box)
    if not box.is_empty:
        pixels = fill_polygon(corners - (box.top, box.left), box.pixel_shape)
        if pixels.any():
            return Mask(box, pixels).tightened()
    raise PromptError("The shape covers no pixel of the image: draw it over the object.")


def _thinned(points: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return which points are decoded, in order; see `TilePrompts.on`."""
    chosen, cell = np.arange(len(points)), 4
    while len(chosen) > MAX_DECODED_POINTS:
        cells = np.column_stack([np.floor((points + 0.5) / cell), labels])
        # Of equal rows, `unique` returns the first: the last one of the points from the end.
        _, first = np.unique(cells[::-1], axis=0, return_index=True)
        chosen, cell = np.sort(len(points) - 1 - first), cell * 2
    return chosen


def _cells(tile: Tile, count: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]], tuple[float, float]]:
    """Return the middles of the rows and columns of count x count equal cells of a tile, and a cell's height and width.

    In level-0 pixels.
    """
    height, width = (step * (tile.side // count) for step in tile.step)
    middles = np.arange(count) + 0.5
    return tile.read.top + middles * height, tile.read.left + middles * width, (height, width)


def _within(positions: NDArray[np.floating[Any]], low: float, high: float) -> NDArray[np.bool_]:
    return (positions >= low) & (positions < high)


def coverage(
    mask: Mask, rows: NDArray[np.floating[Any]], cols: NDArray[np.floating[Any]], cell: tuple[float, float]
) -> NDArray[np.float32]:
    """Return the share of each cell (centres rows x cols, height and width `cell`) that the mask's pixels cover."""
    by_row = overlap_matrix(rows, cell[0], mask.box.top, mask.pixels.shape[0])
    by_col = overlap_matrix(cols, cell[1], mask.box.left, mask.pixels.shape[1])
    return np.asarray(by_row @ mask.pixels.astype(np.float32) @ by_col.T, np.float32)
