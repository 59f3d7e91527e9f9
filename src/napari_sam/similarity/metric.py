"""KindMetric: a space in which objects of one kind lie close together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_sam.similarity.descriptors import DescriptorLayout
from napari_sam.similarity.positional_bias import Bias, unbiased
from napari_sam.weights.fitted import fitted_values

# Fitted by tools/fit_likeness.py on objects of known kinds.
WEIGHTS = Path(__file__).with_name("likeness.npz")
# Axes of the space of a model without fitted weights.
AXES = 12
# A spread below this share of the mean spread is noise, which must not count as much as the others.
LEAST_SPREAD = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class KindMetric:
    """A linear map of descriptors, after which equal distances mean about equally different kinds.

    Parameters
    ----------
    offset
        Shape (width,), float32: subtracted from descriptors.
    axes
        Shape (width, k), float32.
    is_fitted
        Whether the axes were fitted for the model, and not taken from the objects of one plane.
    """

    offset: NDArray[np.float32]
    axes: NDArray[np.float32]
    is_fitted: bool

    @classmethod
    def fitted(cls, layout: DescriptorLayout) -> Self | None:
        """Return the metric that was fitted for the model of a layout, or None."""
        values = weights().get(axes_name(layout))
        return None if values is None else cls(values[0], values[1:].T, True)

    @classmethod
    def of_objects(cls, layout: DescriptorLayout, descriptors: NDArray[np.float16], bias: Bias | None = None) -> Self:
        """Return the directions in which objects of one plane differ most; each group of values counts the same.

        Parameters
        ----------
        layout
            The layout of the descriptors.
        descriptors
            Shape (n, width): the objects.
        bias
            The positional bias of the model, which the directions leave out; none by default.
        """
        values = unbiased(descriptors.astype(np.float32), layout, bias or {})
        if not len(values):
            return cls(np.zeros(layout.width, np.float32), np.zeros((layout.width, AXES), np.float32), False)
        offset, spread = values.mean(0), values.std(0)
        scale = np.zeros(layout.width, np.float32)
        for name, part in layout.slices.items():
            if name != "shape":
                least = LEAST_SPREAD * float(spread[part].mean()) + 1e-6
                scale[part] = 1 / np.maximum(spread[part], least) / np.sqrt(layout.widths[name])
        scaled = (values - offset) * scale
        covariance = scaled.T @ scaled / len(scaled)
        sizes, vectors = np.linalg.eigh(covariance)
        axes = unbiased((vectors[:, ::-1][:, :AXES] * scale[:, None]).T.astype(np.float32), layout, bias or {}).T
        # Scaled so that distances are about as large as those of fitted axes.
        total = np.sqrt(max(float(sizes[::-1][:AXES].sum()), 1e-6) / AXES)
        return cls(offset, np.asarray(axes / total, np.float32), False)

    def __call__(self, descriptors: NDArray[np.float16]) -> NDArray[np.float32]:
        """Return objects as points, shape (n, k)."""
        return np.asarray((descriptors.astype(np.float32) - self.offset) @ self.axes, np.float32)


@lru_cache(1)
def weights() -> dict[str, NDArray[np.float32]]:
    """Return the fitted values by their names, in single precision."""
    return {name: values.astype(np.float32) for name, values in fitted_values(WEIGHTS).items()}


def axes_name(layout: DescriptorLayout) -> str:
    """Return the name of the fitted axes of a model, whose first row is the offset."""
    return "axes " + " ".join(f"{channels}/{stride}" for channels, stride in layout.maps)
