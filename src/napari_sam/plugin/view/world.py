"""Convert positions between the viewer's world and layers that use other units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

Units = Sequence[Any] | None


def to_world(viewer: ViewerModel, layer: Layer, position: ArrayLike) -> NDArray[np.float64]:
    """Return where a data position of a layer lies in the world, along the layer's own axes."""
    place = np.asarray(layer.data_to_world(np.asarray(position, float)), np.float64)
    return np.asarray(place * factors(layer.units, viewer.dims.units), np.float64)


def to_data(viewer: ViewerModel, layer: Layer, position: ArrayLike) -> NDArray[np.float64]:
    """Return the data position of a layer at a position of the world, of whose axes the last ones count."""
    place = np.asarray(position, float)[-layer.ndim :]
    return np.asarray(layer.world_to_data(place / factors(layer.units, viewer.dims.units)), np.float64)


def moved(source: Layer, target: Layer, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn data positions of one layer, shape (n, source.ndim), into those of another, shape (n, target.ndim)."""
    factor = factors(source.units, target.units)
    places = [target.world_to_data(np.asarray(source.data_to_world(row)) * factor) for row in positions]
    return np.array(places, np.float64).reshape(-1, target.ndim)


def same_place(a: Layer, b: Layer) -> bool:
    """Say whether two layers of the same number of axes map pixels to the world alike, each in its own units."""
    if a.ndim != b.ndim:
        return False
    factor, probes = factors(a.units, b.units), np.vstack([np.zeros(a.ndim), np.eye(a.ndim)])
    return all(np.allclose(np.asarray(a.data_to_world(p)) * factor, b.data_to_world(p)) for p in probes)


def factors(units: Units, others: Units) -> NDArray[np.float64]:
    """Return how many of the other units one unit of each axis is.

    As in napari, the last axes go together, and nothing is converted where the others are unknown or fewer, or where
    one of them measures something else.
    """
    count = 0 if units is None else len(units)
    if units is None or others is None or len(others) < count:
        return np.ones(count)
    mine, theirs = ([(1 * unit).to_base_units() for unit in each] for each in (units, others[len(others) - count :]))
    if any(a.units != b.units for a, b in zip(mine, theirs, strict=True)):
        return np.ones(count)
    return np.array([float(a.magnitude / b.magnitude) for a, b in zip(mine, theirs, strict=True)])


def transform_in(layer: Layer, units: Units) -> dict[str, Any]:
    """Return the arguments that give a new layer the place of another, counted in the world's units.

    napari's tools take the mouse's place in the world for one in the units of their layer: only a layer that counts as
    the world does gets prompts where the user clicks.
    """
    factor = factors(layer.units, units)
    affine = np.array(layer.affine.affine_matrix, np.float64)
    place = {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }
    if units is None or (factor == 1).all():
        return place
    affine[:-1] *= factor[:, None]
    return {**place, "affine": affine, "units": tuple(units)[-layer.ndim :]}
