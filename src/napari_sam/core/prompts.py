"""What the user says about one object: points, a box, a mask; checked once, then turned into tile coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.draw import polygon as fill_polygon

from napari_sam.core.geometry import Box, interpolated, overlap_matrix
from napari_sam.core.masks import Mask
from napari_sam.core.tiles import Tile
from napari_sam.errors import PromptError

MASK_PROMPT_LOGIT = 8.0


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
        at = np.zeros((0, 2)) if points is None else _numbers(points, "Points", "one (row, col) each")
        at = at.reshape(1, 2) if at.shape == (2,) else at.reshape(0, 2) if at.size == 0 else at
        if at.ndim != 2 or at.shape[1] != 2:
            raise PromptError(f"Points must have shape (n, 2), one (row, col) each, and these have {at.shape}.")
        signs = np.ones(len(at), bool) if labels is None else _signs(labels)
        if len(signs) != len(at):
            raise PromptError(
                f"{len(at)} points came with {len(signs)} labels: give one label (1 or 0) for each point."
            )
        plane = Box.of_shape(shape)
        for row, col in at:
            if not (np.isfinite([row, col]).all() and plane.contains_point(row, col)):
                raise PromptError(
                    f"The point ({row:g}, {col:g}) lies outside the image, whose rows are 0 to {shape[0] - 1} "
                    f"and columns 0 to {shape[1] - 1}: put it inside."
                )
        rough = _checked_mask(mask, shape)
        around = _checked_box(box, plane)
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
        """Return the prompts as they would have been given one after the other.

        The decoders are trained on rounds: a first prompt, then one more point each time, with the last answer fed
        back. The first step holds the box, the mask, or the points up to the first positive one.
        """
        first = 0
        if self.box is None:
            first = int(np.argmax(self.labels)) + 1
        return [
            replace(self, points=self.points[:count], labels=self.labels[:count])
            for count in range(first, len(self.points) + 1)
        ]

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value that is equal for equal prompts."""
        mask: tuple[Any, ...] | None = None
        if self.mask is not None:
            logits = self.mask.low_res_logits
            known = None if logits is None else (logits.tobytes(), self.mask.tile)
            mask = self.mask.box.as_tuple(), self.mask.pixels.tobytes(), known
        return self.points.tobytes(), self.labels.tobytes(), self.box and self.box.as_tuple(), mask


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
        seen = np.array([tile.read.contains_point(*point) for point in prompts.points], bool)
        points = [tile.point_to_tile(*point) for point in prompts.points[seen]]
        hint = previous or prompts.mask
        return cls(
            np.array(points, np.float32).reshape(-1, 2),
            prompts.labels[seen],
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
    side = tile.side // 4
    cell_height, cell_width = (step * 4 for step in tile.step)
    rows = tile.read.top + (np.arange(side) + 0.5) * cell_height
    cols = tile.read.left + (np.arange(side) + 0.5) * cell_width
    if mask.low_res_logits is not None and mask.tile is not None:
        source, at = mask.low_res_logits, mask.tile
        at_rows, at_cols = (rows - at.read.top) / (at.step[0] * 4), (cols - at.read.left) / (at.step[1] * 4)
        values = interpolated(source, at_rows, at_cols)
        inside = _within(rows, at.read.top, at.read.bottom)[:, None] & _within(cols, at.read.left, at.read.right)
        return np.asarray(np.where(inside, values, -MASK_PROMPT_LOGIT), np.float32)
    covered = _coverage(mask, rows, cols, (cell_height, cell_width))
    return (covered * 2 - 1) * np.float32(MASK_PROMPT_LOGIT)


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
        These are no corners of a polygon, or nothing of it lies inside the plane.
    """
    corners = _numbers(vertices, "A polygon's corners", "one (row, col) each")
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3 or not np.isfinite(corners).all():
        raise PromptError(
            f"A polygon needs at least three corners (row, col), and these are {corners.tolist()}: add some."
        )
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0)) + 1
    box = Box(low[0], low[1], high[0], high[1]).intersection(Box.of_shape(shape))
    if not box.is_empty:
        rows, cols = fill_polygon(corners[:, 0] - box.top, corners[:, 1] - box.left, box.pixel_shape)
        pixels = np.zeros(box.pixel_shape, bool)
        pixels[rows, cols] = True
        if pixels.any():
            return Mask(box, pixels).tightened()
    raise PromptError("The shape covers no pixel of the image: draw it over the object.")


def _numbers(values: ArrayLike, what: str, form: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{what} must be numbers, {form}, and these are {values!r}: correct them.") from error


def _signs(labels: ArrayLike) -> NDArray[np.bool_]:
    values = np.atleast_1d(np.asarray(labels))
    if not np.isin(values, (0, 1)).all():
        raise PromptError(f"Point labels must be 1 (on the object) or 0 (not on it), and these are {values.tolist()}.")
    return values.astype(bool)


def _checked_box(box: Box | Sequence[float] | None, plane: Box) -> Box | None:
    if box is None:
        return None
    numbers = _numbers(box.as_tuple() if isinstance(box, Box) else box, "A box's edges", "top, left, bottom, right")
    if numbers.shape != (4,) or not np.isfinite(numbers).all():
        raise PromptError(f"A box needs four numbers, top, left, bottom, right, and this one is {numbers.tolist()}.")
    values = numbers.tolist()
    checked = Box(*values)
    if checked.height < 0 or checked.width < 0:
        raise PromptError(
            f"The box {_short(values)} is upside down: give (top, left, bottom, right), top < bottom and left < right."
        )
    if checked.is_empty:
        raise PromptError(f"The box {_short(values)} has no area: draw it around the object.")
    if not plane.contains(checked):
        inside = checked.intersection(plane)
        if inside.is_empty:
            raise PromptError(
                f"The box {_short(values)} lies outside the image of {plane.bottom:g} x {plane.right:g} pixels: "
                "put it inside."
            )
        checked = inside
    return checked


def _checked_mask(mask: Mask | ArrayLike | None, shape: tuple[int, int]) -> Mask | None:
    if mask is None:
        return None
    if isinstance(mask, Mask):
        if mask.area == 0 or not Box.of_shape(shape).contains(mask.box):
            raise PromptError("The mask prompt is empty or reaches outside the image: draw it over the object.")
        return mask
    pixels = np.asarray(mask)
    if pixels.shape != tuple(shape):
        raise PromptError(f"The mask prompt has shape {pixels.shape} and the plane {tuple(shape)}: make them equal.")
    if not pixels.any():
        raise PromptError("The mask prompt is empty: mark at least one pixel of the object.")
    return Mask(Box.of_shape(shape), pixels.astype(bool)).tightened()


def _short(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _within(positions: NDArray[np.floating[Any]], low: float, high: float) -> NDArray[np.bool_]:
    return (positions >= low) & (positions < high)


def _coverage(
    mask: Mask, rows: NDArray[np.floating[Any]], cols: NDArray[np.floating[Any]], cell: tuple[float, float]
) -> NDArray[np.float32]:
    """Return the share of each cell (centres rows x cols, height and width `cell`) that the mask's pixels cover."""
    by_row = overlap_matrix(rows, cell[0], mask.box.top, mask.pixels.shape[0])
    by_col = overlap_matrix(cols, cell[1], mask.box.left, mask.pixels.shape[1])
    return np.asarray(by_row @ mask.pixels.astype(np.float32) @ by_col.T, np.float32)
