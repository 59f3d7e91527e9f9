"""Review: which plane of a followed object to look at next, so that its correction gains the most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# By how much the logarithm of the confidence falls from plane to plane behind a known one.
LEAST_LOSS, USUAL_LOSS, MOST_LOSS = 0.01, 0.04, 0.3
# An object that ends doubtfully may go on: by this share of its size from plane to plane, ...
GOES_ON = 0.93
# ... which is the mean of so many planes at that end, since the last mask is often too small.
AT_END = 3
LEAST_CONFIDENCE = 0.02
# Planes farther from a corrected one do not count, so that long objects take no longer.
REACH = 256


@dataclass(frozen=True, slots=True)
class ReviewedPlane:
    """An object in one plane, as far as the choice of a plane needs it.

    Parameters
    ----------
    area
        Number of pixels; 0 where it was accepted that the object is not there.
    confidence
        Estimate of the mask's IoU, 0 to 1; NaN where there is none.
    is_known
        Whether the plane was accepted.
    """

    area: int
    confidence: float
    is_known: bool


def next_plane(planes: Mapping[int, ReviewedPlane], first: int, last: int) -> int | None:
    """Return the plane whose correction is expected to gain the most; None where all are known. See `expected_gains`.

    Of equal ones it is the first.
    """
    gains = expected_gains(planes, first, last)
    return max(gains, key=lambda at: (gains[at], -at), default=None)


def expected_gains(planes: Mapping[int, ReviewedPlane], first: int, last: int) -> dict[int, float]:
    """Return how many wrong pixels a correction of each followed plane is expected to put right, by position.

    Planes up to the next known ones are followed again from a corrected plane, the less surely the farther they are;
    those that are less certain than it was stay so by as much. So a plane amid many doubtful ones comes before a worse
    one at their end. Where the object ends doubtfully it may go on, and that counts for the planes at its end.

    Parameters
    ----------
    planes
        The object in the planes where it has a mask, or where it was accepted that it is not there, by position.
    first, last
        The planes that it is followed through.
    """
    places = [at for at in sorted(planes) if first <= at <= last]
    known = [at for at in places if planes[at].is_known]
    followed = [at for at in places if not planes[at].is_known]
    if not followed:
        return {}
    areas, wrong, confidence = _expected_errors(planes, places, first, last)
    by_distance = np.exp(-_loss(planes, followed, known) * np.arange(REACH))
    gains = {}
    for at in followed:
        low = max([at - REACH + 1, first, *(other + 1 for other in known if other < at)])
        high = min([at + REACH - 1, last, *(other - 1 for other in known if other > at)])
        part = slice(low - first, high + 1 - first)
        after = np.minimum(
            by_distance[np.abs(np.arange(low, high + 1) - at)], confidence[part] / confidence[at - first]
        )
        gains[at] = float((wrong[part] - areas[part] * _wrong_share(after)).clip(0).sum())
    return gains


def _expected_errors(
    planes: Mapping[int, ReviewedPlane], places: Sequence[int], first: int, last: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the pixels of the object that are expected in each plane, the wrong ones, and the confidence.

    Where there is no mask, the confidence is 1: it limits nothing.
    """
    areas, wrong, confidence = (np.full(last - first + 1, value) for value in (0.0, 0.0, 1.0))
    at_places = np.array(places) - first
    areas[at_places] = [planes[at].area for at in places]
    confidence[at_places] = [_confidence(planes[at]) for at in places]
    wrong[at_places] = areas[at_places] * _wrong_share(confidence[at_places])
    for end, others, beyond in (
        (places[0], places[:AT_END], slice(0, places[0] - first)),
        (places[-1], places[-AT_END:], slice(places[-1] + 1 - first, None)),
    ):
        if planes[end].area:
            missed = (1 - _confidence(planes[end])) * float(np.mean([planes[at].area for at in others]))
            distances = np.abs(np.arange(first, last + 1)[beyond] - end)
            areas[beyond] = wrong[beyond] = missed * GOES_ON**distances
    return areas, wrong, confidence


def _loss(planes: Mapping[int, ReviewedPlane], followed: Sequence[int], known: Sequence[int]) -> float:
    """Return how fast confidence falls behind known planes, as a logarithm by plane."""
    if not known:
        return USUAL_LOSS
    losses = [-math.log(_confidence(planes[at])) / min(abs(at - other) for other in known) for at in followed]
    return min(max(float(np.median(losses)), LEAST_LOSS), MOST_LOSS)


def _confidence(plane: ReviewedPlane) -> float:
    if plane.is_known:
        return 1.0
    return LEAST_CONFIDENCE if math.isnan(plane.confidence) else max(plane.confidence, LEAST_CONFIDENCE)


def _wrong_share(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the wrong pixels of masks by their IoUs, as shares of objects of the same size."""
    return np.asarray(2 * (1 - iou) / (1 + iou), np.float64)
