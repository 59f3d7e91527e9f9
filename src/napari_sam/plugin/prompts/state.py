"""PromptState: all prompts of a viewer as values, so that they can be compared and put back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class DrawnShape:
    """One shape in the layer of shapes.

    Parameters
    ----------
    vertices
        Data positions in the layer, shape (n, ndim).
    kind
        napari's name of its type.
    sign
        1 on the object, 0 off it.
    number
        Number of its draft.
    """

    vertices: NDArray[np.float64]
    kind: str
    sign: int
    number: int

    def is_like(self, other: DrawnShape) -> bool:
        """Say whether another shape is the same."""
        same = (self.kind, self.sign, self.number) == (other.kind, other.sign, other.number)
        return same and np.array_equal(self.vertices, other.vertices)


@dataclass(frozen=True, slots=True, eq=False)
class PromptState:
    """All prompts at one time.

    Parameters
    ----------
    points
        Data positions in the layer of points, shape (n, ndim).
    signs, numbers
        Sign of each point, 1 or 0, and the number of its draft; shape (n,).
    shapes
        The shapes, in the order of their layer.
    """

    points: NDArray[np.float64]
    signs: NDArray[np.int64]
    numbers: NDArray[np.int64]
    shapes: tuple[DrawnShape, ...] = ()

    def is_like(self, other: PromptState) -> bool:
        """Say whether the prompts are the same in another state."""
        return self.has_same_points(other) and self.has_same_shapes(other)

    def has_same_points(self, other: PromptState) -> bool:
        """Say whether the points are the same in another state."""
        if len(self.points) == len(other.points) == 0:
            return True  # Without a layer the number of axes is unknown.
        return (
            np.array_equal(self.points, other.points)
            and np.array_equal(self.signs, other.signs)
            and np.array_equal(self.numbers, other.numbers)
        )

    def has_same_shapes(self, other: PromptState) -> bool:
        """Say whether the shapes are the same in another state."""
        same_count = len(self.shapes) == len(other.shapes)
        return same_count and all(a.is_like(b) for a, b in zip(self.shapes, other.shapes, strict=True))

    def has_any_of(self, number: int) -> bool:
        """Say whether there are prompts of a draft."""
        return bool((self.numbers == number).any()) or any(shape.number == number for shape in self.shapes)

    def of(self, number: int) -> PromptState:
        """Return the prompts of one draft."""
        return self._where(self.numbers == number, [shape for shape in self.shapes if shape.number == number])

    def without(self, number: int) -> PromptState:
        """Return the prompts of all other drafts."""
        return self._where(self.numbers != number, [shape for shape in self.shapes if shape.number != number])

    def _where(self, chosen: NDArray[np.bool_], shapes: list[DrawnShape]) -> PromptState:
        return PromptState(self.points[chosen], self.signs[chosen], self.numbers[chosen], tuple(shapes))
