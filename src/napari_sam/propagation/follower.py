"""Follower: the protocol of all ways to follow objects from plane to plane in one direction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """What a follower finds of one object in one plane.

    Parameters
    ----------
    mask
        Its mask; empty where the object is not in the plane. Its `iou_prediction` is the confidence.
    confidence
        Estimate of the mask's IoU with the object, 0 to 1; of an empty mask, that the object is not there.
    """

    mask: Mask
    confidence: float


def last_passed(accepted: Iterable[int], at: int, direction: int) -> int:
    """Return the accepted position that was passed last on the way to a position; there must be one."""
    return max((there for there in accepted if (at - there) * direction > 0), key=lambda there: there * direction)


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """What a follower has found of an object in one plane.

    Parameters
    ----------
    at, plane
        The plane, and its position along the axis.
    found
        The answer.
    """

    at: int
    plane: Plane
    found: Followed


class Follower(Protocol):
    """Follows objects in one direction; a fresh one is made for each direction.

    Positions are whole numbers along the axis that is followed, whatever the order of the calls.
    """

    def remember(self, at: int, plane: Plane, masks: Mapping[int, Mask]) -> None:
        """Take the accepted masks of one plane, by label.

        All accepted planes are given before the first call of `follow`, those behind and those ahead.
        """
        ...

    def follow(self, at: int, plane: Plane, labels: Sequence[int]) -> dict[int, Followed]:
        """Return what the objects look like in a plane; called plane by plane in one direction.

        An object is asked for from the plane after its first accepted one (in this direction) on, and no longer
        once it has ended. Where it meets an accepted plane, that is not asked for, and following goes on from there.
        """
        ...


class ResumableFollower(Follower, Protocol):
    """A follower whose answers can be kept, and that goes on from kept ones."""

    @property
    def identity(self) -> str:
        """What its answers depend on besides the image and the accepted masks: its kind, model and direction."""
        ...

    def basis(self, label: int, at: int) -> Sequence[int]:
        """Return the positions of the accepted planes that the answer for an object at a position rests on."""
        ...

    def go_on(self, label: int, at: int, recent: Sequence[Sighting]) -> None:
        """Take what was found of an object in the planes before a position, as if this follower had found it."""
        ...

    def needed(self, label: int, sightings: Sequence[Sighting]) -> list[Sighting]:
        """Return those of earlier answers that `go_on` needs for the next plane.

        Parameters
        ----------
        label
            The object.
        sightings
            What was returned for the plane before, and the answer there; at least one, in the order of following.
        """
        ...
