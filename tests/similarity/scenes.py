"""Models whose features are known, and queries and proposals made of given values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.predictor import Embedding
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.similar import SimilarObjects
from napari_sam.similarity.descriptors import DescriptorLayout
from napari_sam.similarity.query import Query
from napari_sam.testing import BlobFinder, FakePredictor

GRAY = 4


class GivenFeatures(FakePredictor):
    """A model that sees the maps that it is given, whatever the tile."""

    def __init__(self, *maps: np.ndarray, side: int = 64) -> None:
        super().__init__()
        self.maps = [np.asarray(each, np.float32) for each in maps]
        self.feature_strides = [(len(each), side // each.shape[-1]) for each in self.maps]

    def features(self, embedding: Embedding) -> list[np.ndarray]:
        return self.maps


class SeeingFinder(BlobFinder):
    """A model that finds bright regions, and sees the mean color of each cell of 4 x 4 tile pixels."""

    digest = "fake-seeing/1"
    feature_strides = ((3, GRAY),)

    def features(self, embedding: Embedding) -> list[np.ndarray]:
        pixels = embedding.tensors[0][0].float().numpy() / 255
        cells = pixels.shape[-1] // GRAY
        return [pixels.reshape(3, cells, GRAY, cells, GRAY).mean((2, 4))]


class OtherFinder(SeeingFinder):
    """The same with other weights, as far as anybody knows."""

    name = "other-blobs"
    digest = "fake-seeing/2"


LAYOUT = DescriptorLayout.of(SeeingFinder())


def descriptors_of(colors: Sequence[float], size: float = 5.0) -> np.ndarray:
    """Return descriptors of objects that differ in their color alone."""
    values = np.zeros((len(colors), LAYOUT.width), np.float32)
    # The surroundings too: contrast speaks for an object, whatever its kind.
    for name in (f"inside {GRAY}", f"border {GRAY}", "inside color", "border color", "around color"):
        values[:, LAYOUT.slices[name]] = np.array(colors)[:, None]
    values[:, LAYOUT.slices["shape"]] = size, 0, 0, 1.8, 0.8
    return values.astype(np.float16)


def query_of(colors: Sequence[float], classes: Sequence[str] | None = None) -> Query:
    """Return a query with an example of each color."""
    parts = [
        Query.of_examples(SeeingFinder.digest, SeeingFinder.name, LAYOUT, descriptors_of([color]), name)
        for color, name in zip(colors, classes or [""] * len(colors), strict=True)
    ]
    return reduce(Query.joined, parts)


def proposals_of(colors: Sequence[float]) -> Proposals:
    """Return proposals in a row, which differ in their color alone."""
    masks = [Mask(Box(0, 40 * i, 32, 40 * i + 32), np.ones((32, 32), bool), 0.9, 0.9) for i in range(len(colors))]
    points = np.array([(16.0, 40 * i + 16.0) for i in range(len(colors))]).reshape(-1, 2)
    return Proposals.of(masks, points, 0, descriptors_of(colors))


def similar_to(query: Query, colors: Sequence[float]) -> SimilarObjects:
    """Return proposals of given colors, ranked by a query."""
    return SimilarObjects(Plane.of((32, max(40 * len(colors), 40))), proposals_of(colors), query)
