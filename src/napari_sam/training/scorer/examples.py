"""Examples for the candidate scorer: what the tiles of one object answer to the same prompts, and how right that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.candidates import Candidates
from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask
from napari_sam.core.predictor import Decoded
from napari_sam.core.prompts import Prompts
from napari_sam.core.tiles import Tile
from napari_sam.evaluation.clicks import most_interior, next_click
from napari_sam.evaluation.datasets import LabelledImage, TargetObject, drawn_targets
from napari_sam.evaluation.metrics import iou_of
from napari_sam.models.compact.candidate_scorer import comparison_features
from napari_sam.segmenter import Segmenter

# Clicks on each object; more teach little, since the masks of most objects are good by then.
CLICKS = 6
# Besides all tiles of an object, so many random choices of them: a preview knows only those that are encoded.
CHOICES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """The answers of several tiles to the same prompts.

    Parameters
    ----------
    described, compared
        The scorer's inputs, shapes (tiles, masks, DECODER_FEATURES), float16, and (tiles, masks, COMPARED_FEATURES),
        float32.
    ious
        Shape (tiles, masks), float32: IoU of each mask with the object.
    subset
        Subset of the object's image.
    """

    described: NDArray[np.float16]
    compared: NDArray[np.float32]
    ious: NDArray[np.float32]
    subset: str


def drawn_examples(
    images: list[LabelledImage], segmenter_of: Callable[[Path], Segmenter], objects_per_subset: int, seed: int
) -> Iterator[Example]:
    """Yield the examples of objects that are drawn from every subset: clicks in and off the middle, and boxes."""
    segmenter: Segmenter

    def shape_of(image: LabelledImage) -> tuple[int, ...]:
        nonlocal segmenter
        segmenter = segmenter_of(image.image)
        return segmenter.shape

    rng = np.random.default_rng(seed)
    for image, target in drawn_targets(images, shape_of, objects_per_subset, seed):
        for answers, ious in _prompted(segmenter, target, rng):
            count = len(answers)
            choices = [np.arange(count)] + [np.flatnonzero(rng.random(count) < 0.5) for _ in range(CHOICES)]
            for chosen in choices:
                if len(chosen):
                    yield _example([answers[i] for i in chosen], ious[chosen], image.subset)


def _example(answers: list[tuple[Tile, Decoded]], ious: NDArray[np.float32], subset: str) -> Example:
    described = np.stack([decoded.features for _, decoded in answers if decoded.features is not None])
    return Example(described.astype(np.float16), comparison_features(answers), ious, subset)


Answered = tuple[list[tuple[Tile, Decoded]], NDArray[np.float32]]


def _prompted(segmenter: Segmenter, target: TargetObject, rng: np.random.Generator) -> Iterator[Answered]:
    """Yield what all tiles answer to each prompt of an object, and the IoUs of the masks."""
    plane, shape, truth = segmenter.plane(target.plane), target.truth.shape, target.truth
    anywhere = np.argwhere(truth)
    point = anywhere[rng.integers(len(anywhere))].tolist()
    yield _decoded(segmenter, plane, Prompts.of([point], shape=shape), None, target)[0]
    yield _decoded(segmenter, plane, Prompts.of(box=target.box, shape=shape), None, target)[0]
    points, signs, previous = [most_interior(truth)], [1], None
    for _ in range(CLICKS):
        answered, previous = _decoded(segmenter, plane, Prompts.of(points, signs, shape=shape), previous, target)
        yield answered
        point, sign = next_click(previous.to_array(shape), target)
        points.append(point)
        signs.append(sign)


def _decoded(
    segmenter: Segmenter, plane: Plane, prompts: Prompts, previous: Mask | None, target: TargetObject
) -> tuple[Answered, Mask]:
    """Decode prompts on all tiles that a search begins with; also return the mask with the highest predicted IoU."""
    search = segmenter.decoder.search(plane, prompts, previous)
    found: list[tuple[Tile, Candidates]] = [
        (tile, segmenter.decoder.decode(plane, tile, prompts, previous)) for tile in search.first_tiles
    ]
    ious = [[iou_of(mask.to_array(target.truth.shape), target) for mask in candidates] for _, candidates in found]
    answers = [(tile, candidates.decoded) for tile, candidates in found if candidates.decoded is not None]
    best = max((candidates.best for _, candidates in found), key=lambda mask: mask.iou_prediction)
    return (answers, np.array(ious, np.float32)), best
