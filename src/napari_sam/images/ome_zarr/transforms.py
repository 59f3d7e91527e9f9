"""Coordinate transformations of OME-Zarr: the scale, origin and order of the axes that they give an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Largest part of a step along other axes that counts as a rounding error.
TOLERANCE = 1e-9


class UnsupportedTransformationError(ValueError):
    """A transformation that does not map each axis of the array to one axis of space."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The position of an array in its coordinate system.

    Parameters
    ----------
    order
        For each array axis, the number of the axis of the coordinate system that it runs along.
    scale
        Step from one pixel to the next, along each array axis; negative where it runs backwards.
    origin
        Center of the first pixel, along each array axis.
    """

    order: tuple[int, ...]
    scale: tuple[float, ...]
    origin: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """A linear map of array indices to coordinates: `matrix @ index + offset`."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    def then(self, other: Affine) -> Affine:
        """Return this map, followed by another one."""
        return Affine(other.matrix @ self.matrix, other.matrix @ self.offset + other.offset)


def placement(transformations: Sequence[Mapping[str, Any]], ndim: int, names: Sequence[str] = ()) -> Placement:
    """Return the position of an array by transformations that are applied one after the other.

    Parameters
    ----------
    transformations
        As in the metadata of OME-Zarr 0.4 to 0.6.
    ndim
        Number of axes of the array.
    names
        Axes of the coordinate system, to which transformations of single axes refer.

    Raises
    ------
    UnsupportedTransformationError
        They rotate, shear or deform.
    ValueError, TypeError, LookupError
        They are damaged.
    """
    total = Affine(np.eye(ndim), np.zeros(ndim))
    for transformation in transformations:
        total = total.then(_affine(transformation, ndim, names))
    matrix = total.matrix
    if not (np.isfinite(matrix).all() and np.isfinite(total.offset).all()):
        raise ValueError("a coordinate is not finite")
    large = np.abs(matrix) > TOLERANCE * np.abs(matrix).max(1, keepdims=True)
    if not large.any(1).all():
        raise ValueError("a scale is 0")
    if not ((large.sum(0) == 1).all() and (large.sum(1) == 1).all()):
        raise UnsupportedTransformationError("they rotate or shear it")
    order = large.argmax(0)
    return Placement(
        tuple(int(axis) for axis in order),
        tuple(float(matrix[axis, at]) for at, axis in enumerate(order)),
        tuple(float(total.offset[axis]) for axis in order),
    )


def _affine(transformation: Mapping[str, Any], ndim: int, names: Sequence[str]) -> Affine:
    kind = transformation.get("type")
    matrix, offset = np.eye(ndim), np.zeros(ndim)
    if kind == "identity":
        return Affine(matrix, offset)
    if kind == "scale":
        return Affine(np.diag(_vector(transformation["scale"], ndim)), offset)
    if kind == "translation":
        return Affine(matrix, _vector(transformation["translation"], ndim))
    if kind == "mapAxis":
        return Affine(matrix[[_axis(at, names) for at in _mapped(transformation["mapAxis"], names)]], offset)
    if kind in ("affine", "rotation"):
        values = np.array(transformation[kind], np.float64)
        if values.shape not in ((ndim, ndim + 1), (ndim, ndim)):
            raise ValueError(f"the matrix of {kind} has shape {values.shape}")
        return Affine(values[:, :ndim], values[:, ndim] if values.shape[1] > ndim else offset)
    if kind == "sequence":
        total = Affine(matrix, offset)
        for inner in transformation["transformations"]:
            total = total.then(_affine(inner, ndim, names))
        return total
    if kind == "bijection":
        return _affine(transformation["forward"], ndim, names)
    if kind == "inverseOf":
        inner = _affine(transformation["transformation"], ndim, names)
        inverse = np.linalg.inv(inner.matrix)
        return Affine(np.asarray(inverse, np.float64), -inverse @ inner.offset)
    if kind == "byDimension":
        return _by_dimension(transformation["transformations"], ndim, names)
    raise UnsupportedTransformationError(f"a transformation is of type {kind!r}")


def _by_dimension(parts: Sequence[Mapping[str, Any]], ndim: int, names: Sequence[str]) -> Affine:
    """Return a map that is put together of maps of some axes each."""
    matrix, offset = np.zeros((ndim, ndim)), np.zeros(ndim)
    for part in parts:
        inputs, outputs = (
            [_axis(at, names) for at in part.get(f"{side}_axes", part.get(side))] for side in ("input", "output")
        )
        inner = _affine(part.get("transformation", part), len(inputs), [names[at] for at in outputs] if names else ())
        matrix[np.ix_(outputs, inputs)] = inner.matrix
        offset[outputs] = inner.offset
    return Affine(matrix, offset)


def _mapped(given: Any, names: Sequence[str]) -> list[Any]:
    """Return the input axis of each output axis, from a list or from names."""
    return [given[name] for name in names] if isinstance(given, Mapping) else list(given)


def _axis(given: Any, names: Sequence[str]) -> int:
    if isinstance(given, str) and given not in names:
        return int(given.removeprefix("dim_"))
    return list(names).index(given) if isinstance(given, str) else int(given)


def _vector(values: Any, ndim: int) -> NDArray[np.float64]:
    vector = np.array([float(value) for value in values], np.float64)
    if vector.shape != (ndim,):
        raise ValueError(f"there are {vector.size} numbers for {ndim} axes")
    return vector
