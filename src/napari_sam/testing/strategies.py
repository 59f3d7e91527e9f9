"""Strategies of hypothesis for planes, boxes, masks and array indices. Needs hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any

import numpy as np
from hypothesis import strategies as st

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask

Draw = Callable[[st.SearchStrategy[Any]], Any]
Key = tuple[int | slice | EllipsisType, ...]


@st.composite
def planes(draw: Draw, shape: Sequence[int]) -> Plane:
    """Draw any plane of an array, its axes in either order.

    Parameters
    ----------
    draw
        Given by hypothesis.
    shape
        Shape of the array, at least two axes, each of at least one pixel.
    """
    axes = tuple(draw(st.permutations(range(len(shape))))[:2])
    index = [draw(st.integers(0, length - 1)) for axis, length in enumerate(shape) if axis not in axes]
    return Plane.of(shape, index, axes)


@st.composite
def boxes(draw: Draw, shape: Sequence[int], min_side: int = 1) -> Box:
    """Draw a box of whole pixels inside a plane.

    Parameters
    ----------
    draw
        Given by hypothesis.
    shape
        (rows, cols) of the plane.
    min_side
        Lowest height and width, in pixels; 0 for boxes that may be empty.
    """
    rows, cols = shape
    top, left = draw(st.integers(0, rows - min_side)), draw(st.integers(0, cols - min_side))
    return Box(top, left, draw(st.integers(top + min_side, rows)), draw(st.integers(left + min_side, cols)))


@st.composite
def masks(
    draw: Draw,
    shape: Sequence[int],
    densities: Sequence[float] = (0.0, 0.2, 0.6, 0.9, 1.0),
) -> Mask:
    """Draw a mask of random pixels, with a predicted IoU of 0.5 and a stability of 0.25.

    Parameters
    ----------
    draw
        Given by hypothesis.
    shape
        (rows, cols) of the plane that the mask lies in.
    densities
        Shares of the pixels of its box that belong to it, of which one is drawn; a mask may be empty even at a
        density above 0.
    """
    box = draw(boxes(shape))
    density, seed = draw(st.sampled_from(densities)), draw(st.integers(0, 999))
    return Mask(box, np.random.default_rng(seed).random(box.pixel_shape) < density, 0.5, 0.25)


@st.composite
def array_keys(draw: Draw, shape: Sequence[int], negative_steps: bool = False) -> Key:
    """Draw a basic index as numpy takes it: integers, slices that may pass the ends, and at most one ellipsis at last.

    Parameters
    ----------
    draw
        Given by hypothesis.
    shape
        Shape of the array.
    negative_steps
        Whether slices may run backwards.
    """
    key = draw(st.tuples(*(_axis_keys(length, negative_steps) for length in shape)))
    cut: Key = key[: draw(st.integers(0, len(shape)))]
    return (*cut, ...) if draw(st.booleans()) else cut


def _axis_keys(length: int, negative_steps: bool) -> st.SearchStrategy[int | slice]:
    bounds = st.integers(-length - 2, length + 2)
    steps = st.integers(-3, 3).filter(bool) if negative_steps else st.integers(1, 3)
    return st.one_of(st.integers(-length, length - 1), st.builds(slice, bounds, bounds, steps), st.just(slice(None)))
