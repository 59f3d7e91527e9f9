"""Evaluate a search by example: one object of a plane is given, and the others are found, with and without answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from napari_sam.core.geometry import Plane
from napari_sam.evaluation.datasets import MIN_AREA, LabelledImage, labelled_plane
from napari_sam.evaluation.finding.metrics import ANSWERS, FindingEvaluation, FindingResult
from napari_sam.evaluation.finding.nearest_color import nearest_color
from napari_sam.evaluation.finding.plane_search import PlaneSearch
from napari_sam.evaluation.finding.plane_truth import PlaneTruth, large_objects
from napari_sam.evaluation.instances import InstanceMatch
from napari_sam.everything.similar import SimilarObjects
from napari_sam.segmenter import Segmenter
from napari_sam.similarity.query import Query

# Planes with fewer objects have too few to find.
LEAST_OBJECTS = 3
EXAMPLES = 10


def evaluate_finding(
    images: list[LabelledImage],
    segmenter_of: Callable[[Path], Segmenter],
    *,
    model: str,
    examples_per_image: int = EXAMPLES,
    seed: int = 0,
) -> Iterator[tuple[str, FindingEvaluation]]:
    """Find the objects of planes by one of them, and once more by one of another image of the data set.

    Parameters
    ----------
    images
        The manifest, or what `drawn_images` draws from it, subset after subset. Those of the kind "semantic" have no
        objects of one kind and are left out, and so are planes with fewer than 3 objects.
    segmenter_of
        Returns a segmenter of an image file.
    model
        Name for the table.
    examples_per_image
        Number of objects of each plane that are the example in turn.
    seed
        Fixes which ones.

    Yields
    ------
    subset : str
        Subset of the latest image.
    evaluation : FindingEvaluation
        All results so far.
    """
    evaluation = FindingEvaluation(model)
    single = [image for image in images if image.kind != "semantic"]
    for subset, of_subset in groupby(single, lambda image: image.subset):
        opened = (_Trial.of(image, segmenter_of(image.image), examples_per_image, seed) for image in of_subset)
        results = evaluation.results[subset]
        for trial, carried in _with_the_next(trial for trial in opened if trial is not None):
            results.images += 1
            results.examples += trial.results(carried)
            yield subset, evaluation


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """A plane and its examples.

    Parameters
    ----------
    segmenter, plane, truth
        The plane, and its objects.
    chosen, queries
        The labels of the examples, and a query of each of them.
    """

    segmenter: Segmenter
    plane: Plane
    truth: PlaneTruth
    chosen: Sequence[int]
    queries: Sequence[Query]

    @classmethod
    def of(cls, image: LabelledImage, segmenter: Segmenter, count: int, seed: int) -> _Trial | None:
        """Draw and describe the examples of an image; None for one with too few objects."""
        plane, objects, ignored = labelled_plane(image, segmenter.shape)
        labels = large_objects(objects, MIN_AREA)
        if len(labels) < LEAST_OBJECTS:
            return None
        # By the name: the same ones, whatever other images are measured.
        chosen = random.Random(f"{seed}/{image.subset}/{image.image.name}").sample(labels, min(count, len(labels)))
        truth = PlaneTruth(objects, np.zeros(objects.shape, bool) if ignored is None else ignored, image.is_partial)
        queries = segmenter.examples_apart([truth.object(label) for label in chosen], plane=plane)
        return cls(segmenter, plane, truth, chosen, queries)

    def results(self, carried: Sequence[Query]) -> list[FindingResult]:
        """Search by each example, and by as many of another image, if there are any."""
        search = PlaneSearch(self.segmenter, self.plane, [*self.queries, *carried])
        others: list[InstanceMatch | None] = [self._carried(search, query) for query in carried[: len(self.queries)]]
        others += [None] * (len(self.queries) - len(others))
        return [
            self._result(search, label, query, other)
            for label, query, other in zip(self.chosen, self.queries, others, strict=True)
        ]

    def _carried(self, search: PlaneSearch, query: Query) -> InstanceMatch:
        similar = search.similar(query)
        return self.truth.match(similar, similar.select())

    def _result(self, search: PlaneSearch, label: int, query: Query, other: InstanceMatch | None) -> FindingResult:
        rest = self.truth.without(label)
        near, nearest = nearest_color(search.proposed(query), query)
        return FindingResult(
            list(_after_answers(search.similar(query), rest)),
            rest.match(near, nearest),
            rest.match(search.everything, search.everything.select()),
            other,
        )


def _after_answers(similar: SimilarObjects, rest: PlaneTruth) -> Iterator[InstanceMatch]:
    """Yield the matches after each number of `ANSWERS`: the user says of the most doubtful proposal what is true."""
    for answers in range(max(ANSWERS) + 1):
        if answers in ANSWERS:
            yield rest.match(similar, similar.select())
        known = ((int(i), rest.answer(similar.mask(int(i)))) for i in similar.doubtful())
        asked, is_accepted = next(((i, answer) for i, answer in known if answer is not None), (None, None))
        if asked is not None and is_accepted is not None:
            similar.answer(asked, is_accepted)


def _with_the_next(trials: Iterator[_Trial]) -> Iterator[tuple[_Trial, Sequence[Query]]]:
    """Yield each plane with the examples of the next one, and the last with those of the first."""
    here = next(trials, None)
    if here is None:
        return
    # Of the first plane only these are kept: a data set may be larger than the memory.
    first, is_alone = here.queries, True
    for following in trials:
        yield here, following.queries
        here, is_alone = following, False
    yield here, () if is_alone else first
