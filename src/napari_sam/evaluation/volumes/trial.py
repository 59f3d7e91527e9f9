"""Evaluate objects in volumes: prompted in one plane, followed through the others, and corrected where it pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, mask_of
from napari_sam.evaluation.clicks import most_interior, next_click
from napari_sam.evaluation.datasets import LabelledImage, TargetObject, drawn_targets, read_labels
from napari_sam.evaluation.metrics import iou_of
from napari_sam.evaluation.volumes.baselines import BoxFollower, interpolated_masks
from napari_sam.evaluation.volumes.metrics import PLANES, VolumeEvaluation, VolumeResult, plane_iou, volume_iou
from napari_sam.propagation.follower import Followed, Follower
from napari_sam.propagation.plane_stack import PlaneStack
from napari_sam.propagation.propagation import Propagation
from napari_sam.propagation.review import ReviewedPlane, next_plane
from napari_sam.segmenter import Segmenter

# Objects in fewer planes have nothing to follow.
LEAST_PLANES = 4
# A corrected plane is good enough, and accepted, from this IoU on, or after so many clicks.
GOOD_IOU = 0.9
MOST_CLICKS = 5

FollowerOf = Callable[[int], Follower]


def evaluate_volumes(
    images: list[LabelledImage],
    segmenter_of: Callable[[Path], Segmenter],
    *,
    model: str,
    objects_per_subset: int = 12,
    seed: int = 0,
    first: str = "box",
) -> Iterator[tuple[str, VolumeEvaluation]]:
    """Prompt sampled objects in their largest plane, follow them through the others, and correct plane after plane.

    Parameters
    ----------
    images
        The manifest; its volumes are used. Those with an axis t count as volumes along time.
    segmenter_of
        Returns a segmenter of an image file.
    model
        Name for the table.
    objects_per_subset, seed
        As in `evaluate`.
    first
        What prompts the first plane: "box" or "click". It is then corrected as the others: by clicks until the IoU is
        `GOOD_IOU`, at most `MOST_CLICKS`.

    Yields
    ------
    subset : str
        Subset of the latest object.
    evaluation : VolumeEvaluation
        All results so far.
    """
    segmenter: Segmenter
    opened: dict[Path, NDArray[Any]] = {}

    def shape_of(image: LabelledImage) -> tuple[int, ...]:
        nonlocal segmenter
        segmenter = segmenter_of(image.image)
        opened.clear()
        return segmenter.shape

    evaluation = VolumeEvaluation(model)
    volumes = [image for image in images if image.kind == "volume"]
    for image, target in drawn_targets(volumes, shape_of, objects_per_subset, seed):
        if image.mask not in opened:
            opened[image.mask] = read_labels(image, segmenter.shape)
        labels = opened[image.mask]
        value = labels[target.plane.index[0]][target.truth].flat[0]
        truth = labels == value
        if int(truth.any((1, 2)).sum()) < LEAST_PLANES:
            continue
        evaluation.results[image.subset].append(_Trial(segmenter, truth, target, first).result())
        yield image.subset, evaluation


@dataclass
class _Trial:
    """The trial of one object.

    Parameters
    ----------
    segmenter
        Of the volume.
    truth
        The object, shape (planes, rows, cols).
    target
        Its largest plane.
    first
        What prompts it there.
    """

    segmenter: Segmenter
    truth: NDArray[np.bool_]
    target: TargetObject
    first: str
    _found: VolumeResult = field(default_factory=VolumeResult, init=False)
    _corrected: dict[int, Mask] = field(default_factory=dict, init=False)

    def result(self) -> VolumeResult:
        """Return what was measured."""
        stack = PlaneStack.of(self.segmenter.shape, self.target.plane, 0)
        start = self.target.plane.index[0]
        accepted = {start: self._prompted(start)}
        if accepted[start].area == 0:
            accepted[start] = mask_of(self.truth[start])
        follower, found = partial(self.segmenter.follower, stack), self._found
        first = self._follow(stack, accepted, follower, measured=True)
        self._measure_planes(first, start)
        named = self._corrections(stack, accepted, follower, first, found.volume_iou, by_truth=False)
        self._corrections(stack, accepted, follower, first, found.volume_iou_worst, by_truth=True)
        boxes = lambda direction: BoxFollower(self.segmenter.decoder, direction)  # noqa: E731
        self._corrections(
            stack, accepted, boxes, self._follow(stack, accepted, boxes), found.box_baseline, by_truth=False
        )
        for count in PLANES:
            if count in found.volume_iou:
                known = dict(list(named.items())[:count])
                found.interpolation[count] = volume_iou({**interpolated_masks(known), **known}, self.truth)
        return found

    def _corrections(
        self,
        stack: PlaneStack,
        accepted: Mapping[int, Mask],
        follower: FollowerOf,
        followed: dict[int, Followed],
        scores: dict[int, float],
        *,
        by_truth: bool,
    ) -> dict[int, Mask]:
        """Correct one plane after the other; fill the IoU by number of corrected planes, and return their masks."""
        known = dict(accepted)
        for count in range(1, max(PLANES) + 1):
            if count > 1:
                worst = self._worst(followed, known, by_truth=by_truth)
                if worst is not None:
                    known[worst] = self._corrected_plane(worst, followed.get(worst))
                    followed = self._follow(stack, known, follower)
            if count in PLANES:
                masks = {at: one.mask for at, one in followed.items()}
                scores[count] = volume_iou({**masks, **known}, self.truth)
        return known

    def _follow(
        self, stack: PlaneStack, accepted: Mapping[int, Mask], follower: FollowerOf, *, measured: bool = False
    ) -> dict[int, Followed]:
        """Return what is found in the planes that are not accepted."""
        found: dict[int, Followed] = {}
        start = perf_counter()
        with _encoding(self.segmenter) as encoding:
            for step in Propagation(stack, {1: accepted}, follower).run():
                if step.active:
                    self._found.planes += measured
                for one in step.followed.values():
                    found[step.at] = one
        if measured:
            self._found.seconds += perf_counter() - start - encoding.seconds
            self._found.encoded += encoding.tiles
        return found

    def _worst(self, followed: Mapping[int, Followed], known: Mapping[int, Mask], *, by_truth: bool) -> int | None:
        """Return the plane to correct next: the one that the tool names, or the one of the most wrong pixels."""
        if by_truth:
            wrong = {at: self._wrong_pixels(at, followed.get(at)) for at in range(len(self.truth)) if at not in known}
            most = max(wrong, key=lambda at: wrong[at], default=None)
            return most if most is not None and wrong[most] else None
        planes = {at: ReviewedPlane(one.mask.area, one.confidence, False) for at, one in followed.items()}
        planes |= {at: ReviewedPlane(mask.area, 1.0, True) for at, mask in known.items()}
        return next_plane(planes, 0, len(self.truth) - 1)

    def _wrong_pixels(self, at: int, followed: Followed | None) -> int:
        answer = np.zeros_like(self.truth[at]) if followed is None else followed.mask.to_array(self.truth[at].shape)
        return int((answer ^ self.truth[at]).sum())

    def _prompted(self, at: int) -> Mask:
        """Return the mask of the first plane, prompted and corrected."""
        if self.first == "click":
            return self._clicked(at, None)
        box = self._target(at).box
        return self._clicked(at, self.segmenter.segment(box=box, plane=self.target.plane).best, box)

    def _corrected_plane(self, at: int, followed: Followed | None) -> Mask:
        """Return the mask of a plane as a user would leave it: empty where the object is not."""
        if at not in self._corrected:
            if not self.truth[at].any():
                return Mask(Box(0, 0, 0, 0), np.zeros((0, 0), bool))
            mask = self._clicked(at, None if followed is None else followed.mask)
            self._corrected[at] = mask if mask.area else mask_of(self.truth[at])
        return self._corrected[at]

    def _clicked(self, at: int, mask: Mask | None, box: Box | None = None) -> Mask:
        """Correct a mask by clicks into the larger error until it is good enough."""
        target, plane = self._target(at), self._plane(at)
        points: list[tuple[int, int]] = []
        signs: list[int] = []
        answer, best, best_iou = mask, mask, -1.0
        for _ in range(MOST_CLICKS + 1):
            if answer is not None:
                iou = iou_of(answer.to_array(target.truth.shape), target)
                if iou > best_iou:
                    best, best_iou = answer, iou
                if iou >= GOOD_IOU or len(points) == MOST_CLICKS:
                    break
                point, sign = next_click(answer.to_array(target.truth.shape), target)
            else:
                point, sign = most_interior(target.truth), 1
            points.append(point)
            signs.append(sign)
            answer = self.segmenter.segment(
                points=points, labels=signs, box=box, mask=mask if box is None else None, plane=plane
            ).best
        assert best is not None
        return best

    def _target(self, at: int) -> TargetObject:
        return TargetObject(self._plane(at), self.truth[at], None)

    def _plane(self, at: int) -> Plane:
        return self.segmenter.plane(at)

    def _measure_planes(self, followed: Mapping[int, Followed], start: int) -> None:
        """Measure single planes and ends, from one accepted plane."""
        present = np.flatnonzero(self.truth.any((1, 2)))
        for at in sorted({*present.tolist(), *followed} - {start}):
            one = followed.get(at)
            confidence = float("nan") if one is None else one.confidence
            iou = plane_iou(None if one is None else one.mask, self.truth[at])
            if self.truth[at].any():
                self._found.plane_iou.append((at - start, iou, confidence))
            elif one is not None:
                self._found.plane_iou.append((at - start, 0.0, confidence))
        places = [*followed, start]
        self._found.ends_missed = (
            abs(min(places) - int(present[0])), abs(max(places) - int(present[-1]))
        )  # fmt: skip


@dataclass
class _Encoding:
    """Duration and number of the tiles that were encoded."""

    seconds: float = 0.0
    tiles: int = 0


@contextmanager
def _encoding(segmenter: Segmenter) -> Iterator[_Encoding]:
    """Measure what a block encodes."""
    counted, predictor = _Encoding(), segmenter.predictor
    encode = predictor.encode

    def timed(tiles: NDArray[np.uint8]) -> Any:
        start = perf_counter()
        answer = encode(tiles)
        counted.seconds += perf_counter() - start
        counted.tiles += len(tiles)
        return answer

    predictor.encode = timed  # type: ignore[method-assign]
    try:
        yield counted
    finally:
        predictor.encode = encode  # type: ignore[method-assign]
