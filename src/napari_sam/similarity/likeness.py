"""Likeness: how probably an object is well outlined and of the kind of given examples, before anything was answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.similarity.descriptors import SHAPES
from napari_sam.similarity.metric import weights

# A distance below this is none: examples drawn by hand differ as much from themselves.
LEAST_DISTANCE = 0.05
MOST_LOGIT = 30.0
# Linear models for the distances of a fitted metric, and for those of any other.
FITTED, GENERAL = "fitted", "general"
# The size, which has its own comparison; elongation, ellipse, roughness and extent follow it.
SIZE = SHAPES.index("size")


@dataclass(frozen=True, slots=True, eq=False)
class Traits:
    """What objects are compared by.

    Parameters
    ----------
    kinds
        Shape (n, k), float32: points of the `KindMetric` of the model.
    looks
        Shape (n, l), float32: points of the metric that follows from the objects of the plane. Among them it tells
        apart what the other metric, fitted to whole kinds, takes for the same: bright from dark nuclei.
    shapes
        Shape (n, 5), float32: see `SHAPES`.
    quality
        Shape (n, m), float32: what speaks for a correct outline, whatever the kind; see `quality_of`.
    """

    kinds: NDArray[np.float32]
    looks: NDArray[np.float32]
    shapes: NDArray[np.float32]
    quality: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.shapes)

    def taken(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> Traits:
        """Return those of some objects."""
        return Traits(self.kinds[chosen], self.looks[chosen], self.shapes[chosen], self.quality[chosen])


def comparison(
    objects: Traits, examples: Traits, usual: tuple[float, float] | None = None
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Compare each object with the example that is most like it.

    Parameters
    ----------
    objects, examples
        What is compared; at least one example.
    usual
        The median distances of the objects of the plane to the examples, in kind and in looks; those of `objects` by
        default.

    Returns
    -------
    compared : numpy.ndarray
        Shape (n, 12), float32: differences of size and shape, and distances of kind and looks.
    usual : tuple of float
        The median distances.
    """
    kinds, looks = distances(objects.kinds, examples.kinds), distances(objects.looks, examples.looks)
    by_size = objects.shapes[:, SIZE, None] - examples.shapes[:, SIZE]
    nearest = (kinds + looks + by_size**2).argmin(1)
    rows = np.arange(len(objects))
    kind, look = kinds[rows, nearest], looks[rows, nearest]
    shapes = objects.shapes - examples.shapes[nearest]
    if usual is None:
        usual = (float(np.median(kind)), float(np.median(look))) if len(kind) else (0.0, 0.0)
    columns = [
        shapes[:, SIZE],
        np.abs(shapes[:, SIZE]),
        shapes[:, SIZE] ** 2,
        *np.abs(np.delete(shapes, SIZE, 1)).T,
        np.sqrt(kind),
        np.log(kind + LEAST_DISTANCE),
        np.log((kind + LEAST_DISTANCE) / (usual[0] + LEAST_DISTANCE)),
        np.sqrt(look),
        np.log((look + LEAST_DISTANCE) / (usual[1] + LEAST_DISTANCE)),
    ]
    return np.stack(columns, axis=1).astype(np.float32), usual


def distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean squared differences of points, shape (n, m)."""
    square = (one**2).mean(1)[:, None] + (other**2).mean(1)
    return np.asarray(np.maximum(square - 2 * (one @ other.T) / one.shape[1], 0), np.float32)


def linear_logits(name: str, objects: Traits, compared: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the logit of the likeness of each object, shape (n,).

    Parameters
    ----------
    name
        `FITTED` for distances of a fitted `KindMetric`, `GENERAL` for others.
    objects, compared
        What `comparison` compared, and its answer.
    """
    mean, spread, factor, bias = (weights()[f"{name} {part}"] for part in ("mean", "spread", "factor", "bias"))
    values = (np.concatenate([objects.quality, compared], axis=1) - mean) / spread
    return np.asarray(np.clip(values, -6, 6) @ factor.astype(np.float64) + float(bias[0]), np.float64)


def usual_quality() -> NDArray[np.float32]:
    """Return the mean quality of correct outlines, for examples that were not proposed; shape (m,)."""
    return weights()["usual quality"]


def quality_scale() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean and the spread of the quality of proposals, each of shape (m,)."""
    count = len(usual_quality())
    return weights()[f"{GENERAL} mean"][:count], weights()[f"{GENERAL} spread"][:count]


def probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of logits."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -MOST_LOGIT, MOST_LOGIT))), np.float64)
