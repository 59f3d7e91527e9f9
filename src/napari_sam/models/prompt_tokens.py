"""Prompts as coordinates and types of tokens, the input of every prompt encoder here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.prompts import TilePrompts

# As in SAM's checkpoints; the number of a padding token differs between networks.
NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT = range(4)


def prompt_tokens(
    prompts: TilePrompts, *, box_first: bool, padding: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the tokens of the points and of the box's two corners.

    Parameters
    ----------
    prompts
        Prompts of one object, in (row, col) of the tile.
    box_first
        Whether the box stands before the points. Networks depend on the order they were trained with.
    padding
        Type of the token at (0, 0) that takes the place of a missing box; None for no such token.

    Returns
    -------
    coords : numpy.ndarray
        Shape (tokens, 2), float32: (x, y).
    types : numpy.ndarray
        Shape (tokens,), int64: NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT or `padding`.
    """
    box = prompts.box
    corners: list[tuple[float, float]] = []
    kinds: list[int] = []
    if box is not None:
        corners, kinds = [(box.left, box.top), (box.right, box.bottom)], [TOP_LEFT, BOTTOM_RIGHT]
    elif padding is not None:
        corners, kinds = [(0.0, 0.0)], [padding]
    coords = [np.array(corners, np.float32).reshape(-1, 2), prompts.points[:, ::-1]]
    types = [np.array(kinds, np.int64), np.where(prompts.labels, POSITIVE, NEGATIVE)]
    order = 1 if box_first else -1
    return np.concatenate(coords[::order]).astype(np.float32), np.concatenate(types[::order]).astype(np.int64)
