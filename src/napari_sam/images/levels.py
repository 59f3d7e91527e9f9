"""Downsampling factors of the levels of a pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from napari_sam.errors import ImageError
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.images.source import ImageSource

Factors = tuple[float, ...]


def level_factors(opened: ImageSource) -> tuple[Factors, ...]:
    """Return the downsampling factors of each level along every axis.

    Raises
    ------
    ImageError
        The levels are not a pyramid: their axes or types differ, or one is larger than the one before it.
    """
    first = opened.levels[0]
    shapes = [tuple(int(length) for length in level.shape) for level in opened.levels]
    for number, (level, shape) in enumerate(zip(opened.levels, shapes, strict=True)):
        if len(shape) != len(shapes[0]) or dtype_of(level) != dtype_of(first):
            raise ImageError(
                f"Level {number} of the pyramid has shape {shape} and type {dtype_of(level)}, and level 0 "
                f"has {shapes[0]} and {dtype_of(first)}: give levels of one image, or the finest one alone."
            )
    found = opened.factors or inferred_factors(shapes)
    for number, ((before, after), (fine, coarse)) in enumerate(zip(pairwise(found), pairwise(shapes), strict=True), 1):
        shrinks = all(b >= a - 1e-6 for a, b in zip(before, after, strict=True))
        if not shrinks or any(short > long for long, short in zip(fine, coarse, strict=True)):
            raise ImageError(
                f"Level {number} of the pyramid, of shape {coarse}, is larger than the one before it: give "
                "levels from fine to coarse, or the finest one alone."
            )
    return tuple(tuple(map(float, factors)) for factors in found)


def coarsest_level(factors: Sequence[Factors], steps: Mapping[int, float]) -> int:
    """Return the coarsest level whose pixels are no larger than given steps, 0 if there is none.

    Parameters
    ----------
    factors
        As from `level_factors`.
    steps
        Largest pixel along the axes of a plane, in level-0 pixels. Along the other axes it is the larger of them.
    """
    others = max(1.0, *steps.values())
    limits = [steps.get(axis, others) * (1 + 1e-6) for axis in range(len(factors[0]))]
    fine = [
        level
        for level, sizes in enumerate(factors)
        if all(size <= limit for size, limit in zip(sizes, limits, strict=True))
    ]
    return max(fine, default=0)


def inferred_factors(shapes: Sequence[tuple[int, ...]]) -> tuple[Factors, ...]:
    """Return the downsampling factors that the shapes of the levels allow.

    Writers cut, round or round up odd lengths, so the factors are ambiguous. A whole factor that all shrinking axes
    have in common is preferred, at first the step between the levels before; the last choice is the ratio of lengths.
    """
    finest = shapes[0]
    found: list[Factors] = [(1.0,) * len(finest)]
    step: float | None = None
    for coarse in shapes[1:]:
        before = found[-1]
        longest = max(range(len(finest)), key=lambda axis: (coarse[axis] < finest[axis], finest[axis]))
        nearest = _nearest_whole(finest[longest], coarse[longest])
        regular = nearest if step is None else before[longest] * step
        common = next((c for c in (regular, nearest) if _fits(finest[longest], coarse[longest], c)), None)
        lengths = zip(finest, coarse, before, strict=True)
        found.append(tuple(_factor(fine, short, factor, common) for fine, short, factor in lengths))
        step = found[-1][longest] / before[longest]
    return tuple(found)


def _factor(fine: int, coarse: int, before: float, common: float | None) -> float:
    if fine == coarse:
        return before
    if common is not None and _fits(fine, coarse, common):
        return max(common, before)
    whole = _nearest_whole(fine, coarse)
    return max(whole if _fits(fine, coarse, whole) else fine / max(coarse, 1), before)


def _nearest_whole(fine: int, coarse: int) -> float:
    return float(max(round(fine / max(coarse, 1)), 1))


def _fits(fine: int, coarse: int, factor: float) -> bool:
    """Return whether a length can be that of an axis shortened by a factor, cut or rounded up."""
    return abs(fine / factor - coarse) < 1
