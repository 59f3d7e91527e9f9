"""SimilarObjects: the proposals of a plane, ranked by how like given examples they are."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Plane
from napari_sam.errors import ModelError, PromptError
from napari_sam.everything.agreement import quality_of
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import FilterOptions
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.suppression import ranks_by
from napari_sam.similarity.answers import learned_logits
from napari_sam.similarity.likeness import FITTED, GENERAL, Traits, comparison, distances, linear_logits, probability
from napari_sam.similarity.metric import KindMetric
from napari_sam.similarity.query import Query

# The least likeness of what is found without a wish of the user: best F1 on training images.
LIKENESS = 0.4
# Less likely ones are not worth a question.
LEAST_ASKED = 0.08
# Of two that overlap, one whose likeness is below this share of the other's goes, however well it is outlined.
UNLIKE = 0.6


class SimilarObjects(FoundObjects):
    """Proposals of a plane that are like examples.

    The scores are likenesses: how probably each proposal is well outlined and of the kind of the examples. They change
    with every answer. `select` takes a likeness of 0.4 and more by default; accepted proposals count whatever the
    filters say, and rejected ones never.

    Parameters
    ----------
    plane
        The plane.
    proposals
        All proposals, which the model of the query has described.
    query
        The examples, and answers about proposals of other planes or images.

    Raises
    ------
    ModelError
        The proposals have other descriptors than the query.
    """

    def __init__(self, plane: Plane, proposals: Proposals, query: Query) -> None:
        super().__init__(plane, proposals, FilterOptions(confidence=LIKENESS))
        width = proposals.descriptors.shape[1]
        if len(proposals) and width != query.layout.width:
            raise ModelError(
                f"The model {query.model_name} described the examples, and another one or none these proposals: search "
                "the plane again with that model."
            )
        self._query = query
        # The class of each answered proposal, and whether it is of it.
        self._answers: dict[int, tuple[str, bool]] = {}
        self._ranked: tuple[NDArray[np.float32], NDArray[np.intp]] | None = None
        # Scores, and the ranks by them, which are asked for several times after each answer.
        self._ranks_of: tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]] | None = None

    @classmethod
    def of(cls, found: FoundObjects, query: Query) -> SimilarObjects:
        """Rank what everything mode found; nothing is encoded. Answers that `found` has are left out."""
        similar = cls(found.plane, found.proposals, query)
        similar.__dict__.update(found.remembered(FoundObjects))  # Costly to find, and the same.
        if isinstance(found, SimilarObjects) and found._query is query:
            similar.__dict__.update(found.remembered(SimilarObjects))
            similar._ranked = None if found._answers else found._ranked
            similar._ranks_of = found._ranks_of
        return similar

    def copied(self) -> SimilarObjects:
        """Return the same with the same answers, to which others can be added in another thread."""
        similar = copy.copy(self)
        similar._answers = dict(self._answers)
        return similar

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the kinds; a single kind may be unnamed ("")."""
        return tuple(dict.fromkeys([*self._query.classes, *(name for name, _ in self._answers.values())]))

    @property
    def scores(self) -> NDArray[np.float32]:
        """Shape (n,), float32: the likeness of each proposal, 0 to 1; 1 for accepted and 0 for rejected ones."""
        return self._ranking[0]

    @property
    def kinds(self) -> NDArray[np.intp]:
        """Shape (n,): the number of the most likely class of each proposal, in `classes`."""
        return self._ranking[1]

    @property
    def answers(self) -> dict[int, bool]:
        """Whether each answered proposal was accepted, by its number, in the order of the answers."""
        return {i: is_accepted for i, (_, is_accepted) in self._answers.items()}

    def class_of(self, i: int) -> str | None:
        """Return the name of the most likely class of a proposal; None for an unnamed one."""
        return self.classes[self.kinds[i]] or None

    def answer(self, i: int, is_accepted: bool, class_name: str | None = None) -> None:
        """Accept or reject a proposal; all others are ranked anew.

        Parameters
        ----------
        i
            Number of the proposal.
        is_accepted
            Whether it is one of the objects that are looked for, and well outlined.
        class_name
            Its class, for an accepted one; by default the most likely one.

        Raises
        ------
        PromptError
            There is no proposal of this number.
        """
        if not 0 <= i < len(self):
            raise PromptError(f"There is no proposal {i}: give a number from 0 to {len(self) - 1}.")
        name = self.classes[self.kinds[i]] if class_name is None else class_name
        self._answers.pop(i, None)
        self._answers[i] = name, bool(is_accepted)
        self._ranked = None

    def withdraw(self, i: int) -> None:
        """Take the answer about a proposal back, if there is one."""
        if self._answers.pop(i, None) is not None:
            self._ranked = None

    def teach(self, query: Query) -> None:
        """Rank by a query that has more answers, such as those about other planes; those about this one stay."""
        self._query, self._ranked = query, None

    def doubtful(self, options: FilterOptions | None = None) -> NDArray[np.intp]:
        """Return the proposals to ask about, those first whose answers say most: the least certain ones.

        Parameters
        ----------
        options
            The filters; their confidence is the least likeness that counts. Likenesses near it are the least certain.
        """
        options = options or self.filters
        asked = self.select(replace(options, confidence=min(LEAST_ASKED, options.confidence)))
        asked = asked[~np.isin(asked, list(self._answers))]
        doubt = np.abs(self.scores[asked] - options.confidence)
        return asked[np.argsort(doubt, kind="stable")]

    def learned(self, query: Query | None = None) -> Query:
        """Return the query with the answers, to save it or to search another plane or image by it.

        Parameters
        ----------
        query
            The query that the answers are added to; that of these objects by default.
        """
        query = self._query if query is None else query
        if not self._answers:
            return query
        numbers = np.array(list(self._answers), np.intp)
        return query.with_objects(
            self.proposals.descriptors[numbers],
            self._quality[numbers],
            [name for name, _ in self._answers.values()],
            is_accepted=[is_accepted for _, is_accepted in self._answers.values()],
        )

    def _passing(self, options: FilterOptions) -> NDArray[np.bool_]:
        passes = super()._passing(options)
        for i, is_accepted in self.answers.items():
            passes[i] = is_accepted
        return passes

    @property
    def _ranks(self) -> NDArray[np.intp]:
        """Rank of each proposal by likeness: unlike in everything mode it changes."""
        return self._ranks_now[0]

    @property
    def _precedence(self) -> NDArray[np.intp]:
        return self._ranks_now[1]

    @property
    def _ranks_now(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Ranks by likeness, and among those that overlap."""
        scores = self.scores
        if self._ranks_of is None or self._ranks_of[0] is not scores:
            self._ranks_of = scores, ranks_by(self.boxes, -scores), self._ranks_among_overlapping(scores)
        return self._ranks_of[1:]

    def _ranks_among_overlapping(self, scores: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return ranks by confidence, but accepted ones first, and last those that are much less like than a rival.

        All outlines of one object are about as like the examples; which is the right one, the confidence knows better:
        F1 of H&E nuclei was 0.02 higher than by likeness on training images.
        """
        pairs = self._overlaps
        rivals = self._shares > self.filters.max_overlap
        first, second = pairs.first[rivals], pairs.second[rivals]
        is_unlike = np.zeros(len(scores), bool)
        for one, other in ((first, second), (second, first)):
            is_unlike[one[scores[one] < UNLIKE * scores[other]]] = True
        is_accepted = np.zeros(len(scores), bool)
        is_accepted[[i for i, accepted in self.answers.items() if accepted]] = True
        return ranks_by(self.boxes, -self.proposals.scores, is_unlike, ~is_accepted)

    @property
    def _ranking(self) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """The likeness and the most likely class of each proposal."""
        if self._ranked is None:
            self._ranked = self._rank()
        return self._ranked

    def _rank(self) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        if not len(self):
            return np.zeros(0, np.float32), np.zeros(0, np.intp)
        query = self.learned()
        objects = self._traits(query)
        kinds, looks = self._metrics
        known = Traits(
            kinds(query.descriptors),
            looks(query.descriptors),
            query.descriptors[:, query.layout.slices["shape"]].astype(np.float32),
            query.quality,
        )
        logits = np.stack([self._logits(query, c, objects, known) for c in range(len(query.classes))])
        numbers = logits.argmax(axis=0)
        if len(query.classes) > 1:
            # Which class it is shows in the looks; how sure it is of any shows in kind, size and outline.
            numbers = np.argmax(logits - self._look_distances(query, objects, known), axis=0)
        likeness = probability(logits.max(axis=0)).astype(np.float32)
        for i, (name, is_accepted) in self._answers.items():
            likeness[i] = is_accepted
            if is_accepted:
                numbers[i] = query.classes.index(name)
        return likeness, numbers

    def _logits(self, query: Query, number: int, objects: Traits, known: Traits) -> NDArray[np.float64]:
        """Return the logits of being of a class, by its examples and all answers."""
        of_class = query.kinds == number
        examples = of_class & query.is_accepted & ~query.is_answer
        if not examples.any():
            # A class that is known by answers only.
            examples = of_class & query.is_accepted
        if not examples.any():
            return np.full(len(objects), -np.inf)
        chosen = known.taken(examples)
        compared, usual = comparison(objects, chosen)
        # An accepted object of another class is none of this one. A rejected one is none of any.
        counts = query.is_answer | (query.is_accepted & ~of_class)
        told = known.taken(counts)
        model = FITTED if self._metrics[0].is_fitted else GENERAL
        return learned_logits(
            linear_logits(model, objects, compared),
            objects,
            told,
            linear_logits(model, told, comparison(told, chosen, usual)[0]),
            (query.is_accepted & of_class)[counts],
        )

    def _look_distances(self, query: Query, objects: Traits, known: Traits) -> NDArray[np.float64]:
        """Return how different each object looks from the nearest accepted one of each class, shape (classes, n)."""
        out = np.zeros((len(query.classes), len(objects)))
        for number in range(len(query.classes)):
            members = (query.kinds == number) & query.is_accepted
            if members.any():
                out[number] = distances(objects.looks, known.taken(members).looks).min(axis=1)
        return out

    def _traits(self, query: Query) -> Traits:
        shapes = self.proposals.descriptors[:, query.layout.slices["shape"]].astype(np.float32)
        kinds, looks = self._points
        return Traits(kinds, looks, shapes, self._quality)

    @cached_property
    def _metrics(self) -> tuple[KindMetric, KindMetric]:
        """The metric of the model, and that of the objects of the plane."""
        layout, bias = self._query.layout, self._query.bias
        looks = KindMetric.of_objects(
            layout, np.concatenate([self.proposals.descriptors, self._query.descriptors]), bias
        )
        return KindMetric.fitted(layout) or looks, looks

    @cached_property
    def _points(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        kinds, looks = (metric(self.proposals.descriptors) for metric in self._metrics)
        return kinds, looks

    @cached_property
    def _quality(self) -> NDArray[np.float32]:
        return quality_of(self.proposals, self._query.layout, self._overlaps)
