"""Objects to sample: volumes along each of their axes, and planes that are bent from 2-D images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.predictor import Predictor
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.errors import ImageError
from napari_sam.evaluation.datasets import LabelledImage, objects_of, read_labels
from napari_sam.models.fusion import NetworkFuser
from napari_sam.propagation.plane_stack import PlaneStack
from napari_sam.segmenter import Segmenter
from napari_sam.training.fusion.bending import bent_planes
from napari_sam.training.fusion.samples import Sample, SampledFollower, samples_of

# Objects in fewer planes, or of fewer pixels in the largest one, teach nothing.
LEAST_PLANES, LEAST_AREA = 4, 40
# Planes on each side of the first one, and planes that are made of a picture.
REACH, BENT_PLANES = 12, 4
# Longest side of the part of a picture that is bent, in pixels.
LONGEST = 400


@dataclass
class SampledObjects:
    """Draws objects from labelled images, and samples them.

    Parameters
    ----------
    predictor
        The model.
    fuser
        Follows the objects.
    share_taught
        Share of the objects whose follower goes on from the truth, with and without errors; the others go on from
        their own masks, and show the errors that a follower makes.
    seed
        Seed of all that is drawn.
    """

    predictor: Predictor
    fuser: NetworkFuser
    share_taught: float = 0.5
    seed: int = 0
    _rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def samples(self, image: LabelledImage, objects_per_axis: int) -> Iterator[Sample]:
        """Yield the samples of objects of one image: of a volume along each axis, of another one of bent planes.

        Raises
        ------
        ImageError
            The image or its labels cannot be read.
        """
        segmenter = Segmenter(image.image, model=self.predictor)
        labels = read_labels(image, segmenter.shape)
        if image.kind == "volume":
            for axis in range(3):
                yield from self._of_volume(
                    segmenter, np.moveaxis(labels, axis, 0), axis, image.subset, objects_per_axis
                )
        else:
            yield from self._of_picture(segmenter, objects_of(labels, image)[0], image.subset, objects_per_axis)

    def _of_volume(
        self, segmenter: Segmenter, labels: NDArray[Any], axis: int, subset: str, count: int
    ) -> Iterator[Sample]:
        rows, cols = (other for other in range(3) if other != axis)
        for label in self._rng.permutation(_long_objects(labels))[:count]:
            truth = labels == label
            middle = int(truth.sum((1, 2)).argmax())
            index = [0, 0, 0]
            index[axis] = middle
            reach = max(middle - REACH, 0), min(middle + REACH, len(truth) - 1)
            stack = PlaneStack.of(segmenter.shape, Plane((rows, cols), (index[0], index[1], index[2])), axis, reach)
            yield from self._followed(segmenter, stack, truth, subset)

    def _of_picture(self, segmenter: Segmenter, labels: NDArray[Any], subset: str, count: int) -> Iterator[Sample]:
        plane = segmenter.plane()
        values, areas = np.unique(labels, return_counts=True)
        for label in self._rng.permutation(values[(values != 0) & (areas >= LEAST_AREA)])[:count]:
            mask = labels == label
            part = _surroundings(mask)
            picture = _shown(segmenter.encoder, plane)[part]
            step = -(-max(picture.shape[:2]) // LONGEST)
            moved, truth = bent_planes(
                picture[::step, ::step], mask[part][::step, ::step], BENT_PLANES, self._rng, self._rng.uniform(0.3, 1.3)
            )
            if min(truth.shape[1:]) < 2 or not truth.any((1, 2)).all():
                continue
            bent = Segmenter(moved, model=self.predictor, rgb=True)
            yield from self._followed(bent, PlaneStack.of(bent.shape, bent.plane(0), 0), truth, subset)

    def _followed(
        self, segmenter: Segmenter, stack: PlaneStack, truth: NDArray[np.bool_], subset: str
    ) -> Iterator[Sample]:
        rng = self._rng if self._rng.random() < self.share_taught else None

        def make(direction: int) -> SampledFollower:
            return SampledFollower(segmenter.encoder, self.fuser, direction, stack, truth=truth, subset=subset, rng=rng)

        yield from samples_of(segmenter, stack, truth, make, self._rng)


def _long_objects(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the labels of objects that are worth following along the first axis."""
    values, areas = np.unique(labels, return_counts=True)
    likely = values[(values != 0) & (areas >= LEAST_AREA)]
    found = []
    for value in likely:
        by_plane = (labels == value).sum((1, 2))
        if np.count_nonzero(by_plane) >= LEAST_PLANES and by_plane.max() >= LEAST_AREA:
            found.append(value)
    return np.array(found, labels.dtype)


def _surroundings(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the part of a plane around an object that is three times as large."""
    edges = []
    sides = [np.flatnonzero(mask.any(1 - axis)) for axis in (0, 1)]
    extent = max(int(side[-1] - side[0]) + 1 for side in sides)
    for side, length in zip(sides, mask.shape, strict=True):
        edges.append(slice(max(int(side[0]) - extent - 20, 0), min(int(side[-1]) + extent + 21, length)))
    return edges[0], edges[1]


def _shown(encoder: TileEncoder, plane: Plane) -> NDArray[np.uint8]:
    """Return a plane as the model sees it, shape (rows, cols, 3)."""
    shape = plane.shape_in(encoder.volume.shape)
    if shape[0] * shape[1] > 2**26:
        raise ImageError(f"A picture of {shape[0]} x {shape[1]} pixels is too large to bend: cut it into parts.")
    return encoder.rendering(encoder.volume.read(plane, Box.of_shape(shape)))
