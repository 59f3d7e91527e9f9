"""PlaneStack: parallel planes of an image that follow each other along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from napari_sam.arguments import shown, whole
from napari_sam.core.geometry import Plane
from napari_sam.errors import PromptError


@dataclass(frozen=True, slots=True)
class PlaneStack:
    """Parallel planes that follow each other along one axis.

    Parameters
    ----------
    plane
        Any of the planes.
    axis
        The array axis along which they follow each other.
    first, last
        Position of the first and of the last plane along it, both included.
    """

    plane: Plane
    axis: int
    first: int
    last: int

    @classmethod
    def of(cls, shape: Sequence[int], plane: Plane, axis: int, planes: Sequence[int] | None = None) -> PlaneStack:
        """Return the planes of an image of `shape` along one of its axes.

        Parameters
        ----------
        shape
            The image's shape without a channel axis, in pixels.
        plane
            A plane of the stack.
        axis
            An axis that is not an axis of the plane.
        planes
            Positions (first, last) along it, both included; negative ones count from the end. By default all.

        Raises
        ------
        PromptError
            The axis is one of the plane's own, or there are no such positions.
        """
        length = shape[axis]
        if axis in plane.axes:
            raise PromptError(
                f"Axis {axis} lies in the planes of the objects: give the axis on which they follow each other."
            )
        first, last = (0, length - 1) if planes is None else _checked(planes, length)
        return cls(plane, axis, first, last)

    def __len__(self) -> int:
        return self.last - self.first + 1

    def at(self, position: int) -> Plane:
        """Return the plane at a position along the axis."""
        index = list(self.plane.index)
        index[self.axis] = position
        return replace(self.plane, index=tuple(index))

    def position_of(self, plane: Plane) -> int | None:
        """Return the position of a plane along the axis, or None where it does not belong to the stack."""
        at = plane.index[self.axis]
        return at if plane == self.at(at) else None


def _checked(planes: Any, length: int) -> tuple[int, int]:
    advice = f"give (first, last) from 0 to {length - 1}"
    try:
        first, last = planes
    except (TypeError, ValueError) as error:
        raise PromptError(f"The planes to go through cannot be {shown(planes)}: {advice}.") from error
    first, last = (whole(at, "A plane to go through", advice, least=-length, most=length - 1) for at in (first, last))
    first, last = (at + length if at < 0 else at for at in (first, last))
    if first > last:
        raise PromptError(f"The planes to go through end before they begin ({first} to {last}): {advice}.")
    return first, last
